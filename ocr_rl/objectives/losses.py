"""Losses: frozen values that are called with what was read off the model. Weights normalise, so every loss only sums.

    loss = PolicyGradient(epsilon=0.2, beta=0.06)
    total, sums = loss(model(batch), batch)

A loss returns the scalar to differentiate and sums to log: over tokens (divided by the step's tokens elsewhere), the
largest value where the name ends in `_max`, already weighted where it ends in `_mean`. The sums are scalars without a
gradient, left where they were computed: to read one here would have the host wait for the device amid a micro-batch.
Losses are values: they pickle (every rank gets them), print and compare by themselves.

Shapes: N tokens of a micro-batch, B its rows, P pairs; `row_N` maps tokens to rows. A micro-batch holds whole rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from ocr_rl.learn.rows import Batch

Sums = dict[str, "Tensor | float"]


class Scalars(NamedTuple):
    """What a head reads off the same hidden states: one number before each token, one at each row's last token."""

    value_N: Tensor  # in the state that token n is chosen in: the page and the tokens before it
    score_B: Tensor  # of the whole completion, at its own end (EOS, or where a sample was cut off)


class Read(NamedTuple):
    """What one pass through the model reads off its hidden states, for the N completion tokens of a batch."""

    logprob_N: Tensor  # of the target under what was really sampled from; nats, float32
    entropy_N: Tensor  # of that distribution; nats, float32, without gradient
    scalars: Scalars | None = None  # where a critic's head sits on the policy's own trunk


class Loss(Protocol):
    """`read` is a Read, or the Scalars of a network that is read by its head alone."""

    def __call__(self, read: Any, batch: Batch) -> tuple[Tensor, Sums]: ...


