"""Losses of what a head reads off the hidden states: a critic's values, a reward model's scores.

Shapes and sums as in `losses`: N tokens of a micro-batch, B its rows, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocr_rl.objectives.losses import PolicyGradient, Read, Scalars, Sums, pairs_of_rows, sum_rows

if TYPE_CHECKING:
    from torch import Tensor

    from ocr_rl.learn.rows import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueLoss:
    """(V - R)^2 of each token times its weight: a critic learns what is still to come (METHODS; no half before it).

    With `clip` the value may go that far from what it was before the rollout's first update, and the worse of the two
    squares counts, as in PPO's first implementations. A return here lies in about [0, 1], so 0.2 is a fifth of all.
    """

    clip: float | None = None

    def __call__(self, read: Scalars, batch: Batch) -> tuple[Tensor, Sums]:
        assert batch.return_N is not None
        value_N, return_N = read.value_N, batch.return_N
        square_N = (value_N - return_N).square()
        outside: Sums = {}
        if self.clip is not None:
            assert batch.value_N is not None
            near_N = batch.value_N + (value_N - batch.value_N).clamp(-self.clip, self.clip)
            clipped_N = (near_N - return_N).square()
            outside = {"value_clip_share": (clipped_N > square_N).sum()}
            square_N = square_N.maximum(clipped_N)
        sums = {"value_loss": square_N.detach().sum(), "value": value_N.detach().sum(), **outside}
        return (square_N * batch.weight_N).sum(), sums


@dataclass(frozen=True, slots=True, kw_only=True)
class WithCritic:
    """The policy's loss and `weight` times the critic's, where both read one trunk and move by one optimiser."""

    policy: PolicyGradient | None  # None: the critic's warm-up
    critic: ValueLoss
    weight: float

    def __call__(self, read: Read, batch: Batch) -> tuple[Tensor, Sums]:
        assert read.scalars is not None
        value, sums = self.critic(read.scalars, batch)
        if self.policy is None:
            return self.weight * value, sums
        loss, of_policy = self.policy(read, batch)
        return loss + self.weight * value, {**of_policy, **sums}


@dataclass(frozen=True, slots=True, kw_only=True)
class BradleyTerry:
    """-log sigmoid(s_chosen - s_rejected - margin) per pair, times the pair's weight: a reward model's loss.

    Bradley and Terry 1952; Ouyang et al. 2022 (arXiv 2203.02155, eq. 1). A pair is the two rows of one group, as in
    `PreferenceLoss`; its margin (Touvron et al. 2023, arXiv 2307.09288, eq. 2) is its chosen row's. `label_smoothing`
    takes that share of the labels to be wrong.
    """

    label_smoothing: float = 0.0

    def __call__(self, read: Scalars, batch: Batch) -> tuple[Tensor, Sums]:
        from torch.nn.functional import logsigmoid

        score_B = read.score_B
        sign_B, weight_B, pair_B, pairs = pairs_of_rows(batch, score_B)
        margin_B = score_B.new_tensor([row.margin for row in batch.rows])
        gap_P = sum_rows(sign_B * score_B, pair_B, pairs)
        weight_P = sum_rows(weight_B * (sign_B > 0), pair_B, pairs)
        wanted_P = gap_P - sum_rows(margin_B, pair_B, pairs)
        right_P, wrong_P = logsigmoid(wanted_P), logsigmoid(-wanted_P)
        loss_P = -((1 - self.label_smoothing) * right_P + self.label_smoothing * wrong_P) * weight_P
        gap_P, chosen_B = gap_P.detach(), sign_B > 0
        return loss_P.sum(), {
            "accuracy_mean": ((gap_P > 0) * weight_P).sum(),
            "score_gap_mean": (gap_P * weight_P).sum(),
            "score_chosen_mean": (score_B.detach() * weight_B)[chosen_B].sum(),
            "score_rejected_mean": (score_B.detach() * weight_B)[~chosen_B].sum(),
        }
