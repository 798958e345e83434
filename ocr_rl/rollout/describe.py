"""What a rollout was like, as figures for metrics.jsonl, and as one line for whoever watches."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import stdev

from ocr_rl.objectives.advantages import shares
from ocr_rl.rollout.compare import has_signal
from ocr_rl.rollout.flow import ComparedGroup
from ocr_rl.rollout.scoring import ScoredGroup


def describe(groups: Sequence[ComparedGroup]) -> dict[str, float]:
    """Figures over all groups of a rollout, those without signal too.

    A reward's value is the mean over its samples, `<name>/spread` the mean of its standard deviations within groups,
    `live/<name>/<part>` the share of groups whose samples differ in a part, such as the tests of one type, and
    `applies/<name>` the share of groups to whose page the reward applies.
    """
    samples = [sample for compared in groups for sample in compared.group.samples]
    figures = {
        "reward": _mean([reward for compared in groups for reward in compared.rewards]),
        "length": _mean([len(sample.token_ids) for sample in samples]),
        "prompt_tokens": _mean([len(compared.group.prompt.expanded_ids) for compared in groups]),
        "finished": _mean([float(sample.finish == "stop") for sample in samples]),
        "flat_groups": _mean([float(not has_signal(compared)) for compared in groups]),
    }
    values: dict[str, list[float]] = {}
    for compared in groups:
        for name, value in _figures_of(compared):
            values.setdefault(name, []).append(value)
    return figures | {name: _mean(column) for name, column in values.items()}


def _figures_of(compared: ComparedGroup) -> list[tuple[str, float]]:
    """(name, value) of one group's rewards and their parts, a name once for each sample."""
    figures: list[tuple[str, float]] = []
    for name, part in {(name, part) for name, scores in compared.scores.items() for s in scores for part in s.parts}:
        values = {score.parts.get(part) for score in compared.scores[name]}
        figures.append((f"live/{name}/{part}", float(len(values) > 1)))
    for name, scores in compared.scores.items():
        values = [score.value for score in scores if score.value is not None]
        figures.append((f"applies/{name}", float(bool(values))))
        if len(values) > 1:
            figures.append((f"{name}/spread", stdev(values)))
        for score in scores:
            if score.value is not None:
                figures.append((name, score.value))
            figures += [(f"{name}/{part}", value) for part, value in score.parts.items()]
    return figures


def held_back(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """`held/<gate>`: the share of samples that a gate holds back."""
    by_gate: dict[str, list[float]] = {}
    for scored in groups:
        for gate, held in scored.scores.held.items():
            by_gate.setdefault(f"held/{gate}", []).extend(map(float, held))
    return {name: _mean(column) for name, column in by_gate.items()}


def describe_shares(groups: Sequence[ScoredGroup], how: str, what: str = "the advantage") -> str:
    """How much of the first groups' advantages each reward makes, as one line; `what` they are in an algorithm."""
    by_reward = shares([group.scores for group in groups], how)
    parts = [f"{name} {share:.0%}" for name, share in sorted(by_reward.items(), key=lambda item: -item[1])]
    return f"share of {what} on the first {len(groups)} groups: {', '.join(parts) or 'none, all samples are alike'}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
