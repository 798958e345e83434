"""The audit finds what is known to be wrong with simple rewards, and its attacks are what they say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
from rapidfuzz.distance import Levenshtein

from ocr_rl.cli import main
from ocr_rl.config import RewardChoice, load_recipe
from ocr_rl.contract import Check, Finish, Page, Score, Transcript, UserError
from ocr_rl.evaluate import attacks
from ocr_rl.evaluate.attacks import ATTACKS, CURVES, LEVELS, Target
from ocr_rl.evaluate.audit import Judged, audit, require_honest
from ocr_rl.evaluate.audit_report import to_json, to_markdown
from ocr_rl.evaluate.cases import cases_of, composed_pages, transcripts
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.synth.make import make_dataset
from ocr_rl.rollout.reward_pool import RewardPool, as_json, weighted
from ocr_rl.rollout.scoring import WeightedReward, score_or_fault
from ocr_rl.text.checks import load_check

TABLE = "<table>\n<tr><th>Quay</th><th>Depth</th></tr>\n<tr><td>Nörd</td><td>7.5</td></tr>\n</table>"
PROSE = [f"{word} the water rises twice a day and the boats of the harbour rise with it." for word in ("First", "Then")]
REFERENCE = "\n\n".join(["# Tides 2024", *PROSE, TABLE])
TARGET = Target(reference=REFERENCE, other="Another page.", edges=["Almanac", "Page 7"], seed="0")
MADE = {attack.name: attack.make(TARGET) for attack in ATTACKS}


def text(name: str) -> str:
    made = MADE[name]
    assert made is not None
    return made


def test_every_attack_applies_to_a_page_that_has_everything_and_changes_it() -> None:
    assert all(made is not None and made != REFERENCE for made in MADE.values())
    assert {attack.name: attack.make(TARGET) for attack in ATTACKS} == MADE  # by the seed alone


def test_cheats_are_what_they_say() -> None:
    assert text("empty") == ""
    assert text("first line only") == "# Tides 2024"
    assert text("page twice").count("Nörd") == 2
    assert sorted(text("paragraphs shuffled").split("\n\n")) == sorted(REFERENCE.split("\n\n"))
    assert text("columns interleaved").index("Then") < text("columns interleaved").index("boats")
    assert "the boats of the harbour" in text("all likely strings, sorted").splitlines()
    assert text("table five times").count("<table>") == 5
    assert text("another page") == "Another page."
    assert text("reference + junk").startswith(REFERENCE)
    assert text("endless loop").endswith("</table> </table>")


def test_damage_is_what_it_says() -> None:
    assert text("all cells equal").count("Quay") == 4
    assert text("header and footer kept").startswith("Almanac") and text("header and footer kept").endswith("Page 7")
    assert "NÖRD" in text("upper-cased") and "<td>" in text("upper-cased")
    assert text("diacritics dropped") == REFERENCE.replace("ö", "o")
    assert text("digits changed") == REFERENCE.replace("2024", "3135").replace("7.5", "8.6")
    assert Levenshtein.distance(text("one wrong digit in a table"), REFERENCE) == 1
    assert text("invisible characters").replace("\u200b", "") == REFERENCE


def test_honest_is_a_tenth_wrong_and_leaves_markup_alone() -> None:
    said = attacks.with_wrong_characters(REFERENCE, 0.1, Random(0))
    letters = sum(char.isalnum() for char in REFERENCE.replace("table", "").replace("tr", "").replace("td", ""))
    assert 0.07 * letters < Levenshtein.distance(said, REFERENCE) < 0.11 * letters
    assert said.count("<td>") == 2


@pytest.mark.parametrize("kind", CURVES)
def test_more_damage_is_further_from_the_reference(kind: str) -> None:
    """Within a kind a higher level damages a superset; the first level may touch nothing on a small page."""
    distances = [Levenshtein.distance(CURVES[kind](REFERENCE, share, Random(0)), REFERENCE) for share in (0, *LEVELS)]
    assert distances[0] == 0 or kind in ("lines lost", "junk added")
    assert distances[-1] > distances[0]
    assert distances == sorted(distances)


def test_a_caption_stands_on_either_side_of_its_table() -> None:
    found = attacks.caption_moved(REFERENCE)
    assert found is not None
    assert found[0].index("Table 1") < found[0].index("<table>") < found[1].index("Table 1")
    assert attacks.caption_moved("no table") is None


# ---- the audit of rewards that are easy to see through


@dataclass(frozen=True)
class Longer:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return [Score(value=min(1.0, len(one.body) / 5000)) for one in group]


@dataclass(frozen=True)
class True_:
    """1 - edits / characters of the longer text: cannot be cheated, sees everything."""

    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return [Score(value=Levenshtein.normalized_similarity(page.reference or "", one.body)) for one in group]


CHECKS = [load_check({"pdf": "a.pdf", "page": 1, "id": "x", "type": "absent", "text": "Almanac"})]
OTHERS = [
    REFERENCE,
    REFERENCE.translate(str.maketrans("abcdeghiklmnoprstuwy", "nopqrsuvyxzabdceghjk")).replace("<", "(").upper(),
    f"# Ölpreise 1973\n\nEin Fass kostet 9 Mark, mehr als je zuvor in diesem Land.\n\nWarum?\n\n{TABLE}",
]
PAGES = [
    Page(id=f"a:p{n}", pdf=Path("a.pdf"), number=n, reference=text, checks=CHECKS) for n, text in enumerate(OTHERS, 1)
]


def judged(
    *rewards: WeightedReward, pages: Sequence[Page] = PAGES, samples: dict | None = None, how: str = "none"
) -> list[Judged]:
    cases, notes = cases_of(pages, samples or {}, n=3, seed=0)
    asked = lambda every: [score_or_fault(page, group, rewards) for page, group in every]
    found = audit(cases, rewards, asked, notes, how)
    assert json.loads(json.dumps(to_json(found)))["pages"] == len(cases)
    assert "# Audit" in to_markdown(found, {})
    return list(found.judged)


def named(outcomes: Sequence) -> set[str]:
    return {one.attack for one in outcomes}


def test_a_reward_for_length_is_beaten_by_what_is_long_and_by_nothing_else() -> None:
    mix = judged(WeightedReward(name="longer", reward=Longer()))[-1]
    assert {"page twice", "reference + junk", "endless loop", "equation spam"} <= named(mix.beaten_by())
    assert not {"empty", "first line only"} & named(mix.beaten_by())
    assert {"digits changed", "upper-cased"} <= named(mix.blind_to())
    assert not next(curve for curve in mix.curves if curve.kind == "characters wrong").falls


def test_a_reward_that_reads_is_beaten_by_nothing_and_blind_to_nothing() -> None:
    mix = judged(WeightedReward(name="true", reward=True_()))[-1]
    assert named(mix.beaten_by()) == named(mix.blind_to()) == set()
    assert mix.reference == 1.0 > mix.honest
    assert all(curve.falls for curve in mix.curves)
    assert mix.tie is not None and mix.tie > 0.1  # it takes a caption on the other side for an error


def test_a_mix_that_trains_on_normalised_rewards_is_judged_by_them() -> None:
    """`longer` tells little apart, until gdpo makes that as much as what `true` does."""
    rewards = (WeightedReward(name="longer", reward=Longer(), weight=1.2), WeightedReward(name="true", reward=True_()))
    weighed, normalised = (judged(*rewards, how=how) for how in ("group_std", "gdpo"))
    assert not named(weighed[-1].beaten_by())
    assert "page twice" in named(normalised[-1].beaten_by())
    assert "empty" not in named(normalised[-1].beaten_by())
    assert [one.outcomes for one in normalised[:-1]] == [one.outcomes for one in weighed[:-1]]  # each by itself
    gate = WeightedReward(name="gate", reward=True_(), weight=0.0, gate=0.8)
    assert "page twice" not in named(judged(*rewards, gate, how="gdpo")[-1].beaten_by())

    said = {"a:p1": [sample(OTHERS[0]), sample(OTHERS[0][:-20]), sample(OTHERS[0][:-50])]}
    of_samples = judged(*rewards, pages=[replace(PAGES[0], reference=None)], samples=said, how="gdpo")[-1]
    assert "page twice" in {one.attack for one in of_samples.beaten_by() if one.kind == "cheat (samples)"}


def test_a_gate_changes_the_mix_and_not_the_reward_itself() -> None:
    gate = WeightedReward(name="true", reward=True_(), weight=0.0, gate=0.8)
    longer, true, mix = judged(WeightedReward(name="longer", reward=Longer()), gate)
    assert "page twice" in named(longer.beaten_by()) - named(mix.beaten_by())
    assert true.honest_held == 0.0 and true.samples_held is None and longer.honest_held is None


def test_real_samples_are_a_bar_of_their_own_and_give_spread_and_agreement() -> None:
    half = REFERENCE[: len(REFERENCE) // 2]
    said = [Transcript(raw=t, body=t, finish="stop", num_tokens=9) for t in (half, half[:100], "x")]
    rewards = [WeightedReward(name="true", reward=True_()), WeightedReward(name="longer", reward=Longer())]
    cases, notes = cases_of(PAGES, {"a:p2": said}, n=1, seed=0)
    assert [case.page.id for case in cases] == ["a:p2"]  # pages with samples come first
    found = audit(cases, rewards, lambda every: [score_or_fault(p, g, rewards) for p, g in every], notes)
    assert found.mix.spread is not None and found.mix.spread > 0
    assert found.correlation["true", "longer"] == pytest.approx(1.0)
    assert {one.kind for one in found.mix.outcomes} == {"cheat", "cheat (samples)", "damage"}
    assert "reference + junk" in {one.attack for one in found.mix.beaten_by() if one.kind == "cheat (samples)"}


def test_without_references_composed_pages_stand_in_and_keep_theirs_to_themselves() -> None:
    cases, notes = cases_of([replace(page, reference=None) for page in PAGES], {}, n=2, seed=0)
    assert len(cases) == 2 and "no page has a reference" in notes[0]
    assert all(case.page.reference is None and case.page.checks and case.target.reference for case in cases)


def sample(body: str, finish: Finish = "stop") -> Transcript:
    return Transcript(raw=f"---\na: b\n---\n{body}", body=body, finish=finish, num_tokens=9)


def test_without_references_cheats_are_made_of_real_samples_too() -> None:
    bare = [replace(page, reference=None) for page in PAGES]
    samples = {
        "a:p1": [sample("cut off", "length"), sample(""), sample(OTHERS[0]), sample("x")],
        "a:p2": [sample("cut off", "length")],  # none that ended
        "a:p3": [sample(OTHERS[2]), sample("y")],
    }
    cases, notes = cases_of(bare, samples, n=2, seed=0)
    assert len(cases) == 4 and "on 2 pages without reference cheats are made of a real sample" in notes[-1]
    own = [case for case in cases if case.own is not None]
    assert {case.page.id: case.target.reference for case in own} == {"a:p1": OTHERS[0], "a:p3": OTHERS[2]}
    assert {case.target.other for case in own} == {OTHERS[0], OTHERS[2]}
    assert all(case.page.reference is None for case in own)
    tried = dict(transcripts(own[0]))
    assert {sort for sort, _ in tried} == {"own", "attack", "sample"}
    assert tried["attack", "page twice"].raw.startswith("---\na: b\n---\n")  # the sample's own front matter

    mix = judged(WeightedReward(name="longer", reward=Longer()), pages=bare, samples=samples)[-1]
    found = {one.attack: one for one in mix.outcomes if one.kind == "cheat (samples)"}
    assert "page twice" in found and found["page twice"].wins and found["page twice"].pages == 2
    assert found["page twice"].fair == pytest.approx((len(OTHERS[0]) + len(OTHERS[2])) / 2 / 5000)  # no sibling's
    assert not found["first line only"].wins
    assert {one.attack for one in mix.outcomes if one.kind == "cheat"} and mix.spread is not None
    assert {one.kind for one in mix.outcomes} == {"cheat", "cheat (samples)", "damage"}  # of the composed pages


def check(kind: str, **said: str) -> Check:
    return load_check({"pdf": "a.pdf", "page": 1, "id": kind, "type": kind, **said})


def test_composed_pages_have_no_test_of_a_sort_that_the_data_lack() -> None:
    """A budget that real pages lack would let a mix that relies on it pass."""
    data = [replace(page, reference=None, checks=[check("present", text="Some words here")]) for page in PAGES]
    cases, _ = cases_of(data, {}, n=3, seed=0)
    assert {check.type for case in cases for check in case.page.checks} == {"present"}
    formulas = [replace(page, checks=[check("math", math="x^2 + y^2")]) for page in data]
    cases, _ = cases_of(formulas, {}, n=2, seed=0)
    assert {check.type for case in cases for check in case.page.checks} == {"math"}


def test_composed_pages_have_no_more_tests_of_a_sort_than_the_data() -> None:
    """More order tests than the data have would make a gate on them look better than it is."""
    data = [
        replace(page, reference=None, checks=[check("order", before="one two", after="three"), check("baseline")])
        for page in PAGES
    ]
    cases, _ = cases_of(data, {}, n=3, seed=0)
    for case in cases:
        assert {each.type: sum(c.type == each.type for c in case.page.checks) for each in case.page.checks} == {
            "order": 1,
            "baseline": 1,
        }


def test_before_training_pages_without_reference_are_tried_by_themselves() -> None:
    """One page with a reference says nothing about those without: there junk costs nothing."""
    chosen = load_recipe("nano_grpo").rewards
    known = composed_pages("report", 4, 0)
    bare = [replace(page, reference=None, checks=[check("present", text="Some words here")]) for page in PAGES]
    graders = RewardPool(choices=chosen, rewards=weighted(chosen), workers=1, timeout_s=60)
    with closing(graders):
        require_honest(known, graders, 8, 0, "none")
        with pytest.raises(UserError, match=r"the gate budget applies to 0 of \d+ pages"):
            require_honest([*known, *bare], graders, 8, 0, "none")


def test_a_gate_that_is_silent_on_some_pages_is_named_with_the_reason() -> None:
    (gate,) = weighted([RewardChoice(name="budget", gate=1.0)])
    cases, notes = cases_of([replace(page, checks=()) for page in PAGES], {}, n=2, seed=0)
    silent = [replace(case, page=replace(case.page, reference=None)) for case in cases]
    rewards = [gate, WeightedReward(name="longer", reward=Longer())]
    found = audit(silent, rewards, lambda every: [score_or_fault(p, g, rewards) for p, g in every], notes)
    assert found.notes == [
        "the gate budget applies to 0 of 2 pages (the page has neither a reference nor a baseline test with max_length)"
    ]


def test_a_reward_that_fails_under_attack_is_one_sentence() -> None:
    @dataclass(frozen=True)
    class Breaks:
        def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
            raise ValueError("no")

    with pytest.raises(UserError, match="Reward breaks failed on page .*: ValueError: no; mend the reward"):
        judged(WeightedReward(name="breaks", reward=Breaks()))


# ---- the shipped mixes, from the command line


@pytest.fixture(scope="module")
def notices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "notice"
    assert list(make_dataset("notice", n=32, seed=5, out=folder, pages_per_document=32))
    return folder


def test_no_cheat_beats_the_shipped_mix(notices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewards", "audit", "nano_grpo", "--data", str(notices), "--out", str(tmp_path)]) == 0
    assert "No cheat beats honest transcripts" in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text())["beaten_by"] == []


def test_pass_rate_alone_is_beaten_and_the_winning_attack_printed(
    notices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = 'grpo.rewards=[{name="pass_rate"}]'
    assert main(["rewards", "audit", "nano_grpo", "--data", str(notices), "--set", alone]) == 1
    said = capsys.readouterr().out
    assert "## Beaten by: page twice" in said
    assert "## Beaten by: paragraphs shuffled" in said


SLOW = """
import time
from dataclasses import dataclass
from ocr_rl.contract import Score

