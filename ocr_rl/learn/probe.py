"""Does the policy look at the page, does it know where, and does the engine? Canaries for what goes wrong silently.

The loss with the page, a blank page, another page and one whose parts have changed places; and what the engine says
with another vision tower.

Text stays fluent, and a blank page stays worse, where positions are lost (rows of M-RoPE dropped or swapped) or a grid
is misread. So a part of the page stays where it is and the others change places (`exchanged`): of a policy that reads,
the tokens that moved lose, those that stayed do not. The embedded policy's references lose 1.8 nats a token more where
they moved, and with its positions swapped, dropped or numbered through nothing (-0.1 to -0.3), though a blank page
costs it 1.3 to 2.1 all the same. Figures to compare, not to judge alone: of samples of its own a policy with broken
positions still holds some places likely (0.4 to 1.0, 1.6 as it is), and a long text goes on by itself where it stands.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image
from tqdm import tqdm

from ocr_rl.contract import Page, UserError
from ocr_rl.learn.learner import ImageOf, Learner
from ocr_rl.learn.reader import Reader
from ocr_rl.learn.undrawn import Undrawn
from ocr_rl.models.family import Family
from ocr_rl.models.weights import Adapter, Weights
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.flow import Prompt, Row, Sample, row_of
from ocr_rl.rollout.sampler.base import Sampler, Sampling, seed_for

Logprobs = Sequence[Sequence[float]]  # token by token

_ROWS = 8  # pages whose samples are computed again with a blank image
_TOKENS = 16  # of the transcripts that must change with the tower
_CANARY_TOKENS = 32


def looks(learner: Reader, rows: Sequence[Row]) -> dict[str, float]:
    """Negative log-likelihood in nats per token: with the right page, a blank one, and the next row's page.

    And `place_gain`, as `gains` has it.
    """
    others = {id(row.prompt): rows[(i + 1) % len(rows)].prompt for i, row in enumerate(rows)}

    def other(prompt: Prompt) -> Image.Image:
        return learner.prompter.image(others[id(prompt)]).resize(learner.prompter.image(prompt).size)

    with_page = learner.logprobs(rows)
    return {
        "nll_page": _nll(with_page),
        "nll_blank": _nll(learner.logprobs(rows, image=_blank(learner))),
        "nll_other": _nll(learner.logprobs(rows, image=other)),
        "place_gain": _place_gain(learner, rows, with_page),
    }


def gains(learner: Learner, rows: Sequence[Row]) -> dict[str, float]:
    """By how many nats a token the policy's own samples are less likely with another image than the page.

    `page_gain`, with a blank page: 0 if it does not look. In the mean this is a Kullback-Leibler divergence, so never
    negative. `place_gain`, with parts of the page exchanged: of the tokens that moved, less those that stayed; 0 if it
    does not know where. Of one sample of each of the first pages.
    """
    first_samples = list({row.group_id: row for row in reversed(rows)}.values())[-_ROWS:]
    with_page = learner.logprobs(first_samples)
    blank = learner.logprobs(first_samples, image=_blank(learner))
    return {
        "page_gain": _nll(blank) - _nll(with_page),
        "place_gain": _place_gain(learner, first_samples, with_page),
    }


def exchanged(image: Image.Image) -> Image.Image:
    """The page with its middle and its last third in each other's place."""
    third, moved = image.height // 3, image.copy()
    bottom = image.height - 2 * third  # what does not divide by three belongs to the last
    moved.paste(image.crop((0, 2 * third, image.width, image.height)), (0, third))
    moved.paste(image.crop((0, third, image.width, 2 * third)), (0, third + bottom))
    return moved


class Canary:
    """A short sample of always the same page, written right after weights were loaded: do engine and learner agree?

    Where samples are one rollout old, what parts them from the learner is mostly what it learnt meanwhile. Of this
    sample the learner has the very weights. One page, because what an engine wrongly keeps (features, a prefix) it
    keeps of pages that it has seen. Of several engines each is asked for one: they share out what is asked at once.
    """

    def __init__(self, learner: Learner, sampler: Sampler, pages: Sequence[Page], how: Sampling, seed: int) -> None:
        self._learner, self._sampler, self._pages, self._seed = learner, sampler, pages, seed
        self._how = replace(how, n=1, max_tokens=min(how.max_tokens, _CANARY_TOKENS))
        self._prompted: list[tuple[Page, Prompt]] = []
        self._rows: list[Row] = []
        self._policy = -1

    def ask(self) -> None:
        """Have the engines write; they do nothing else meanwhile."""
        if not self._prompted:
            page, prompt = first_drawn(self._learner, self._pages)
            ids = [page.id, *(f"{page.id}#{k}" for k in range(1, self._sampler.engines))]
            self._prompted = [(replace(page, id=name), prompt) for name in ids]
        self._policy = self._learner.policy
        how = replace(self._how, seed=seed_for(self._seed, "canary", self._policy))
        groups = sorted(self._sampler.sample(self._prompted, how), key=lambda group: group.page.id)
        self._rows = [
            row_of(group, sample, group_id=k, weight=0.0) for k, group in enumerate(groups) for sample in group.samples
        ]

    def gap(self) -> dict[str, float]:
        """`gap` and `gap_max` of the loss, but of the worst of those samples; nothing where the learner has moved.

        Nothing either where its page cannot be drawn any more; the next sample is of another one.
        """
        if self._policy != self._learner.policy:
            return {}
        try:
            of_learner = self._learner.logprobs(self._rows)
        except Undrawn as undrawn:
            tqdm.write(f"The canary asks for another page: {undrawn}")
            lost = self._prompted[0][1].image
            self._pages = [page for page in self._pages if (page.pdf, page.number) != (lost.pdf, lost.number)]
            self._prompted = []
            return {}
        gaps = [
            [abs(mine - theirs) for mine, theirs in zip(own, row.sampler_logprobs or (), strict=True)]
            for own, row in zip(of_learner, self._rows, strict=True)
        ]
        return {"gap": max(map(_mean, gaps)), "gap_max": max(map(max, gaps))}


