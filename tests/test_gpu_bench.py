"""`make gpu`: a dry run of the parts, resuming, and the page that is written from their files."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import attention, engine
from benchmarks.gpu import page as of_page
from benchmarks.gpu import weights as of_weights
from benchmarks.gpu.page import BEGIN, END, NONE, PAGE, measured, read_results, results_text, write_page
from benchmarks.gpu.update import device_name
from ocr_rl.models.attention import attend, packing

ENVIRONMENT = {"date": "2026-11-29T10:00:00+00:00", "packages": {"torch": "2.13.0"}}
KNOWN = {"environment": ENVIRONMENT, "device": device_name(), "took_s": 61.0}


@pytest.mark.slow
def test_a_dry_run_goes_through_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's part as where it is not installed: its engine has tests of its own, and takes half a minute to start."""
    for part in (engine, of_weights):
        monkeypatch.setattr(part, "find_spec", lambda name: None)
    assert program.main(["--dry-run", "--out", str(tmp_path)]) == 0
    results = read_results(tmp_path)
    assert set(results) == set(program.NAMES)
    of = {name: answer["result"] for name, answer in results.items()}
    assert of["tests"]["failed"] == [] and of["tests"]["tests"] == of["tests"]["skipped"] > 0
    assert of["parity"]["holds"] and [case["dtype"] for case in of["parity"]["cases"]] == ["float32", "bfloat16"]
    assert [(case["shape"], case["trained"]) for case in of["update"]["cases"]] == [("tiny", "lora"), ("tiny", "all")]
    assert all(case["tokens_a_second"] > 0 and case["plan_gib"] > 0 for case in of["update"]["cases"])
    assert all(case["ratio"] > 0 for case in of["shared_page"]["cases"])
    measured = {case["kernel"]: case.get("distance") for case in of["attention"]["cases"]}
    assert measured["varlen_attn"] is measured["segments"] is None and measured["rectangles, math"] < 0.02
    assert [case["way"] for case in of["tower"]["cases"]] == ["transformers", "kernel"]
    assert all(0 < case["distance"] < 0.05 and case["seconds"] > 0 for case in of["tower"]["cases"])
    assert len(of["grpo"]["steps"]) == 1 and of["grpo"]["dtype"] == "bfloat16"
    assert set(of["sft"]["held_out"]) == {"before", "after"}
    assert of["vllm"] == of["weights"] == {"not_run": "vLLM is not installed"}
    text = results_text(results)
    assert all(f"**{name}** (cpu" in text for name in program.NAMES)


def test_without_cuda_it_says_so_and_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    for arguments, sentence in (
        (["parity"], "no CUDA device"),
        (["parities"], "there is no part 'parities'"),
        (["--dry-run", "--out", str(program.RESULTS)], "would write over what a GPU has measured"),
    ):
        with pytest.raises(SystemExit) as left:
            program.main(arguments)
        assert left.value.code == 2 and sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "result",
    [
        {"failed": ["test_one"]},
        {"holds": False},
        {"same": True, "proven": False},
        {"same_after_sleep": False},
        {"not_run": "vLLM is not installed"},
    ],
    ids=lambda result: next(iter(result)),
)
def test_what_does_not_hold_fails_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: dict[str, Any]
) -> None:
    answers = [{"cases": [], **result}, {"cases": []}]

    def run_apart(name: str, out: Path, work: Path) -> None:
        (out / f"{name}.json").write_text(json.dumps({**KNOWN, "result": answers.pop(0)}))

    monkeypatch.setattr(program, "_run_apart", run_apart)
    monkeypatch.setattr(program, "write_page", lambda out: None)
    run = partial(program._run_all, ["parity"], tmp_path, tmp_path, again=False, dry_run=False)
    assert [run(), run(), run()] == [int("not_run" not in result), 0, 0] and not answers


