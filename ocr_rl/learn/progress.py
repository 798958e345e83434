"""What a run shows of itself: a line a step, and for each page all samples, the best and the worst with the reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ocr_rl.contract import Score
from ocr_rl.learn.heard import Key, Tokens
from ocr_rl.rollout.flow import ComparedGroup, Sample
from ocr_rl.rollout.reward_pool import as_json
from ocr_rl.rollout.token_ends import token_ends
from ocr_rl.rollout.token_trace import pack

_DIGITS = 6  # of a score in the log


def group_row(compared: ComparedGroup, number: int, heard: Mapping[Key, Tokens], tokenizer: Any) -> dict[str, Any]:
    """A group of a step as the log has it; `number` is its own in the rows of the step, `heard` what those gave."""
    row = best_and_worst(compared)
    for sample, shown in zip(compared.group.samples, row["samples"], strict=True):
        shown["trace"] = _trace(sample, heard.get((number, sample.token_ids)), tokenizer)
    return row


def _trace(sample: Sample, tokens: Tokens | None, tokenizer: Any) -> dict[str, Any]:
    ends = token_ends(tokenizer, sample.token_ids, sample.text)
    return pack(
        lengths=[end - start for start, end in pairwise((0, *ends))],
        sampler=sample.logprobs,
        learner=tokens and tokens.learner,
        entropy=tokens and tokens.entropy,
    )


def best_and_worst(compared: ComparedGroup) -> dict[str, Any]:
    """The best and the worst sample of a page with the rewards' reasons, and all samples, to be scored again."""
    order = sorted(range(len(compared.rewards)), key=lambda k: compared.rewards[k])
    shown = {
        name: {
            "reward": compared.rewards[k],
            "advantage": compared.advantages[k],
            "why": {reward: scores[k].why for reward, scores in compared.scores.items()},
            "text": compared.group.samples[k].text,
        }
        for name, k in (("best", order[-1]), ("worst", order[0]))
    }
    samples = [as_json(sample.transcript()) for sample in compared.group.samples]
    if compared.token_advantages is not None:
        for sample, advantages in zip(samples, compared.token_advantages, strict=True):
            sample["token_advantages"] = [round(advantage, 4) for advantage in advantages]
    return {
        "page": compared.group.page.id,
        **shown,
        "rewards": [round(reward, _DIGITS) for reward in compared.rewards],
        "advantages": [round(advantage, _DIGITS) for advantage in compared.advantages],
        "scores": {name: _columns(scores) for name, scores in compared.scores.items()},
        "samples": samples,
    }


def _columns(scores: Sequence[Score]) -> dict[str, Any]:
    """A reward's scores of all siblings: `values` (null where it does not apply), and those of each of its parts."""
    names = {name: None for score in scores for name in score.parts}
    parts = {name: [_short(score.parts.get(name)) for score in scores] for name in names}
    return {"values": [_short(score.value) for score in scores], **({"parts": parts} if parts else {})}


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


# What a step's line shows, in order, with its format; figures that a step does not have are left out.
_LINE = {
    "loss": "loss {:.3f}",
    "reward": "reward {:.3f}",
    "pass_rate": "pass {:.1%}",
    "pass_degree": "degree {:.1%}",
    "length": "length {:.0f}",
    "finished": "ended {:.0%}",
    "kl": "kl {:.4f}",
    "clip_share": "clip {:.1%}",
    "flat_groups": "flat {:.0%}",
    "faults": "faults {:.0f}",
    "undrawable": "undrawable {:.0f}",
    "gap_max": "gap {:.1e}",
    "entropy": "entropy {:.3f}",
    "grad_norm": "grad {:.2f}",
    "page_gain": "page {:.2f}",
    "place_gain": "place {:.2f}",
    "nll_page": "val {:.3f}",
    "nll_blank": "blank {:.2f}",
    "sync_s": "sync {:.1f}s",
    "rollout_s": "sample {:.1f}s",
    "wait_s": "wait {:.1f}s",
    "score_s": "score {:.1f}s",
    "annotate_s": "ref {:.1f}s",
    "update_s": "update {:.1f}s",
}


def line_of(row: Mapping[str, Any], total: int) -> str:
    shown = [form.format(row[name]) for name, form in _LINE.items() if name in row]
    return f"{row['step']}/{total}  " + "  ".join(shown)
