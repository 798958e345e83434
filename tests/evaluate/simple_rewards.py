"""Pages, and rewards that are easy to see through, for the tests of audits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from ocr_rl.contract import Check, Finish, Page, Score, Transcript
from ocr_rl.evaluate.audit import Outcome, RewardAudit, audit
from ocr_rl.evaluate.audit_pages import cases_of
from ocr_rl.evaluate.audit_report import to_json, to_markdown
from ocr_rl.rollout.scoring import ScoreAll, WeightedReward, score_or_fault
from ocr_rl.text.checks import load_check

TABLE = "<table>\n<tr><th>Quay</th><th>Depth</th></tr>\n<tr><td>Nörd</td><td>7.5</td></tr>\n</table>"
PROSE = [f"{word} the water rises twice a day and the boats of the harbour rise with it." for word in ("First", "Then")]
REFERENCE = "\n\n".join(["# Tides 2024", *PROSE, TABLE])


@dataclass(frozen=True)
class Longer:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return [Score(value=min(1.0, len(transcript.body) / 5000)) for transcript in group]


@dataclass(frozen=True)
class True_:
    """1 - edits / characters of the longer text: cannot be cheated, sees everything."""

    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        reference = page.reference or ""
        return [Score(value=Levenshtein.normalized_similarity(reference, transcript.body)) for transcript in group]


CHECKS = [load_check({"pdf": "a.pdf", "page": 1, "id": "x", "type": "absent", "text": "Almanac"})]
OTHERS = [
    REFERENCE,
    REFERENCE.translate(str.maketrans("abcdeghiklmnoprstuwy", "nopqrsuvyxzabdceghjk")).replace("<", "(").upper(),
    f"# Ölpreise 1973\n\nEin Fass kostet 9 Mark, mehr als je zuvor in diesem Land.\n\nWarum?\n\n{TABLE}",
]
PAGES = [
    Page(id=f"a:p{n}", pdf=Path("a.pdf"), number=n, reference=text, checks=CHECKS) for n, text in enumerate(OTHERS, 1)
]


def audits(
    *rewards: WeightedReward, pages: Sequence[Page] = PAGES, samples: dict | None = None, advantage: str = "centred"
) -> list[RewardAudit]:
    """Of every reward, then of the mix."""
    cases, notes = cases_of(pages, samples or {}, n=3, seed=0)
    result = audit(cases, rewards, scorer(rewards), notes, advantage)
    assert json.loads(json.dumps(to_json(result)))["pages"] == len(cases)
    assert "# Audit" in to_markdown(result, {})
    return list(result.rewards)


def scorer(rewards: Sequence[WeightedReward]) -> ScoreAll:
    """The rewards in this process."""
    return lambda groups: [score_or_fault(page, group, rewards) for page, group in groups]


def named(outcomes: Sequence[Outcome]) -> set[str]:
    return {outcome.attack for outcome in outcomes}


def sample(body: str, finish: Finish = "stop") -> Transcript:
    return Transcript(raw=f"---\na: b\n---\n{body}", body=body, finish=finish, num_tokens=9)


def check(kind: str, **fields: str) -> Check:
    return load_check({"pdf": "a.pdf", "page": 1, "id": kind, "type": kind, **fields})
