"""`ocr-rl bench` of policies: attempts and repeats; a killed run goes on and does nothing twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate import journal
from ocr_rl.evaluate.bench import bench
from ocr_rl.evaluate.report import read_candidates
from ocr_rl.pages.dataset import write_tests
from ocr_rl.rollout.flow import Prompt
from ocr_rl.rollout.sampler.base import Sampling
from tests.evaluate.scripted import a_test, whole, write


def test_first_attempts_and_retries_are_scored_apart(data: Path, tmp_path: Path, policy: Any, model: str) -> None:
    policy(lambda page, prompt, how: "hello world, good night" if how.temperature else "he...")
    text = bench(data, out=tmp_path / "out", models=[model], workers=1)
    scores = json.loads((tmp_path / "out/report.json").read_text())["benchmark"]
    assert scores["mine, first attempt"]["by_file"]["two.jsonl"] == [1, 2]
    assert scores["mine, with retries"]["by_file"]["two.jsonl"] == [2, 2]
    assert "4 of 4 pages asked again, 0 of them turned" in text and "tokens a second" in text
    assert "before a page image of 1288 px, up to 4,096 tokens" in text


def test_the_report_says_how_a_policy_was_asked(data: Path, tmp_path: Path, policy: Any, model: str) -> None:
    policy(lambda page, prompt, how: "hello world")
    asked = {"preset": "reducto/RolmOCR", "instruction": "Read it."}
    text = bench(data, out=tmp_path / "out", models=[model], workers=1, **asked)
    assert '"Read it." after a page image of 1024 px, up to 4,096 tokens' in text
    with pytest.raises(UserError, match="was begun with longest_px 1024, which is now 1288"):
        bench(data, out=tmp_path / "out", models=[model], workers=1)


def test_repeats_are_sampled_and_the_majority_counts(data: Path, tmp_path: Path, policy: Any, model: str) -> None:
    sampler = policy(lambda page, prompt, how: "hello world" if how.seed in (0, 2000) else "other words")
    bench(data, out=tmp_path / "out", models=[model], repeats=3, workers=1)
    assert len(sampler.calls) == 12 and {heat for _, heat, _ in sampler.calls} == {0.7}
    score = json.loads((tmp_path / "out/report.json").read_text())["benchmark"]["mine"]
    assert score["by_file"]["one.jsonl"] == [1, 2]  # a1 in 2 of 3 passes; b1, absent, in 1 of 3 fails
    assert score["by_type"]["absent"] == pytest.approx(1 / 3)


def test_a_page_that_cannot_be_drawn_is_named_and_fails(data: Path, tmp_path: Path, policy: Any, model: str) -> None:
    (data / "pdfs/a.pdf").rename(data / "pdfs/odd.pdf")
    for file in ("one.jsonl", "two.jsonl"):
        (data / file).write_text((data / file).read_text().replace('"a.pdf"', '"odd.pdf"'))
    policy(lambda page, prompt, how: "hello world")
    text = bench(data, out=tmp_path / "out", models=[model], workers=1)
    rows = read_candidates(tmp_path / "out/report.json")["mine"]
    failed = [row for row in rows if row.finish == "abort"]
    assert len(failed) == 1 and not any(check.passed for check in failed[0].checks)
    assert "odd.pdf, page 1: it is odd" in text


# --- killed and gone on with ------------------------------------------------------------------------------------------


def killed_after(rows: int) -> Callable[[Path, Any], None]:
    """`journal.append` in a process that dies in the middle of the line after `rows` whole ones."""
    whole = journal.append
    left = [rows]

    def append(path: Path, row: Any) -> None:
        if left[0] == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(row)[:-5])
            raise KeyboardInterrupt
        left[0] -= 1
        whole(path, row)

    return append


def test_a_killed_run_goes_on_and_does_nothing_twice(
    data: Path, tmp_path: Path, policy: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(page: Page, prompt: Prompt, how: Sampling) -> str:
        return f"hello world {page.pdf.name} {page.number}"

    policy(script)
    bench(data, out=tmp_path / "whole", models=[model], workers=1)
    sampler = policy(script)
    for rows in (3, 3):  # killed in the fourth answer, then in the third verdict, each time in the middle of a line
        with monkeypatch.context() as patch:
            patch.setattr(journal, "append", killed_after(rows))
            with pytest.raises(KeyboardInterrupt):
                bench(data, out=tmp_path / "out", models=[model], workers=1)
    bench(data, out=tmp_path / "out", models=[model], workers=1)
    assert read_candidates(tmp_path / "out/report.json") == read_candidates(tmp_path / "whole/report.json")
    for name in ("answers", "verdicts"):
        lines = (tmp_path / f"out/candidates/mine/{name}.jsonl").read_text().splitlines()
        assert len(lines) == len({json.loads(line)["page"] for line in lines}) == 4

    calls = len(sampler.calls)
    monkeypatch.setattr(journal, "append", killed_after(0))
    bench(data, out=tmp_path / "out", models=[model], workers=1)
    assert len(sampler.calls) == calls


def test_a_run_does_not_go_on_with_other_settings(data: Path, tmp_path: Path, policy: Any, model: str) -> None:
    policy(lambda page, prompt, how: "hello world")
    bench(data, out=tmp_path / "out", models=[model], workers=1)
    with pytest.raises(UserError, match="reading 'compatible', which is now 'strict'"):
        bench(data, out=tmp_path / "out", models=[model], reading="strict")
    with pytest.raises(UserError, match="repeats 1, which is now 2"):
        bench(data, out=tmp_path / "out", models=[model], repeats=2)
    write_tests(data / "three.jsonl", [a_test("a3", "a.pdf")])
    with pytest.raises(UserError, match="begun with tests"):
        bench(data, out=tmp_path / "out", models=[model])


def test_an_edited_transcript_is_judged_again(data: Path, tmp_path: Path, in_process: None) -> None:
    folder = whole(tmp_path / "mine")
    for text, passed in (("hello world", True), ("goodbye", False), ("hello world", True)):
        write(folder, a_pg1_repeat1=text)
        bench(data, out=tmp_path / "out", candidates=[str(folder)], workers=1)
        assert read_candidates(tmp_path / "out/report.json")["mine"][0].checks[0].passed is passed
