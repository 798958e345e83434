"""What every installed reward must keep: range, order, determinism, gold at its maximum, damage below it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ocr_rl.contract import Page, Reward, Score, Transcript
from ocr_rl.plugins import REWARDS, installed, load_reward
from ocr_rl.text.checks import load_check
from ocr_rl.text.front_matter import FrontMatter

FRONT = FrontMatter(
    primary_language="en", is_rotation_valid=True, rotation_correction=0, is_table=False, is_diagram=False
).to_text()
REFERENCE = """# Tides of the harbour

The water rises **twice** a day, and the boats rise with it, as \\(h = a \\sin t\\) says.

| Month | Height |
|---|---|
| March | 4.1 |
| April | 3.8 |

<table>
<tr><th>Quay</th><th>Depth</th></tr>
<tr><td>North</td><td>7.5</td></tr>
</table>
"""
CHECKS = [
    {"type": "present", "text": "The water rises twice a day"},
    {"type": "absent", "text": "Page 7 of the almanac"},
    {"type": "order", "before": "The water rises", "after": "the boats rise"},
    {"type": "order", "before": "Tides of the harbour", "after": "The water rises"},
    {"type": "format", "text": "Tides of the harbour", "format": "heading"},
    {"type": "table", "cell": "4.1", "left": "March", "up": "Height"},
    {"type": "baseline"},
]
PAGE = Page(
    id="0a1b2c3d:p1",
    pdf=Path("tides.pdf"),
    number=1,
    reference=REFERENCE,
    checks=[load_check({"pdf": "tides.pdf", "page": 1, "id": f"t{i}", **test}) for i, test in enumerate(CHECKS)],
    tags=frozenset({"rotation_correction=0"}),
)


def transcript(body: str, *, front: str = FRONT, ended: bool = True) -> Transcript:
    return Transcript(raw=front + body, body=body, finish="stop" if ended else "length", num_tokens=len(body))


GOLD = transcript(REFERENCE)
TEXT_DAMAGE = {
    "empty": transcript(""),
    "first line only": transcript("# Tides of the harbour"),
    "words swapped": transcript(REFERENCE.replace("water", "weather").replace("4.1", "41")),
    "another page": transcript("Chapter 2\n\nNothing of this stands on the page that was shown, not one line of it."),
    "a tail of repeats": transcript(REFERENCE + "and so on " * 40 + "." * 60),
    "lines in reverse": transcript("\n".join(reversed(REFERENCE.splitlines()))),
}
HTML_TABLE = REFERENCE[REFERENCE.index("<table>") :]
ELEMENT_DAMAGE = {
    "a cell misread": transcript(REFERENCE.replace("7.5", "1.5")),
    "a row left out": transcript(REFERENCE.replace("| April | 3.8 |\n", "")),
    "a row too short": transcript(REFERENCE.replace("<td>7.5</td>", "")),
    "a table twice": transcript(REFERENCE + HTML_TABLE),
    "a formula misread": transcript(REFERENCE.replace("\\sin", "\\cos")),
    "a formula left out": transcript(REFERENCE.replace("\\(h = a \\sin t\\)", "it")),
}
FORM_DAMAGE = {
    "cut off": transcript(REFERENCE, ended=False),
    "too long": replace(GOLD, num_tokens=950),
    "no front matter": transcript(REFERENCE, front=""),
    "wrong rotation": transcript(REFERENCE, front=FRONT.replace(": 0", ": 90")),
}
DAMAGE = {**TEXT_DAMAGE, **ELEMENT_DAMAGE, **FORM_DAMAGE}
# Which damage a reward must see. One of this package that is not listed sees the damage to the text; others say it in
# a class attribute SEES, a set of names out of DAMAGE.
LITTLE_LEFT = {"empty", "first line only", "another page"}
SEES: dict[str, set[str]] = {
    "budget": {"a tail of repeats"},
    "distinct": {"a tail of repeats"},
    "in_order": {"lines in reverse"},
    "outline": {*LITTLE_LEFT, "words swapped"},
    "eos": {"cut off"},
    "front_matter": {"no front matter", "wrong rotation"},
    "length": {"too long"},
    "medoid": set(),  # knows siblings, no truth
    "rectangular": {"a row too short"},
    "repetition": {"a tail of repeats"},
    "element_count": {*LITTLE_LEFT, "lines in reverse", "a table twice", "a formula left out"},
    "formulas": {*LITTLE_LEFT, "a formula misread", "a formula left out"},
    "tables": {
        *LITTLE_LEFT,
        *("words swapped", "lines in reverse"),
        *("a cell misread", "a row left out", "a row too short", "a table twice"),
    },
}
# What these look at is not the text, or (rectangular, in_order, budget, distinct) a text without much is no fault.
CONTENT_WITH_NONSENSE = {"budget", "distinct", "in_order", "eos", "front_matter", "length", "medoid", "rectangular"}
NEEDS_REFERENCE = {"bleu", "cer", "chrf", "diff_ratio", "element_count", "formulas", "tables", "wer"}
OPTIONS = {"length": {"max_tokens": 1000}}  # GOLD has about 400
GROUP = [GOLD, *DAMAGE.values()]
INSTALLED = installed(REWARDS)
NAMES = [info.name for info in INSTALLED]
FOREIGN = {info.name for info in INSTALLED if info.package != "ocr-rl"}


def load(name: str) -> Reward:
    return load_reward(name, OPTIONS.get(name))


def sees(name: str) -> set[str]:
    return set(getattr(load(name), "SEES", ())) if name in FOREIGN else SEES.get(name, set(TEXT_DAMAGE))


def value(score: Score) -> float:
    assert score.value is not None
    return score.value


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def reward(name: str) -> Reward:
    return load(name)


def test_the_built_in_rewards_are_installed() -> None:
    if not NAMES:
        pytest.skip("the package is not installed, so its entry points cannot be found")
    assert {"pass_rate", *NEEDS_REFERENCE, *SEES} <= set(NAMES)


def test_values_and_parts_lie_in_the_range(reward: Reward) -> None:
    for score in reward(PAGE, GROUP):
        assert 0.0 <= value(score) <= 1.0
        assert all(0.0 <= part <= 1.0 for part in score.parts.values())


def test_one_score_per_transcript_in_order(reward: Reward) -> None:
    forward = reward(PAGE, GROUP)
    assert len(forward) == len(GROUP)
    assert list(reward(PAGE, GROUP[::-1])) == list(forward)[::-1]


def test_deterministic_and_picklable(reward: Reward) -> None:
    again: Reward = pickle.loads(pickle.dumps(reward))
    assert list(again(PAGE, GROUP)) == list(reward(PAGE, GROUP)) == list(reward(PAGE, GROUP))


def test_gold_is_at_the_maximum(reward: Reward) -> None:
    assert value(reward(PAGE, [GOLD])[0]) == 1.0


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in NAMES for kind in sorted(sees(name))])
def test_damage_that_the_reward_sees_scores_lower(name: str, kind: str) -> None:
    gold, damaged = load(name)(PAGE, [GOLD, DAMAGE[kind]])
    assert value(damaged) < value(gold)


def test_hostile_text_is_a_low_score_and_no_exception(reward: Reward, name: str) -> None:
    hostile: Sequence[str] = ["\0" * 1_000, "\ud800" * 100, "<table>" * 2_000, "$" * 5_001, "|" * 5_000]
    for score in reward(PAGE, [transcript(text) for text in hostile]):
        assert value(score) < 0.5 or (name in CONTENT_WITH_NONSENSE and value(score) <= 1.0)


def test_none_is_for_the_page_and_for_the_whole_group() -> None:
    bare = replace(PAGE, reference=None, checks=())
    for name in NAMES:
        values = [score.value for score in load(name)(bare, GROUP)]
        assert len({value is None for value in values}) == 1, name
    for name in {"pass_rate", "outline", "in_order", "budget", *NEEDS_REFERENCE} & set(NAMES):
        assert [score.value for score in load(name)(bare, GROUP)] == [None] * len(GROUP)