def require_eyes(learner: Learner, sampler: Sampler, pages: Sequence[Page]) -> None:
    """UserError where the engine says the same whatever it is given to see with: a stale cache, or no image at all.

    The first page that can be drawn is asked for with the policy's weights, with a tower a tenth larger, and with the
    policy's again: the second answer must differ from the first by more than the third does. Where adapters learn it is
    they that are changed, the tower's if it has some: so they are switched on. The sampler keeps the policy's weights.
    """
    prompts = [first_drawn(learner, pages)]

    def answer(weights: Weights) -> Sample:
        sampler.load(weights, learner.policy)
        (group,) = sampler.sample(prompts, Sampling(temperature=0.0, max_tokens=_TOKENS))
        return group.samples[0]

    own, other, again = (
        answer(learner.weights()),
        answer(_changed(learner.weights(), learner.family)),
        answer(learner.weights()),
    )
    if _distance(own, other) <= 10 * _distance(own, again):
        what = "adapters are" if learner.adapters else "vision tower's weights are"
        raise UserError(
            f"Page {prompts[0][0].id}: the engine says the same whatever the {what}, or not the "
            "same with the same weights: it does not see the image, keeps what it saw with old weights, or leaves "
            "adapters out. Try another version of vLLM (`ocr-rl doctor --parity MODEL`), or sampling.engine = "
            '"transformers".'
        )


def _changed(weights: Weights, family: Family) -> Weights:
    """The tower a tenth larger; of adapters, the tower's or else all, other ones that do as much."""
    if not isinstance(weights, Adapter):
        return ((name, w * 1.1 if family.of_vision(name) else w) for name, w in weights)
    in_tower = any(map(family.of_vision, weights.tensors))
    lora, noise = weights.config, torch.Generator().manual_seed(0)
    size = 0.1 * lora.r**0.5 / lora.lora_alpha  # A times an input is about 1 a rank: a tenth of a layer's output, or so
    tensors = {
        name: tensor + size * torch.randn(tensor.shape, generator=noise)
        if "lora_B" in name and (family.of_vision(name) or not in_tower)
        else tensor
        for name, tensor in weights.tensors.items()
    }
    return replace(weights, tensors=tensors)


def first_drawn(learner: Learner, pages: Sequence[Page]) -> tuple[Page, Prompt]:
    """The first page that can be drawn. UserError where none can."""
    for page in pages:
        with contextlib.suppress(PageError):
            return page, learner.prompter.prompt(page)
    raise UserError("No page of the dataset can be drawn; `ocr-rl pages check` says why.")


def _distance(a: Sample, b: Sample) -> float:
    """Largest difference of the log-probabilities of two transcripts; infinite where their tokens differ."""
    if a.token_ids != b.token_ids:
        return float("inf")
    return max(abs(x - y) for x, y in zip(a.logprobs, b.logprobs, strict=True))


def _blank(learner: Reader) -> ImageOf:
    return lambda prompt: Image.new("RGB", learner.prompter.image(prompt).size, "white")


def _place_gain(learner: Reader, rows: Sequence[Row], with_page: Logprobs) -> float:
    """Transcripts follow the page, so the second half of one has moved, and the first quarter has stayed."""
    with_moved = learner.logprobs(rows, image=lambda prompt: exchanged(learner.prompter.image(prompt)))
    lost = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(with_page, with_moved, strict=True)]
    moved = [value for row in lost for value in row[len(row) // 2 :]]
    stayed = [value for row in lost for value in row[: len(row) // 4]]
    return _mean(moved) - _mean(stayed)


def _nll(logprobs: Logprobs) -> float:
    return -_mean([value for row in logprobs for value in row])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
