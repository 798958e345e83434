"""`ocr-rl bench`: the public figures, by hand; what is missing, broken or mixed up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocr_rl.contract import UserError
from ocr_rl.evaluate import bench as bench_module
from ocr_rl.evaluate.bench import bench, with_baseline
from ocr_rl.evaluate.report import read_candidates
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.workers import Refusal
from tests.evaluate.scripted import whole

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "olmocr_bench" / "sample_data"


# --- the public figures -----------------------------------------------------------------------------------------------


def test_a_baseline_test_is_added_to_each_pdf_without_one(data: Path) -> None:
    pages = with_baseline(load_dataset(data), data / "pdfs")
    assert [(page.pdf.name, page.number, [check.id for check in page.checks]) for page in pages] == [
        ("a.pdf", 1, ["a1", "a2", "a.pdf_baseline"]),
        ("c.pdf", 1, ["c1"]),
        ("b.pdf", 1, ["sub/b.pdf_baseline"]),
        ("b.pdf", 2, ["b1"]),
    ]
    assert pages[2].id == pages[3].id.replace(":p2", ":p1")


def test_files_majorities_and_the_mean_over_files(data: Path, tmp_path: Path) -> None:
    """By hand: one.jsonl 1 of 2 (a1 passes in 1 of 2 repeats, no majority), two.jsonl 1 of 2, baseline 2 of 2."""
    folder = whole(tmp_path / "mine", a_pg1_repeat2="other words")
    bench(data, out=tmp_path / "out", candidates=[str(folder)], workers=1)
    report = json.loads((tmp_path / "out/report.json").read_text())
    score = report["benchmark"]["mine"]
    assert score["by_file"] == {"baseline": [2, 2], "one.jsonl": [1, 2], "two.jsonl": [1, 2]}
    assert score["overall"]["mean"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert score["by_type"] == {"absent": 1.0, "baseline": 1.0, "present": (1 / 2 + 0) / 2}
    assert set(score["overall"]) >= {"low", "high"} and "two.jsonl" in (tmp_path / "out/report.md").read_text()


def test_two_candidates_are_compared_and_named(data: Path, tmp_path: Path, in_process: None) -> None:
    first, second = whole(tmp_path / "x/model"), whole(tmp_path / "y/model", a_pg1_repeat1="hello world, good night")
    with pytest.raises(UserError, match="two candidates are called 'model'"):
        bench(data, out=tmp_path / "out", candidates=[str(first), str(second)])
    text = bench(data, out=tmp_path / "out", candidates=[f"old={first}", f"new={second}"], workers=1)
    assert "new against old" in text and "1 / 0" in text  # one test fixed, none broken


def test_front_matter_of_a_file_is_judged_unless_it_is_stripped(data: Path, tmp_path: Path, in_process: None) -> None:
    """As the public code does: the file's whole text is searched, also by the test that "hello world" be absent."""
    block = "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\nis_table: False\n"
    block += "is_diagram: hello world\n---\n"
    folder = whole(tmp_path / "mine", **{"sub/b_pg2_repeat1": f"{block}other words"})
    report = bench(data, out=tmp_path / "out", candidates=[str(folder)], workers=1)
    assert "in 1 of 4 files; judged with the rest" in report
    row = next(row for row in read_candidates(tmp_path / "out/report.json")["mine"] if row.page.endswith(":p2"))
    assert row.text.startswith("---") and not row.checks[0].passed
    report = bench(data, out=tmp_path / "out", candidates=[str(folder)], workers=1, front_matter="strip")
    assert "in 1 of 4 files; left out" in report
    row = next(row for row in read_candidates(tmp_path / "out/report.json")["mine"] if row.page.endswith(":p2"))
    assert row.text == "other words" and row.checks[0].passed
    clean = whole(tmp_path / "clean")
    assert "front matter" not in bench(data, out=tmp_path / "out2", candidates=[str(clean)], workers=1)


# --- what is missing or broken ----------------------------------------------------------------------------------------


def test_a_missing_page_is_an_error_or_fails_all_its_tests(data: Path, tmp_path: Path, in_process: None) -> None:
    folder = whole(tmp_path / "mine")
    (folder / "sub/b_pg2_repeat1.md").unlink()
    (folder / "c_pg1_repeat1.md").unlink()
    with pytest.raises(UserError, match=r"no transcript of 2 of 4 pages, the first is c_pg1_repeat1\.md"):
        bench(data, out=tmp_path / "out", candidates=[str(folder)])
    text = bench(data, out=tmp_path / "out", candidates=[str(folder)], missing="fail", workers=1)
    rows = {row.page[-2:] + row.text: row for row in read_candidates(tmp_path / "out/report.json")["mine"]}
    absent = rows["p2"].checks[0]  # an empty text would pass it, but there is no text
    assert (absent.id, absent.passed, absent.why) == ("b1", False, "no transcript: there is no file for this page")
    assert "b.pdf, page 2: there is no file for this page" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "name at least one"),
        ({"candidates": ["nowhere"]}, "nowhere: there is no such folder"),
        ({"models": ["nano"], "repeats": 0}, "--repeats must be at least 1"),
        ({"models": ["nano"], "repeats": 2, "temperature": 0.0}, "gives one transcript 2 times"),
        ({"models": ["nano"], "temperature": 99.0}, "--temperature must be 0"),
        ({"engines": ["tesserakt"]}, "no plug-in 'tesserakt'"),
    ],
)
def test_wrong_arguments_are_one_sentence(data: Path, tmp_path: Path, arguments: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        bench(data, out=tmp_path / "out", **arguments)


def test_a_page_that_cannot_be_judged_fails_alone(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def guarded(function: Any, jobs: Any, **_: Any) -> Iterator[Any]:
        for job in jobs:
            yield job, Refusal("it took too long") if job.page.pdf.stem == "c" else function(job)

    monkeypatch.setattr(bench_module, "guarded", guarded)
    bench(data, out=tmp_path / "out", candidates=[str(whole(tmp_path / "mine"))])
    rows = read_candidates(tmp_path / "out/report.json")["mine"]
    why = {check.id: check.why for row in rows for check in row.checks if not check.passed}
    assert why["c1"] == "the page could not be judged: it took too long" and "sub/b.pdf_baseline" not in why
    assert "other words" in [row.text for row in rows]  # its transcript is kept for the report


# --- real data --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared collection of real PDFs is not beside the checkout")
def test_the_public_sample_and_its_outputs(tmp_path: Path) -> None:
    bench(SHARED, out=tmp_path, candidates=[str(SHARED / "olmocr_pipeline")], workers=2)
    score = json.loads((tmp_path / "report.json").read_text())["benchmark"]["olmocr_pipeline"]
    tests = {file.name: file.read_text("utf-8").splitlines() for file in SHARED.glob("*.jsonl")}
    own = {json.loads(line)["pdf"] for lines in tests.values() for line in lines if '"baseline"' in line}
    num_pdfs = len(list((SHARED / "pdfs").rglob("*.pdf")))
    assert {file: total for file, (_, total) in score["by_file"].items()} == {
        **{name: sum(bool(line.strip()) for line in lines) for name, lines in tests.items()},
        "baseline": num_pdfs - len(own),
    }
