"""What lies around a user's work stays out: folders of the same names, other people's vLLM, missing extras."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pypdfium2 as pdfium
import pytest

from ocr_rl import extras
from ocr_rl.contract import UserError
from ocr_rl.text.checks import load_check

HOSTILE = "raise RuntimeError('the file of a user was imported in place of ours')\n"


@pytest.fixture(params=["modules", "packages"])
def theirs(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A user's folder with `rewards` and `benchmarks` of their own, a dataset of one page, and one with a formula."""
    for name in ("rewards", "benchmarks"):
        file = tmp_path / (f"{name}.py" if request.param == "modules" else f"{name}/__init__.py")
        file.parent.mkdir(exist_ok=True)
        file.write_text(HOSTILE)
    (tmp_path / "data" / "pdfs").mkdir(parents=True)
    document = pdfium.PdfDocument.new()
    document.new_page(100, 100)
    document.save(tmp_path / "data" / "pdfs" / "a.pdf")
    test = {"pdf": "a.pdf", "page": 1, "id": "a1", "type": "present", "text": "A line of words"}
    (tmp_path / "data" / "mine.jsonl").write_text(json.dumps(test))
    (tmp_path / "a.md").write_text("A line of words.")
    shutil.copytree(tmp_path / "data", tmp_path / "math")
    test = {"pdf": "a.pdf", "page": 1, "id": "m", "type": "math", "math": "x^2"}
    (tmp_path / "math" / "more.jsonl").write_text(json.dumps(test))
    return tmp_path


def run(folder: Path, *command: str | Path, **env: str) -> str:
    """What a command says, run in that folder."""
    ended = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def test_folders_of_the_same_names_are_not_taken_for_ours(theirs: Path) -> None:
    """`score` makes and runs rewards in worker processes, which must not find the user's either."""
    path = {"PYTHONPATH": str(theirs)}
    words = run(theirs, "-m", "ocr_rl.cli", "score", "a.md", "--data", "data", **path)
    assert "pass_rate: 1.000" in words and "fault" not in words
    words = run(theirs, "-m", "ocr_rl.cli", "plugins", **path)
    assert "cannot be loaded" not in words and "text_layer" in words


@pytest.mark.parametrize("theirs", ["packages"], indirect=True)
def test_nor_are_they_by_torchrun(theirs: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    words = run(theirs, "-m", "torch.distributed.run", "-m", "ocr_rl.cli", "score", "a.md", "--data", "data")
    assert "pass_rate: 1.000" in words and "fault" not in words


SPAWNED = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from ocr_rl.plugins import load_reward

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # the reward comes back pickled, and goes there again
        reward = pool.submit(load_reward, "pass_rate").result()
        print(pool.submit(repr, reward).result(), type(reward).__module__)
"""


def test_a_reward_is_pickled_beside_folders_of_the_same_names(theirs: Path) -> None:
    (theirs / "script.py").write_text(SPAWNED)
    assert run(theirs, "script.py").rstrip().endswith("ocr_rl.rewards.pass_rate")


# vLLM calls the entry point in every process of an environment that only happens to hold this package.
SHIM = """
import os, torch
from importlib.metadata import entry_points
from ocr_rl.torchvision_shim import ASKED, declare
(entry,) = entry_points(group="vllm.platform_plugins", name="ocr_rl_torchvision")
vllm_calls, is_there = entry.load(), lambda: hasattr(torch.ops.torchvision, "nms")
assert vllm_calls() is None
print("of somebody else:", is_there())
if "by vLLM" in os.sys.argv:
    os.environ[ASKED] = "1"
    assert vllm_calls() is None
else:
    declare()
print("ours:", is_there(), os.environ.get(ASKED))
"""


@pytest.mark.parametrize("called", ["by us", "by vLLM"])
def test_torchvision_is_declared_in_our_processes_alone(tmp_path: Path, called: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    others, ours = run(tmp_path, "-c", SHIM, called, OCR_RL_TORCHVISION_SHIM="").splitlines()
    assert others == "of somebody else: False"
    if ours != "ours: True 1":  # torchvision is absent, or loads by itself: nothing to declare, nothing to hand on
        assert called == "by us" and ours.endswith(" ") or called == "by vLLM"


# As in an installation without extras: this process cannot import what they bring.
CORE = """
import sys
from ocr_rl import extras
sys.modules.update(dict.fromkeys(extras.modules()))
sys.stderr = sys.stdout
from ocr_rl.cli import main
for command in sys.argv[1:]:
    print("exit code", main(command.split()))
"""
NEEDS = {
    "pages synth --n 1 --out new": "ocr-rl[synth]",
    "score a.md --data math": "ocr-rl[math]",
    "bench math --engine text_layer --out new": "ocr-rl[math]",
    "train nano_grpo --out new": "ocr-rl[",
    "transcribe data/pdfs/a.pdf": "ocr-rl[cpu]",
    "study small --out new": "ocr-rl[",
}


@pytest.mark.parametrize("theirs", ["packages"], indirect=True)
def test_what_needs_an_extra_says_which(theirs: Path) -> None:
    lines = run(theirs, "-c", CORE, *NEEDS).splitlines()
    assert lines[1::2] == ["exit code 2"] * len(NEEDS), lines
    for sentence, extra in zip(lines[::2], NEEDS.values(), strict=True):
        assert sentence.startswith("ocr-rl: ") and extra in sentence and not sentence.endswith("..")


@pytest.mark.parametrize("theirs", ["packages"], indirect=True)
def test_scoring_benching_mining_and_reporting_need_none(theirs: Path) -> None:
    score, bench = "score a.md --data data", "bench data --engine text_layer --out new"
    lines = run(theirs, "-c", CORE, score, bench, "pages check data", "pages mine data/pdfs --out mined").splitlines()
    codes = [line for line in lines if line.startswith("exit code")]
    assert codes == ["exit code 0"] * 3 + ["exit code 2"], lines  # a page of one word gives no test: mined, none kept
    assert not any("ocr-rl[" in line for line in lines)
    assert "pass_rate: 1.000  (1 of 1 tests pass)" in lines and not any("fault  (" in line for line in lines)
    assert (theirs / "new" / "report.html").is_file()


def test_formulas_without_their_engine_are_refused_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    extras.require.cache_clear()
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"py_mini_racer is not installed; install ocr-rl\[math\]"):
        load_check({"pdf": "a.pdf", "page": 1, "id": "m", "type": "math", "math": "x^2"})
