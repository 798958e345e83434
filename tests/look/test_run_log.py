"""What is read of a run: of this version, of older ones, and of one that is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr_rl.contract import UserError
from ocr_rl.look.run_log import open_run, pages_of, read_step
from tests.look.conftest import TEXTS, Write, add_step, group


def test_a_group_of_this_version(write_run: Write, page_id: str) -> None:
    (siblings,), flaws = read_step(write_run() / "groups" / "000001.jsonl")
    assert flaws == []
    assert siblings.page_id == page_id and siblings.texts == TEXTS
    assert siblings.rewards == (1.0, 0.5, 0.0) and siblings.advantages == (1.2, -0.2, -1.0)
    assert siblings.scores["repetition"] == (1.0, 1.0, 0.5) and siblings.parts["pass_rate"]["present"] == (1, 0, 0)
    assert siblings.whys == {0: {"pass_rate": "2 of 2"}, 2: {"pass_rate": "1 of 2"}}
    assert siblings.traces[0] is not None and siblings.traces[1] is None


def test_a_group_of_an_older_version_has_rewards_of_its_best_and_worst(tmp_path: Path) -> None:
    row = {key: value for key, value in group("a:p1").items() if key in ("page", "best", "worst", "samples")}
    (tmp_path / "1.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (siblings,), _ = read_step(tmp_path / "1.jsonl")
    assert siblings.rewards == (1.0, None, 0.0) and siblings.advantages == (1.2, None, -1.0)
    assert siblings.scores == {}


def test_front_matter_is_no_part_of_what_tests_judge(tmp_path: Path) -> None:
    row = {"page": "a:p1", "samples": [{"text": "---\nis_table: False\n---\nbody", "finish": "stop", "tokens": 3}]}
    (tmp_path / "1.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (siblings,), _ = read_step(tmp_path / "1.jsonl")
    assert siblings.bodies == ["body"] and siblings.rewards == (None,)


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        "{}",
        '{"page": "a:p1", "samples": []}',
        '{"page": "a:p1", "samples": [{"text": 3}]}',
        '{"page": "a:p1", "samples": [7]}',
        '{"page": "a:p1", "samples": [{"text": "x"}], "rewards": [1, 2]}',
        '{"page": "a:p1", "samples": [{"text": "x"}], "scores": {"r": 3}}',
        '{"page": "a:p1", "samples": [{"text": "x", "tokens": "many"}]}',
        '{"page": "a:p1", "samples": [{"text": "x", "tokens": 1e999}]}',
    ],
)
def test_a_line_that_is_no_group_costs_itself_alone(tmp_path: Path, line: str) -> None:
    (tmp_path / "000001.jsonl").write_text(f"{line}\n{json.dumps(group('a:p1'))}\n", encoding="utf-8")
    groups, flaws = read_step(tmp_path / "000001.jsonl")
    assert len(groups) == 1
    assert len(flaws) == 1 and flaws[0].startswith("000001.jsonl, line 1: ")


def test_a_number_that_is_none_is_unknown(tmp_path: Path) -> None:
    row = group("a:p1") | {"rewards": [float("nan"), 1e999, True]}
    (tmp_path / "1.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (siblings,), _ = read_step(tmp_path / "1.jsonl")
    assert siblings.rewards == (None, None, None)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"grpo": {}}', '{"grpo": {"steps": "x"}}'])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="holds no config.json of a run"):
        open_run(tmp_path)


def test_sft_counts_the_steps_of_its_stages(write_run: Write) -> None:
    run = open_run(write_run(recipe={"sft": {"stages": [{"steps": 3}, {"steps": 4}]}}))
    assert (run.algorithm, run.total, run.sources) == ("sft", 7, {})


def test_pages_that_are_gone_are_a_sentence(write_run: Write, tmp_path: Path) -> None:
    run = open_run(write_run())
    pages, note = pages_of(run, "", run.sources[""])
    assert len(pages) == 1 and note == ""
    (tmp_path / "data" / "pdfs" / "a.pdf").unlink()
    pages, note = pages_of(run, "", run.sources[""])
    assert pages == {} and note.startswith("the pages cannot be opened, so there are no images and no tests: ")


def test_half_a_line_of_metrics_is_left_out(write_run: Write, page_id: str) -> None:
    folder = write_run()
    add_step(folder, 3, page_id)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as lines:
        lines.write('{"step": 4, "rew')
    assert [row["step"] for row in open_run(folder).metrics()] == [1, 2, 3]


def test_a_number_too_large_to_be_one_is_unknown(write_run: Write) -> None:
    run = write_run()
    digits, trace = "9" * 400, '{"n": 1e999, "keeps": [], "data": ""}'
    path = run / "groups" / "000001.jsonl"
    path.write_text(f'{{"page": "a:p1", "samples": [{{"text": "x", "trace": {trace}}}], "rewards": [{digits}]}}\n')
    (siblings,), flaws = read_step(path)
    assert flaws == [] and siblings.rewards == (None,) and siblings.traces == (None,)
    (run / "metrics.jsonl").write_text(f'{{"step": {digits}}}\n{{"step": 1, "reward": {digits}}}\n')
    assert [row["step"] for row in open_run(run).metrics()] == [1]


def test_pages_that_are_not_there_are_not_typeset(write_run: Write) -> None:
    typeset = {"synth": "notice", "n": 2, "seed": 1}
    run = open_run(write_run(recipe={"grpo": {"steps": 2, "pages": typeset}}))
    pages, note = pages_of(run, "", run.sources[""])
    assert pages == {} and "is not there" in note
    assert not (run.folder / "pages").exists()
