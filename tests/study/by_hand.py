"""Results of studies that nobody ran, made by hand: what the claims are tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ocr_rl.contract import Page
from ocr_rl.evaluate.results import CheckVerdict, PageResult
from ocr_rl.study.plan import Study
from ocr_rl.study.results import Results

PAGES = {"synth": "nano", "n": 9, "seed": 1}
ON_POLICY = {"steps": 8, "pages_per_step": 2, "samples_per_page": 4}
DRAWN = {"steps": 8, "pages_per_round": 4, "pages_per_step": 2, "samples_per_page": 4}
_TESTS = 100


def study_by_hand(**changes: Any) -> Study:
    """Three seeds of GRPO, DPO, PPO, RLHF and GRPO on the learned reward, three trials each."""
    trials = [[], ["optim.lr=1e-5"], ["optim.lr=1e-4"]]
    learned = {"scored_by": "reward_model", "trials": trials}
    whole = {
        "seeds": [0, 1, 2],
        "claim_seeds": [0, 1, 2],
        "pages": PAGES,
        "validation": PAGES,
        "test": PAGES,
        "rewards": [{"name": "pass_rate"}],
        "gates": [{"name": "outline", "at_least": 0.5}],
        "base": {"policy": {"path": "nano"}, "optim": {"lr": 3e-5}, "evaluation": {"every": 4}},
        "algorithms": {"grpo": ON_POLICY, "ppo": ON_POLICY, "dpo": DRAWN, "reward_model": DRAWN},
        "arms": {
            **{arm: {"algorithm": arm, "trials": trials} for arm in ("grpo", "dpo", "ppo")},
            "rlhf": {"algorithm": "ppo", **learned},
            "grpo_rm": {"algorithm": "grpo", **learned},
        },
    }
    return Study.model_validate({**whole, **changes})


def row_by_hand(page: str, passed: float, text: str = "") -> PageResult:
    """A transcript that passes this share of a hundred tests."""
    checks = tuple(CheckVerdict(id=str(k), type="present", passed=k < round(_TESTS * passed)) for k in range(_TESTS))
    return PageResult(page=page, checks=checks, finish="stop", num_tokens=1, text=text)


def results_by_hand(
    ends: Mapping[str, Mapping[str, float]] | Mapping[str, Sequence[PageResult]],
    *,
    start: Sequence[PageResult] | None = None,
    references: Mapping[str, str] | None = None,
    **changes: Any,
) -> Results:
    """From what runs ended with: pass rates by page, or whole rows, by run."""
    rows = {
        name: [row_by_hand(page, passed) for page, passed in end.items()] if isinstance(end, Mapping) else end
        for name, end in ends.items()
    }
    pages = {row.page for of_run in rows.values() for row in of_run} | set(references or {})
    whole = {
        "study": study_by_hand(),
        "chosen": {},
        "trials": {},
        "pages": {
            page: Page(id=page, pdf=Path("d.pdf"), number=1, reference=(references or {}).get(page, "a b"))
            for page in sorted(pages)
        },
        "start": [row_by_hand(page, 0.5) for page in sorted(pages)] if start is None else start,
        "samples": [],
        "rows": rows,
        "siblings": {},
        "metrics": {},
        "curves": {},
        "choices": {},
        "planned": len(rows),
        "ended": len(rows),
        "failed": {},
        "scorers": {},
        "evaluations": {},
        "peaks": {},
    }
    return Results(**{**whole, **changes})
