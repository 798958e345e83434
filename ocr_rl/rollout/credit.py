"""From failed tests to the words that failed them: a sample's advantage, shared out over its tokens.

A sample's advantage is linear in its rewards, so it splits exactly: one piece a unit test or an element of the page
(what it adds to the sample's reward, less what it adds to its siblings' on average), and a rest. `by_spans` puts a
piece on the tokens where its text was found, or what comes nearest; the rest, and a piece of no place, stand on all
tokens alike.
`by_siblings` asks no test: where a sample differs from siblings of other reward was the decision.

The sum over a sample's tokens stays the sum that one number a token has, so that learning rates mean the same. No
token gets more than `MOST` times what it would get if all got the same; what is above stands on all tokens alike.
Plain floats. Off by default (`grpo.credit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import fsum
from statistics import fmean
from typing import Protocol, runtime_checkable

from rapidfuzz.distance import Levenshtein

from ocr_rl.contract import Check, Earned, Page, Reading, Verdict
from ocr_rl.objectives.advantages import FLAT
from ocr_rl.rollout.flow import ComparedGroup
from ocr_rl.rollout.scoring import GroupScores, WeightedReward
from ocr_rl.rollout.token_ends import tokens_in
from ocr_rl.text.source_map import Span
from ocr_rl.text.spans import Located

MOST = 16.0  # times a token's even share of a piece
LONGEST = 8_192  # tokens; longer samples are not aligned with their siblings

Tokens = tuple[tuple[float, ...], ...]  # advantage of each token, by sample
Parts = Sequence[Sequence[Earned]]  # of a reward (inner, in one order) in each sample


@runtime_checkable
class Tested(Protocol):
    """A reward that is a weighted mean over a page's unit tests, as `pass_rate` and `pass_degree` are."""

    @property
    def reading(self) -> Reading: ...
    def shares(self, checks: Sequence[Check]) -> Sequence[float]:
        """What each test counts; they sum to 1."""
        ...

    def value_of(self, verdict: Verdict) -> float: ...


@runtime_checkable
class Placed(Protocol):
    """A reward that says itself what of it was earned where, as `elements` does."""

    def place(self, page: Page, body: str) -> Sequence[Earned]:
        """As many parts, in one order, for every transcript of a page; none where the reward does not split."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a sample's advantage, and where in its text (characters) it was earned; nowhere: by all of it."""

    amount: float
    spans: tuple[Span, ...] = ()


def of_tests(reward: Tested, checks: Sequence[Check], located: Sequence[Sequence[Located]]) -> list[list[Earned]]:
    """What each test adds to the reward's value of each sample, before floors, and where.

    located: of each test (inner) in each sample.
    """
    shares = reward.shares(checks)
    return [
        [
            Earned(adds=share * reward.value_of(one.verdict), spans=one.spans, wrong=one.wrong)
            for share, one in zip(shares, own, strict=True)
        ]
        for own in located
    ]


def pieces(
    compared: ComparedGroup, scores: GroupScores, rewards: Sequence[WeightedReward], parts: Sequence[Parts]
) -> list[list[Piece]]:
    """The pieces of each sample's advantage, which they sum to; spans are those of the sample's body.

    parts: of each of the `rewards` that `splits`, in their order. A sample that a gate holds back earned its 0 as a
    whole, and what a floor takes away is of no test: one that passes is charged for neither.
    """
    scale = _scale(compared)
    by_sample: list[list[Piece]] = [[] for _ in compared.rewards]
    for reward, own_parts in zip((r for r in rewards if splits(r, scores)), parts, strict=True):
        weight, counts = scale * scores.weights[reward.name], _counts(reward, rewards, scores)
        for siblings in zip(*own_parts, strict=True):
            values = [part.adds * count for part, count in zip(siblings, counts, strict=True)]
            mean = fmean(values)
            for k, (part, value) in enumerate(zip(siblings, values, strict=True)):
                if counts[k] and abs(amount := weight * (value - mean)) > 0.0:
                    by_sample[k].append(Piece(amount, _stretches(part, amount)))
    return [
        [*own, Piece(advantage - fsum(piece.amount for piece in own))]
        for own, advantage in zip(by_sample, compared.advantages, strict=True)
    ]


def splits(reward: WeightedReward, scores: GroupScores) -> bool:
    """Whether a reward counts on a page and says what of it was earned where."""
    return isinstance(reward.reward, Tested | Placed) and reward.name in scores.weights


