from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.figures import compare, summary, tallies
from ocr_rl.evaluate.results import CheckVerdict, PageResult, from_json, judge_page, read_rows, to_json, write_rows
from ocr_rl.plugins import load_reward
from ocr_rl.text.checks import load_check


def page(reference: str | None = "The cat sat.\n\nOn the mat.") -> Page:
    tests = [
        {"id": "cat", "type": "present", "text": "cat sat"},
        {"id": "dog", "type": "absent", "text": "dog"},
        {"id": "far", "type": "present", "text": "zebra crossing"},
    ]
    checks = [load_check({"pdf": "x.pdf", "page": 1, **test}) for test in tests]
    return Page(id="abcd1234:p1", pdf=Path("x.pdf"), number=1, reference=reference, checks=checks, tags=frozenset("ba"))


def transcript(body: str) -> Transcript:
    return Transcript(raw="---\n---\n" + body, body=body, finish="stop", num_tokens=7)


def row(page: str, passed: Sequence[bool], type_: str = "present", **more) -> PageResult:
    checks = tuple(CheckVerdict(id=f"{page}/{n}", type=type_, passed=ok) for n, ok in enumerate(passed))
    return PageResult(page=page, checks=checks, **{"finish": "stop", "num_tokens": 10, "text": "", **more})


def test_grade_by_hand():
    found = judge_page(page(), transcript("The bat sat. On the mat."))
    assert [(c.id, c.type, c.passed) for c in found.checks] == [
        ("cat", "present", False),
        ("dog", "absent", True),
        ("far", "present", False),
    ]
    assert "cat sat" in found.checks[0].why and found.checks[1].why == ""
    assert found.pass_rate == pytest.approx(1 / 3)
    assert found.cer == pytest.approx(1 / 24)  # one of 24 characters; the paragraph break is only white space
    assert found.wer == pytest.approx(1 / 6)
    assert found.diff_ratio == pytest.approx(1 - 5 / 49)  # bat/cat: 2, two line ends and a space: 3; lengths 25 + 24
    assert found.bleu is not None and 0.5 < found.bleu < 1
    assert (found.page, found.document, found.tags) == ("abcd1234:p1", "abcd1234", ("a", "b"))


def test_perfect_and_empty_transcripts():
    perfect = judge_page(page(), transcript("The cat sat.\n\nOn the mat."))
    assert (perfect.bleu, perfect.diff_ratio, perfect.cer, perfect.wer) == (pytest.approx(1.0), 1.0, 0.0, 0.0)
    empty = judge_page(page(), transcript(""))
    assert (empty.bleu, empty.diff_ratio, empty.cer, empty.wer) == (0.0, 0.0, 1.0, 1.0)
    blank = judge_page(page(reference=""), transcript(""))
    assert (blank.bleu, blank.diff_ratio, blank.cer, blank.wer) == (1.0, 1.0, 0.0, 0.0)


def test_no_reference_no_similarity():
    found = judge_page(page(reference=None), transcript("The cat sat."))
    assert (found.bleu, found.diff_ratio, found.cer, found.wer) == (None, None, None, None)
    assert found.pass_rate == pytest.approx(2 / 3)


class Broken:
    id, type = "broken", "present"

    def run(self, prepared: object, reading: str):
        raise IndexError("row 3")


def test_a_check_that_raises_fails_alone_and_is_named():
    whole = page()
    found = judge_page(replace(whole, checks=[*whole.checks, Broken()]), transcript("The cat sat."))
    assert [check.passed for check in found.checks] == [True, True, False, False]
    assert found.checks[3].why == "the test itself broke: IndexError: row 3"


def test_rows_survive_the_disk(tmp_path: Path):
    rows = [judge_page(page(), transcript("The \ud800 cat \u2028 sat\n")), row("b:p2", [], finish="length")]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows
    assert from_json(to_json(rows[0])) == rows[0]