@dataclass(frozen=True)
class Slow:
    def __call__(self, page, group):
        time.sleep(0.02 * len(group))
        return [Score(value=float(one.body == page.reference)) for one in group]
"""


def test_an_audit_takes_as_much_longer_as_its_groups_are_larger(
    notices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """About 56 transcripts need 1.1 s; a group of eight may take 0.4 s."""
    (tmp_path / "slow.py").write_text(SLOW)
    slow = f'grpo.rewards=[{{name="{tmp_path / "slow.py"}:Slow"}}]'
    argv = ["rewards", "audit", "nano_grpo", "--data", str(notices), "--pages", "1", "--set", slow]
    assert main([*argv, "--set", "scoring.timeout_s=0.4", "--set", "grpo.samples_per_page=8"]) == 1  # honest is 0 too
    assert "## Beaten by" in capsys.readouterr().out


def test_the_recipes_advantage_decides(notices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewards = 'grpo.rewards=[{name="cer"},{name="chrf",weight=1.2}]'
    argv = ["rewards", "audit", "nano_grpo", "--data", str(notices), "--pages", "8", "--set", rewards, "--set"]
    assert main([*argv, 'grpo.advantage="batch_std"']) == 0
    assert main([*argv, 'grpo.advantage="gdpo"']) == 1
    assert 'trains on advantage "gdpo"' in capsys.readouterr().out


def test_samples_are_audited_where_there_are_tests_alone(
    notices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, groups = tmp_path / "data", tmp_path / "groups.jsonl"
    known = {page.id: page.reference or "" for page in load_dataset(notices)}
    shutil.copytree(notices, data, ignore=shutil.ignore_patterns("*.md"))
    rng = Random(0)
    said = {page: [attacks.with_wrong_characters(text, 0.05, rng) for _ in range(3)] for page, text in known.items()}
    rows = [{"page": page, "samples": [as_json(sample(text)) for text in texts]} for page, texts in said.items()]
    groups.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    argv = ["rewards", "audit", "nano_grpo", "--data", str(data), "--samples", str(groups)]
    assert main([*argv, "--out", str(tmp_path), "--pages", "12"]) == 0
    assert "on 12 pages without reference cheats are made of a real sample" in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text())["samples"] == 36
    alone = 'grpo.rewards=[{name="pass_rate"}]'
    assert main([*argv, "--set", alone, "--pages", "12"]) == 1
    assert "cheat (samples): page twice" in capsys.readouterr().out


def test_a_place_for_the_report_is_looked_at_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("")
    argv = ["rewards", "audit", "nano_grpo", "--data", "nowhere", "--out", str(tmp_path / "taken")]
    assert main(argv) == 2
    assert "taken: cannot be a folder" in capsys.readouterr().err


def test_samples_of_another_dataset_are_refused(
    notices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = tmp_path / "groups.jsonl"
    groups.write_text('{"page": "ffffffff:p1", "samples": [{"text": "a", "finish": "stop", "tokens": 1}]}\n')
    argv = ["rewards", "audit", "nano_grpo", "--data", str(notices), "--samples", str(groups)]
    assert main(argv) == 2
    assert "none of its groups is of a page of" in capsys.readouterr().err
    groups.write_text('{"page": "ffffffff:p1"}\n')
    assert main(argv) == 2
    assert f"{groups}:1:" in capsys.readouterr().err