def _scale(compared: ComparedGroup) -> float:
    """Advantage per reward above the mean; one factor a group, whatever the advantages are scaled by."""
    mean = fmean(compared.rewards)
    k = max(range(len(compared.rewards)), key=lambda k: abs(compared.rewards[k] - mean))
    above = compared.rewards[k] - mean
    return compared.advantages[k] / above if abs(above) > FLAT**2 else 0.0


def _counts(reward: WeightedReward, rewards: Sequence[WeightedReward], scores: GroupScores) -> list[bool]:
    """Whether no gate holds a sample back from a reward."""
    held = [scores.held[gate.name] for gate in rewards if gate.gate is not None and reward.name in gate.holds]
    return [passes and not any(by[k] for by in held) for k, passes in enumerate(scores.passes)]


def _stretches(part: Earned, amount: float) -> tuple[Span, ...]:
    """A loss falls on what is wrong in a place, a gain on what is right in it; on all of it where that is nothing.

    To take less away than siblings do, as what is invented does, is no merit of what stands there.
    """
    if amount > 0 >= part.adds:
        return ()
    if not part.wrong:
        return part.spans
    return part.wrong if amount < 0 else _without(part.spans, part.wrong) or part.spans


def _without(spans: Sequence[Span], wrong: Sequence[Span]) -> tuple[Span, ...]:
    kept = []
    for start, end in spans:
        for low, high in wrong:
            if start < low < end:
                kept.append((start, low))
            start = max(start, min(high, end))
        kept += [(start, end)] if start < end else []
    return tuple(kept)


def by_spans(
    pieces: Sequence[Sequence[Piece]], ends: Sequence[Sequence[int]], shifts: Sequence[int], share: float = 1.0
) -> Tokens:
    """Advantages of tokens from the pieces of each sample.

    ends: of each sample's tokens in its text (`token_ends`). shifts: characters of the text in front of its body.
    share: of the advantage that is put in its places; the others of it stand on all tokens alike.
    """
    return tuple(_put(own, ends_T, shift, share) for own, ends_T, shift in zip(pieces, ends, shifts, strict=True))


def _put(own: Sequence[Piece], ends_T: Sequence[int], shift: int, share: float) -> tuple[float, ...]:
    n, even, more = len(ends_T), 0.0, [0.0] * len(ends_T)
    for piece in own if n else ():  # an engine may give up before the first token
        held = {t for start, end in piece.spans for t in tokens_in((start + shift, end + shift), ends_T)}
        factor = min(MOST, n / len(held)) if held else 0.0
        put = share * factor * len(held) / n  # of the piece
        even += piece.amount * (1.0 - put)
        for t in held:
            more[t] += piece.amount * share * factor
    return tuple(value + even for value in more)


def by_siblings(
    samples: Sequence[Sequence[int]], rewards: Sequence[float], advantages: Sequence[float], share: float = 1.0
) -> Tokens:
    """Advantages of tokens from where each sample (token ids) differs from siblings of other reward.

    A token counts by how much the rewards of those siblings differ that it is not common with. Where a sample lacks
    what a sibling has, the token counts that stands there instead.
    """
    texts = ["".join(map(chr, ids)) for ids in samples]
    aligned = all(len(ids) <= LONGEST for ids in samples)
    tokens = []
    for k, text in enumerate(texts):
        weights = [0.0] * len(text)
        for j, other in enumerate(texts if aligned else ()):
            if (apart := abs(rewards[k] - rewards[j])) > FLAT:
                weights = [w + apart * d for w, d in zip(weights, _differs(text, other), strict=True)]
        tokens.append(tuple(advantages[k] * (1.0 - share + share * factor) for factor in _spread(weights)))
    return tuple(tokens)


def _spread(weights: Sequence[float], most: float = MOST) -> list[float]:
    """Weights of tokens as factors of mean 1, none above `most` before what is cut off is shared by all alike."""
    n, total = len(weights), fsum(weights)
    if total <= 0:
        return [1.0] * n
    cut = [min(most, n * weight / total) for weight in weights]
    rest = (n - fsum(cut)) / n
    return [factor + rest for factor in cut]


def _differs(text: str, other: str) -> list[int]:
    """1 for each character of `text` that is not common with the other one in the nearest alignment of both."""
    steps = [0] * (len(text) + 1)
    for op in Levenshtein.opcodes(text, other):
        if op.tag != "equal":
            start = min(op.src_start, len(text) - 1)
            steps[start] += 1
            steps[max(op.src_end, start + 1)] -= 1
    return [min(1, depth) for depth in accumulate(steps[:-1])]


def with_tokens(compared: ComparedGroup, tokens: Tokens) -> ComparedGroup:
    """The group with an advantage for each token."""
    return replace(compared, token_advantages=tokens)
