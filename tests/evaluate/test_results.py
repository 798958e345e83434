"""A page result: verdicts and similarities by hand, and rows that survive the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.results import from_json, judge_page, read_rows, to_json, write_rows
from ocr_rl.plugins import load_reward
from ocr_rl.text.checks import load_check
from tests.evaluate.rows import row


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


def test_a_page_by_hand():
    result = judge_page(page(), transcript("The bat sat. On the mat."))
    assert [(c.id, c.type, c.passed) for c in result.checks] == [
        ("cat", "present", False),
        ("dog", "absent", True),
        ("far", "present", False),
    ]
    assert "cat sat" in result.checks[0].why and result.checks[1].why == ""
    assert result.pass_rate == pytest.approx(1 / 3)
    assert result.cer == pytest.approx(1 / 24)  # one of 24 characters; the paragraph break is only white space
    # one of 12 letters of the first block, which holds 10 of the 19 visible ones
    assert result.elements == result.text_blocks == pytest.approx(1 - 10 / 19 / 12)
    assert (result.teds, result.teds_structure, result.formulas, result.order) == (None, None, None, 1.0)
    assert result.wer == pytest.approx(1 / 6)
    assert result.diff_ratio == pytest.approx(1 - 2 / 48)  # bat/cat; white space elsewhere is the same
    assert result.bleu is not None and 0.5 < result.bleu < 1
    assert (result.page, result.document, result.tags) == ("abcd1234:p1", "abcd1234", ("a", "b"))


def test_perfect_and_empty_transcripts():
    perfect = judge_page(page(), transcript("The cat sat.\n\nOn the mat."))
    assert (perfect.bleu, perfect.diff_ratio, perfect.cer, perfect.wer) == (pytest.approx(1.0), 1.0, 0.0, 0.0)
    empty = judge_page(page(), transcript(""))
    assert (empty.bleu, empty.diff_ratio, empty.cer, empty.wer) == (0.0, 0.0, 1.0, 1.0)
    blank = judge_page(page(reference=""), transcript(""))
    assert (blank.bleu, blank.diff_ratio, blank.cer, blank.wer) == (1.0, 1.0, 0.0, 0.0)


def test_no_reference_no_similarity():
    result = judge_page(page(reference=None), transcript("The cat sat."))
    assert (result.bleu, result.diff_ratio, result.cer, result.wer) == (None, None, None, None)
    assert result.pass_rate == pytest.approx(2 / 3)


class Broken:
    id, type = "broken", "present"

    def run(self, prepared: object, reading: str):
        raise IndexError("row 3")


def test_a_check_that_raises_fails_alone_and_is_named():
    whole = page()
    result = judge_page(replace(whole, checks=[*whole.checks, Broken()]), transcript("The cat sat."))
    assert [check.passed for check in result.checks] == [True, True, False, False]
    assert result.checks[3].why == "the test itself broke: IndexError: row 3"


def test_rows_survive_the_disk(tmp_path: Path):
    rows = [judge_page(page(), transcript("The \ud800 cat \u2028 sat\n")), row("b:p2", [], finish="length")]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows
    assert from_json(to_json(rows[0])) == rows[0]
    of_before = {name: value for name, value in to_json(rows[0]).items() if name not in ("elements", "teds", "order")}
    assert from_json(of_before).bleu == rows[0].bleu and from_json(of_before).elements is None


@pytest.mark.parametrize("line, says", [("{not json", "line 2: not JSON"), ('{"page": "a"}', "line 2: not a row")])
def test_broken_rows_name_the_line(tmp_path: Path, line: str, says: str):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row("a:p1", [True])])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=says):
        read_rows(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(tmp_path / "none.jsonl")


@pytest.mark.parametrize("body", ["The bat sat. On the mat.", "", "dog", "The cat sat.", "-- abcdeXghijkl --"])
def test_trap_19_training_and_evaluation_score_alike(body: str) -> None:
    text = transcript(body)
    near = {"pdf": "x.pdf", "page": 1, "id": "near", "type": "present", "text": "abcdefghijkl", "max_diffs": 1}
    tested = replace(page(), checks=(*page().checks, load_check(near)))  # one that passes by the strict reading alone
    (score,) = load_reward("pass_rate")(tested, [text])
    passed = [row.passed for row in judge_page(tested, text, "strict").checks]
    assert score.value == pytest.approx(sum(passed) / len(passed))
