"""Suspicion by hand: what samples say against a test, and how much that makes it likely that the test is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocr_rl.cli import main
from ocr_rl.contract import Transcript
from ocr_rl.evaluate.contradictions import THERE, TURNED, contradictions
from ocr_rl.evaluate.suspects import Look, held_by_most, look_at, suspicion, suspicions
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.synth.make import make_dataset
from ocr_rl.text.checks import load_check, prepare

TEXT = "# The garden\n\nNina Berg paid 12.50 for the spade.\n\nThe rake was dear.\n"
TABLE = "<table><tr><th>Item</th><th>Cost</th></tr><tr><td>spade</td><td>41</td></tr></table>"


def against(transcript: str = TEXT, /, **fields: Any) -> set[str]:
    check = load_check({"pdf": "a.pdf", "page": 1, "id": "a", **fields})
    prepared = prepare(transcript)
    return set(contradictions(check, prepared, check.run(prepared, "strict")))


def test_what_passes_is_not_contradicted() -> None:
    assert against(type="present", text="paid 12.50 for") == set()


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("paid 13.50 for", {"letter 2 of '13.50' is '2'"}),
        ("paid 1.50 for", {"'2' stands before letter 2 of '1.50'"}),
        ("paid 122.50 for", {"letter 3 of '122.50' is missing"}),
        (
            "paid 12.50forthe",
            {"' ' stands before letter 6 of '12.50forthe'", "' ' stands before letter 9 of '12.50forthe'"},
        ),
        ("paid, 12.50", {"letter 5 of 'paid,' is missing"}),
        ("paid 12.5 for", {"'0' stands before what follows '12.5'"}),
        ("xaid 12.50 fox", {"letter 1 of 'xaid' is 'p'", "letter 3 of 'fox' is 'r'"}),
        ("quarterly council report", {f"{word!r} stands nowhere" for word in ("quarterly", "council", "report")}),
    ],
)
def test_a_text_is_contradicted_letter_by_letter(text: str, statements: set[str]) -> None:
    assert against(type="present", text=text) == statements


def test_samples_that_misread_more_share_the_one_letter() -> None:
    misread = TEXT.replace("paid", "psid").replace("Berg", "Borg")
    shared = against(type="present", text="Berg paid 13.50 for the") & against(
        misread, type="present", text="Berg paid 13.50 for the"
    )
    assert shared == {"letter 2 of '13.50' is '2'"}


def test_an_order_is_contradicted_by_the_other_one_even_where_a_letter_is_misread() -> None:
    fields = {"type": "order", "before": "The rake was dear", "after": "Nina Berg paid"}
    assert against(**fields) == {TURNED}
    assert against(TEXT.replace("rake", "rahe"), **fields) == {TURNED, "letter 3 of 'rake' is 'h'"}
    assert against(type="order", before="Nina Borg paid", after="The rake was") == {"letter 2 of 'Borg' is 'e'"}


def test_absent_format_and_table() -> None:
    assert against(type="absent", text="Nina Berg") == {THERE}
    assert against(type="format", format="heading", text="The gardon") == {"letter 5 of 'gardon' is 'e'"}
    assert against(type="format", format="bold", text="The garden") == {"piece 'The garden' is nothing"}
    assert against(TABLE, type="table", cell="spade", right="42") == {"right '42' is '41'"}
    assert against(TABLE, type="table", cell="spabe", right="41") == {"letter 4 of 'spabe' is 'd'"}
    assert against(TABLE, type="table", cell="spade", left="41") == {"left '41' is nothing"}
    assert against(type="table", cell="spade", right="41") == {"there is no table"}


@pytest.mark.parametrize("text", ["", "\ud800", "x" * 200_001, "<table>" * 20_000, "|a" * 50_000, "ab " * 60_000])
def test_any_text_may_stand_against_any_test(text: str) -> None:
    for fields in (
        {"type": "present", "text": "ab ac ad ab"},
        {"type": "order", "before": "ab ac", "after": "ac ab"},
        {"type": "table", "cell": "a", "up": "b", "top_heading": "c"},
        {"type": "format", "format": "bold", "text": "ab"},
        {"type": "baseline"},
    ):
        check = load_check({"pdf": "a.pdf", "page": 1, "id": "a", **fields})
        prepared = prepare(text)
        verdict = check.run(prepared, "strict")
        assert bool(contradictions(check, prepared, verdict)) != verdict.passed


# ---- suspicion

YES = Look(passed=True, degree=1.0)


def no(*statements: str, degree: float = 0.5, reading: str = "r") -> Look:
    return Look(passed=False, degree=degree, against=statements, reading=reading)


def test_all_samples_fail_alike_and_read_the_rest_perfectly() -> None:
    row = suspicion("a", [no("x"), no("x", "y"), no("x"), no("x")], [1.0] * 4)
    assert (row.value, row.failing, row.agreement, row.standing, row.against) == (1.0, 1.0, 1.0, 1.0, "x")


def test_failing_share_times_agreement_times_standing() -> None:
    row = suspicion("a", [no("x"), no("x"), no("y"), YES], [0.5] * 4)
    assert row.failing == 0.75 and row.agreement == 2 / 3 and row.standing == 0.5
    assert row.value == 0.25  # 0.75 * 2/3 * 0.5


def test_a_sample_counts_by_how_well_it_reads() -> None:
    row = suspicion("a", [no("x"), no("y"), no("y")], [0.9, 0.2, 0.1])
    assert row.against == "x" and row.value == pytest.approx(0.3)  # 0.9 / 3, against (0.2 + 0.1) / 3


def test_a_contradiction_of_several_tests_is_a_hard_place_rather() -> None:
    row = suspicion("a", [no("x")] * 2, [1.0] * 2, {"x": 3})
    assert (row.value, row.tests) == (1 / 3, 3)
    assert suspicion("a", [no(THERE)] * 2, [1.0] * 2, {THERE: 3}).value == 1.0  # it says nothing of a place


def test_a_test_that_passes_is_not_suspect() -> None:
    row = suspicion("a", [YES, YES], [1.0, 1.0])
    assert (row.value, row.agreement, row.against, row.readings) == (0.0, 0.0, "", [])


def test_standing_is_the_degree_on_the_other_tests() -> None:
    rows = suspicions(["a", "b", "c"], [[no("x", degree=0.25), YES, no("z", degree=0.5)]])
    assert [row.standing for row in rows] == [0.75, 0.375, 0.625]


def test_readings_are_counted() -> None:
    row = suspicion("a", [no("x", reading="one"), no("x", reading="two"), no("x", reading="two")], [1.0] * 3)
    assert row.readings == [("two", 2), ("one", 1)]


def test_what_half_of_the_samples_hold() -> None:
    assert held_by_most([no("x", "y"), no("x"), no("z"), YES]) == {"x"}


def test_a_wrong_test_stands_before_hard_ones() -> None:
    tests = [
        {"type": "present", "text": "paid 13.50 for the spade"},  # wrong
        {"type": "present", "text": "Nina Berg paid"},
        {"type": "present", "text": "The rake was dear"},
        {"type": "order", "before": "Nina Berg", "after": "The rake"},
    ]
    checks = [load_check({"pdf": "a.pdf", "page": 1, "id": str(k), **test}) for k, test in enumerate(tests)]
    bodies = [TEXT.replace("rake", word) for word in ("rahe", "rakc", "take", "rake")]
    samples = [Transcript(raw=body, body=body, finish="stop", num_tokens=9) for body in bodies]
    values = {row.id: row.value for row in suspicions([check.id for check in checks], look_at(checks, samples))}
    assert max(values, key=lambda id_: values[id_]) == "0" and values["1"] == 0.0


def test_rank_lists_suspects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, samples, out = tmp_path / "data", tmp_path / "groups.jsonl", tmp_path / "suspects.jsonl"
    list(make_dataset("nano", n=2, seed=0, out=data))
    file = data / "nano.jsonl"
    lines = file.read_text().splitlines()
    wrong = json.loads(lines[0])
    assert wrong["type"] == "present"
    file.write_text("\n".join([json.dumps({**wrong, "text": "words of no page"}), *lines[1:]]) + "\n")
    pages = load_dataset(data)
    rows = [
        {"page": page.id, "samples": [{"text": page.reference, "finish": "stop", "tokens": 9}] * 2} for page in pages
    ]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    capsys.readouterr()
    assert main(["pages", "rank", str(data), str(samples), "--by", "suspect", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "1 that no sample passes; the 1 most suspect are listed" in said and wrong["id"] in said
    row = json.loads(out.read_text())
    assert (row["id"], row["file"], row["line"], row["number"]) == (wrong["id"], "nano.jsonl", 1, 1)
    assert row["test"]["text"] == "words of no page" and row["suspicion"] == 1.0