def test_what_a_part_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its limit; a server would keep the memory that the next part needs."""
    mark = f"ends with its part {tmp_path}"
    child = [sys.executable, "-c", "import time; time.sleep(600)", mark]
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\nimport subprocess; subprocess.run({child!r})\n")
    python.chmod(0o755)
    monkeypatch.setattr(program.sys, "executable", str(python))
    monkeypatch.setattr(program, "LIMIT_S", 3)
    program._run_apart("parity", tmp_path, tmp_path)
    assert "took over 3 seconds" in json.loads((tmp_path / "parity.json").read_text())["failed"]
    assert not [process for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or [])]


def test_a_part_that_is_there_is_skipped_and_one_that_failed_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["parity", "update", "attention", "tower", "weights", "grpo"]
    for name in names:
        monkeypatch.setitem(of_page.TEXTS, name, lambda result: "nothing to show")
    for name, answer in {
        "parity": {**KNOWN, "result": {}},
        "update": {"environment": ENVIRONMENT, "failed": "ended with 1"},
        "grpo": {**KNOWN, "device": "another GPU", "result": {}},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(answer))
    (tmp_path / "tower.json").write_text('{"environment": ')  # cut off, as by a disk that was full
    (tmp_path / "weights.json").write_text("[]")
    ran: list[str] = []

    def run_apart(name: str, out: Path, work: Path) -> None:
        ran.append(name)
        (out / f"{name}.json").write_text(json.dumps({**KNOWN, "result": {}}))

    monkeypatch.setattr(program, "_run_apart", run_apart)
    monkeypatch.setattr(program, "write_page", lambda out: None)
    assert program._run_all(names, tmp_path, tmp_path, again=False, dry_run=False) == 0
    assert ran == names[1:]
    program._run_all(names, tmp_path, tmp_path, again=True, dry_run=False)
    assert ran[5:] == names


def test_what_cannot_be_shown_is_no_answer(tmp_path: Path) -> None:
    """Whoever copied, cut or wrote it; a folder of that name, and files of other names, are none either."""
    page = tmp_path / "gpu.md"
    page.write_text(f"{BEGIN}{END}")
    good = {**KNOWN, "result": {"holds": True, "cases": []}}
    broken = [
        {**good, "result": None},
        {**good, "result": {"cases": [{}]}},
        {**good, "environment": {}},
        {**good, "environment": {"date": None, "packages": {}}},
        {**good, "took_s": "long"},
        {name: value for name, value in good.items() if name != "device"},
        {"environment": ENVIRONMENT, "failed": None},
        "text",
    ]
    (tmp_path / "update.json").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(good))
    for answer in broken:
        (tmp_path / "parity.json").write_text(json.dumps(answer))
        assert read_results(tmp_path) == {}, answer
        write_page(tmp_path, page)
        assert NONE in page.read_text()
    (tmp_path / "parity.json").write_text(json.dumps(good))
    assert read_results(tmp_path) == {"parity": good}
    (tmp_path / "parity.json").write_text(json.dumps({**good, "device": "cpu"}))  # of a dry run
    write_page(tmp_path, page)
    assert NONE in page.read_text()


def test_the_page_shows_what_is_there_and_says_when_nothing_is(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    write_page(tmp_path / "none", page)
    assert page.read_text() == f"before\n\n{BEGIN}\n\n{NONE}\n\n{END}\n\nafter\n"
    cases: list[dict[str, Any]] = [
        {"page": 100, "completion": 50, "shared": 0.1, "apart": 0.4, "ratio": 4.0},
    ]
    good = {"shape": "3B", "load": {"samples": 8}, "cases": cases}
    (tmp_path / "shared_page.json").write_text(json.dumps({**KNOWN, "device": "NVIDIA H200", "result": good}))
    (tmp_path / "update.json").write_text(json.dumps({"environment": ENVIRONMENT, "failed": "took over 480 seconds"}))
    write_page(tmp_path, page)
    text = page.read_text()
    assert "| 100 | 50 | 0.100 | 0.400 | 4.00 |" in text and "NVIDIA H200, torch 2.13.0, 2026-11-29, 61 s" in text
    assert "**update** failed on 2026-11-29: `took over 480 seconds`" in text and NONE not in text


def test_docs_show_the_results_that_are_kept() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == results_text(measured(program.RESULTS)), "write it again: python -m benchmarks.gpu"


@pytest.mark.parametrize("lengths", [[[5, 3, 1, 4]], [[6, 2, 7, 1], [2, 3], [9, 1]]])
def test_one_varlen_call_would_be_our_attention(lengths: list[list[int]]) -> None:
    """The keys that are picked for it, with its rule computed a segment at a time."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, sum(map(sum, lengths)), 8).double() for heads in (4, 2, 2))
    ours, _ = attend(torch.nn.Module(), query, key, value, None, 8**-0.5, packing=packing(lengths))
    theirs = attention.by_varlen(lengths, query, key, value, kernel=attention.one_by_one)
    assert (ours - theirs).abs().max() < 1e-12
