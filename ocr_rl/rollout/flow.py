"""The types that travel down the river: Prompt, Sample, Group, ComparedGroup, Row.

Frozen, plain Python values (token ids are tuples of int, log-probabilities tuples of float in nats): cheap to
hash, to pickle and to write as JSONL. No pixels (an ImageRef makes them again) and no tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ocr_rl.contract import Finish, Page, Score, Transcript
from ocr_rl.pages.raster import ImageRef
from ocr_rl.text.front_matter import split_front_matter


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the policy is asked about one page."""

    page_id: str
    image: ImageRef
    token_ids: tuple[int, ...]  # with ONE image placeholder: what vLLM is sent
    expanded_ids: tuple[int, ...]  # with one placeholder per merged patch: what the model sees


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sampled transcription."""

    token_ids: tuple[int, ...]  # ends with EOS iff finish == "stop"
    logprobs: tuple[float, ...]  # of the distribution really sampled: same temperature, same banned ids
    text: str  # decoded without special tokens
    finish: Finish
    policy: int  # version of the weights that wrote it

    def __post_init__(self) -> None:
        if len(self.token_ids) != len(self.logprobs):
            raise ValueError(f"{len(self.token_ids)} tokens but {len(self.logprobs)} log-probabilities")

    def transcript(self) -> Transcript:
        return Transcript(
            raw=self.text,
            body=split_front_matter(self.text)[1],
            finish=self.finish,
            num_tokens=len(self.token_ids),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The G sibling samples of one page."""

    page: Page
    prompt: Prompt
    samples: tuple[Sample, ...]
    temperature: float
    banned_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedGroup:
    """A scored group with its samples' advantages: a type of its own, so that no unscored group is learnt from."""

    group: Group
    scores: Mapping[str, Sequence[Score]]  # by reward name, one per sample
    rewards: tuple[float, ...]  # weighted mean over the rewards that apply
    advantages: tuple[float, ...]
    token_advantages: tuple[tuple[float, ...], ...] | None = None  # of each sample's tokens, where it was shared out


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One completion to learn from.

    `weight` is what each of its tokens counts in the loss, already normalised over the *whole* optimiser step, so
    losses only sum and micro-batching cannot change the answer.
    """

    prompt: Prompt
    completion_ids: tuple[int, ...]
    group_id: int  # rows of one group share their page's prompt and image
    weight: float
    advantage: float | tuple[float, ...] = 0.0  # of the completion, or of each of its tokens
    temperature: float = 1.0
    banned_ids: tuple[int, ...] = ()
    sampler_logprobs: tuple[float, ...] | None = None
    old_logprobs: tuple[float, ...] | None = None  # of the learner, before the rollout's first of several updates
    ref_logprobs: tuple[float, ...] | None = None  # of the frozen reference policy
    values: tuple[float, ...] | None = None  # of the critic, before the rollout's first update
    returns: tuple[float, ...] | None = None  # what the critic should have said
    margin: float = 0.0  # of a pair's chosen row: by how much more than the rejected one it should score


def row_of(
    group: Group, sample: Sample, *, group_id: int, weight: float, advantage: float | tuple[float, ...] = 0.0
) -> Row:
    """A sample as its group's sampler wrote it."""
    return Row(
        prompt=group.prompt,
        completion_ids=sample.token_ids,
        group_id=group_id,
        weight=weight,
        advantage=advantage,
        temperature=group.temperature,
        banned_ids=group.banned_ids,
        sampler_logprobs=sample.logprobs,
    )