@dataclass(frozen=True, slots=True)
class NegativeLogLikelihood:
    """Each target's negative log-likelihood times its weight: supervised fine-tuning."""

    def __call__(self, read: Read, batch: Batch) -> tuple[Tensor, Sums]:
        loss = -(read.logprob_N * batch.weight_N).sum()
        return loss, {"nll": -read.logprob_N.detach().sum()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyGradient:
    """A surrogate of the expected advantage, less `beta` times the KL to the reference (arXiv 2402.03300, eq. 3).

    `surrogate` is a key of SURROGATES, `kl` of KL. `ratio` says of what the ratio to the old policy is taken (RATIOS):
    of each token (DeepSeek), of the whole response (METHODS), or its geometric mean over tokens (GSPO, arXiv
    2507.18071). `epsilon_high` is DAPO's clip-higher (arXiv 2503.14476).

    The truncated importance correction min(pi_old / pi_sampler, cap), without gradient, weighs each token (or each
    sample, by the geometric mean over its tokens) for the engine's own rounding; it differs from the paper, which has
    one engine. pi_old is the learner's as the updates of a rollout begin, so the same weight corrects for samples that
    are `stale`, of weights before these (decoupled PPO, Hilton et al. 2021, arXiv 2110.00641). Without it
    (`importance_level` "none") the ratio is taken to the sampler, so that the clip stops a token that has moved far
    enough since it was drawn, whoever moved it (PPO as it was, where the sampler is the old policy).

    With `weigh_kl` the KL counts pi / pi_sampler times, up to the same cap and without gradient. An estimate of it
    holds for tokens that pi draws: those that it has just unlearnt, and older weights still drew, count as many times
    too often otherwise, and their pull back to the reference with them (DeepSeek-V3.2, arXiv 2512.02556, eq. 7, whose
    weight has a gradient). The GRPO paper has no such weight.

    `importance_mask` leaves tokens (or samples) out of the surrogate whose weight lies outside of it, before the cap:
    the two-sided mask of IcePop (Zhao et al. 2025, ringtech.notion.site/icepop), which has it by token and knows no
    cap. The KL term keeps all tokens.
    """

    surrogate: str = "clip"
    ratio: str = "token"
    epsilon: float = 0.2
    epsilon_high: float | None = None  # None: epsilon
    delta: float | None = None
    beta: float = 0.0
    kl: str = "k3"
    importance_level: str = "token"
    importance_cap: float = 2.0
    importance_mask: tuple[float, float] | None = None
    stale: bool = False  # samples may be of older weights: what parts them from the learner is called drift, not gap
    weigh_kl: bool = False  # for several updates a rollout, and for stale samples

    @property
    def high(self) -> float:
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    def __call__(self, read: Read, batch: Batch) -> tuple[Tensor, Sums]:
        logprob_N, B = read.logprob_N, len(batch.rows)
        old_N = logprob_N.detach() if batch.old_N is None else batch.old_N  # None: no update since the rollout
        before_N = batch.sampler_N if self.importance_level == "none" and batch.sampler_N is not None else old_N
        ratio_N = RATIOS[self.ratio](logprob_N - before_N, batch.row_N, B).exp()
        surrogate_N, outside_N = SURROGATES[self.surrogate](self, ratio_N, logprob_N, batch.advantage_N)
        zero_N = surrogate_N.new_zeros(surrogate_N.shape)
        gap_N = zero_N if batch.sampler_N is None else old_N - batch.sampler_N
        importance_N = IMPORTANCE[self.importance_level](gap_N, batch.row_N, B).exp()
        kl_N = zero_N if batch.ref_N is None else KL[self.kl](logprob_N, batch.ref_N)
        kept_N, masked = self._kept(importance_N)
        kl_N = kl_N * self._drawn(logprob_N, batch)
        total = ((self.beta * kl_N - surrogate_N * kept_N) * batch.weight_N).sum()
        return total, {
            "kl": kl_N.detach().sum(),
            "clip_share": outside_N.sum(),
            ("drift" if self.stale else "gap"): gap_N.abs().sum(),
            ("drift_max" if self.stale else "gap_max"): gap_N.abs().max(),
            "importance": importance_N.sum(),
            "truncated_share": (importance_N > self.importance_cap).float().sum(),
            **masked,
        }

    def _drawn(self, logprob_N: Tensor, batch: Batch) -> Tensor | float:
        """How much more often these weights would have drawn each token than those that did, up to the cap."""
        if not self.weigh_kl or batch.sampler_N is None:
            return 1.0
        return (logprob_N.detach() - batch.sampler_N).exp().clamp(max=self.importance_cap)

    def _kept(self, importance_N: Tensor) -> tuple[Tensor, Sums]:
        """The importance weights that count, and how many tokens the mask leaves out."""
        kept_N = importance_N.clamp(max=self.importance_cap)
        if self.importance_mask is None:
            return kept_N, {}
        low, high = self.importance_mask
        outside_N = (importance_N < low) | (importance_N > high)
        return kept_N.masked_fill(outside_N, 0.0), {"masked_share": outside_N.float().sum()}


Surrogate = Callable[[PolicyGradient, "Tensor", "Tensor", "Tensor"], "tuple[Tensor, Tensor]"]


def clip(loss: PolicyGradient, ratio_N: Tensor, logprob_N: Tensor, advantage_N: Tensor) -> tuple[Tensor, Tensor]:
    """min(ratio A, clipped ratio A) (Schulman et al. 2017, arXiv 1707.06347), and which tokens the clip stops.

    `delta` is a two-sided clip: no ratio above it counts, a bad sample's neither (INTELLECT-2, arXiv 2505.07291).
    """
    bounded_N = ratio_N if loss.delta is None else ratio_N.clamp(max=loss.delta)
    clipped_N = ratio_N.clamp(1 - loss.epsilon, 1 + loss.high)
    surrogate_N = (bounded_N * advantage_N).minimum(clipped_N * advantage_N)
    stopped_N = ratio_N * advantage_N > surrogate_N
    if loss.delta is not None:  # of a bad sample: the bounded ratio has no gradient either
        stopped_N = stopped_N | ((ratio_N > loss.delta) & (advantage_N < 0))
    return surrogate_N, stopped_N.float()


def cispo(loss: PolicyGradient, ratio_N: Tensor, logprob_N: Tensor, advantage_N: Tensor) -> tuple[Tensor, Tensor]:
    """The ratio, clipped above, as a constant weight of A log pi: no token loses its gradient (arXiv 2506.13585)."""
    bound = 1 + loss.high
    return ratio_N.detach().clamp(max=bound) * advantage_N * logprob_N, (ratio_N > bound).float()


SURROGATES: Mapping[str, Surrogate] = {"clip": clip, "cispo": cispo}


def kl_k1(logprob_N: Tensor, ref_N: Tensor) -> Tensor:
    """log pi - log ref, per token: unbiased, of large variance. As a loss its gradient is zero in the mean."""
    return logprob_N - ref_N


def kl_k2(logprob_N: Tensor, ref_N: Tensor) -> Tensor:
    """Half the squared log-ratio, per token: biased, but in the mean its gradient is the KL's own."""
    return (ref_N - logprob_N).square() / 2


def kl_k3(logprob_N: Tensor, ref_N: Tensor) -> Tensor:
    """Schulman's k3 estimator of KL(pi || ref), per token: exp(d) - d - 1, d = ref - pi; unbiased, never negative."""
    d_N = ref_N - logprob_N
    return d_N.exp() - d_N - 1


KL: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


def of_token(log_ratio_N: Tensor, row_N: Tensor, B: int) -> Tensor:
    return log_ratio_N


def of_sequence(log_ratio_N: Tensor, row_N: Tensor, B: int) -> Tensor:
    """The sum over a row's tokens, at each of them."""
    return sum_rows(log_ratio_N, row_N, B)[row_N]


def of_geometric_mean(log_ratio_N: Tensor, row_N: Tensor, B: int) -> Tensor:
    """The mean over a row's tokens, at each of them."""
    return (sum_rows(log_ratio_N, row_N, B) / count_tokens(row_N, B))[row_N]


RATIOS: Mapping[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "token": of_token,
    "sequence": of_sequence,
    "geometric": of_geometric_mean,
}
IMPORTANCE: Mapping[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "token": of_token,
    "sequence": of_geometric_mean,
    "none": lambda log_ratio_N, row_N, B: log_ratio_N.new_zeros(log_ratio_N.shape),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceLoss:
    """-log sigmoid(beta * margin) per pair (DPO, Rafailov et al. 2023, arXiv 2305.18290, eq. 7), the mean over pairs.

    A pair is the two rows of one group, advantage +1 the chosen and -1 the rejected one; the margin is the difference
    of their log-ratios to the reference, summed over tokens (`length_normalised`: the mean over tokens).
    `label_smoothing` takes that share of the labels to be wrong (Mitchell 2023, conservative DPO). `nll_anchor` adds
    that many times the chosen answer's negative log-likelihood per token (Pang et al. 2024, arXiv 2404.19733).
    """

    beta: float
    label_smoothing: float = 0.0
    length_normalised: bool = False
    nll_anchor: float = 0.0

    def __call__(self, read: Read, batch: Batch) -> tuple[Tensor, Sums]:
        from torch.nn.functional import logsigmoid

        assert batch.ref_N is not None
        logprob_N, row_N, B = read.logprob_N, batch.row_N, len(batch.rows)
        sign_B, weight_B, pair_B, pairs = pairs_of_rows(batch, logprob_N)
        count_B = count_tokens(row_N, B)
        logp_B, ref_B = (sum_rows(value_N, row_N, B) for value_N in (logprob_N, batch.ref_N))
        ratio_B = (logp_B - ref_B) / count_B if self.length_normalised else logp_B - ref_B
        chosen_B = sign_B > 0
        margin_P = sum_rows(sign_B * ratio_B, pair_B, pairs)
        weight_P = sum_rows(weight_B * chosen_B, pair_B, pairs)
        right_P, wrong_P = logsigmoid(self.beta * margin_P), logsigmoid(-self.beta * margin_P)
        preference_P = -((1 - self.label_smoothing) * right_P + self.label_smoothing * wrong_P) * weight_P
        anchor = -(logp_B / count_B * weight_B)[chosen_B].sum()
        margin_P, logp_B = margin_P.detach(), logp_B.detach()
        return preference_P.sum() + self.nll_anchor * anchor, {
            "margin_mean": (margin_P * weight_P).sum(),
            "accuracy_mean": ((margin_P > 0) * weight_P).sum(),
            "chosen_mean": (logp_B * weight_B)[chosen_B].sum(),
            "rejected_mean": (logp_B * weight_B)[~chosen_B].sum(),
            # against the reference: what learning did to each answer (likelihood displacement, arXiv 2410.08847)
            "chosen_moved_mean": ((logp_B - ref_B) * weight_B)[chosen_B].sum(),
            "rejected_moved_mean": ((logp_B - ref_B) * weight_B)[~chosen_B].sum(),
        }


def pairs_of_rows(batch: Batch, like: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Of rows that are pairs: (+1 chosen, -1 rejected), their weights, which pair each belongs to, how many pairs."""
    ids = sorted({row.group_id for row in batch.rows})
    assert 2 * len(ids) == len(batch.rows), "the two rows of a pair belong into one micro-batch"
    sign_B = like.new_tensor([row.advantage for row in batch.rows])
    weight_B = like.new_tensor([row.weight for row in batch.rows])
    pair_B = batch.row_N.new_tensor([ids.index(row.group_id) for row in batch.rows])
    return sign_B, weight_B, pair_B, len(ids)


def sum_rows(value_N: Tensor, row_N: Tensor, B: int) -> Tensor:
    """Sums over the tokens of each row, shape (B,)."""
    return value_N.new_zeros(B).index_add(0, row_N, value_N)


def count_tokens(row_N: Tensor, B: int) -> Tensor:
    """Tokens of each row, at least 1, shape (B,)."""
    return row_N.bincount(minlength=B).clamp(min=1)