@pytest.mark.parametrize("line, says", [("{not json", "line 2: not JSON"), ('{"page": "a"}', "line 2: not a row")])
def test_broken_rows_name_the_line(tmp_path: Path, line: str, says: str):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row("a:p1", [True])])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=says):
        read_rows(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(tmp_path / "none.jsonl")


def test_summary_by_hand():
    rows = [
        row("a:p1", [True, True, False, False], bleu=0.5),
        row("b:p1", [True], "table", finish="length", num_tokens=30),
        row("c:p1", []),
    ]
    found = summary(rows, draws=100)
    means = {name: interval.mean for name, interval in found.metrics.items()}
    assert (found.pages, found.tests, found.transcripts) == (3, 5, 3)
    assert means == pytest.approx(
        {"pass_rate": 0.75, "tests": 0.6, "bleu": 0.5, "stopped": 2 / 3, "num_tokens": 50 / 3}
    )
    assert {type_: interval.mean for type_, interval in found.by_type.items()} == {"present": 0.5, "table": 1.0}
    assert found.metrics["pass_rate"].clusters == 2  # a page without tests has no share


def test_documents_as_clusters():
    rows = [row("a:p1", [True]), row("a:p2", [True]), row("b:p1", [False])]
    assert summary(rows, draws=50).metrics["pass_rate"].clusters == 3
    found = summary(rows, cluster="document", draws=50).metrics["pass_rate"]
    assert found.clusters == 2 and found.mean == pytest.approx(2 / 3)


def test_summary_of_nothing_is_an_error():
    with pytest.raises(UserError, match="no graded transcripts"):
        summary([])


def test_compare_by_hand():
    before = [row(f"{n}:p1", [True, False]) for n in range(20)]
    after = [row(f"{n}:p1", [n > 0, True]) for n in range(20)]
    found = compare(before, after, draws=100, permutations=200)
    change = found.metrics["pass_rate"]
    assert change.difference.mean == pytest.approx(0.475) and change.difference.low > 0
    assert (change.fixed, change.broken) == (20, 1) and change.p < 0.01 and change.p_holm is None
    assert found.by_type["present"].p_holm == change.p  # one type: nothing to adjust
    assert found.metrics["num_tokens"].difference.mean == 0 and found.metrics["num_tokens"].p == 1.0
    assert "bleu" not in found.metrics


def test_holm_runs_over_the_types():
    before = [row(f"{n}:p1", [False], "present") for n in range(12)] + [
        row(f"{n}:p2", [False], "table") for n in range(12)
    ]
    after = [row(f"{n}:p1", [True], "present") for n in range(12)] + [
        row(f"{n}:p2", [n > 5], "table") for n in range(12)
    ]
    found = compare(before, after, draws=50, permutations=999).by_type
    assert found["present"].p_holm == pytest.approx(2 * found["present"].p)
    assert found["table"].p_holm == pytest.approx(max(found["table"].p, 2 * found["present"].p))


def test_compare_needs_the_same_pages_and_tests():
    with pytest.raises(UserError, match="the first: page b:p1, no test"):
        compare([row("a:p1", [True])], [row("a:p1", [True]), row("b:p1", [True])])
    with pytest.raises(UserError, match="the first: page a:p1, a:p1/1"):
        compare([row("a:p1", [True, True])], [row("a:p1", [True])])


def test_figures_of_one_side_only_are_left_out():
    found = compare([row("a:p1", [True], bleu=0.5)], [row("a:p1", [True])], draws=20, permutations=20)
    assert "bleu" not in found.metrics and "pass_rate" in found.metrics


def test_tallies_add_up_repeats():
    rows = [row("a:p1", [True, False]), row("a:p1", [True, True], repeat=2)]
    found = tallies(rows, {"a:p1/0": "text.jsonl"})
    assert [(t.id, t.file, t.page, t.passes, t.repeats) for t in found] == [
        ("a:p1/0", "text.jsonl", "a:p1", 2, 2),
        ("a:p1/1", "baseline", "a:p1", 1, 2),
    ]


@pytest.mark.parametrize("body", ["The bat sat. On the mat.", "", "dog", "The cat sat.", "-- abcdeXghijkl --"])
def test_trap_19_training_and_evaluation_score_alike(body: str) -> None:
    said = transcript(body)
    near = {"pdf": "x.pdf", "page": 1, "id": "near", "type": "present", "text": "abcdefghijkl", "max_diffs": 1}
    asked = replace(page(), checks=(*page().checks, load_check(near)))  # one that passes by the strict reading alone
    (learnt_from,) = load_reward("pass_rate")(asked, [said])
    passed = [row.passed for row in judge_page(asked, said, "strict").checks]
    assert learnt_from.value == pytest.approx(sum(passed) / len(passed))
