"""Fixtures of the tests of benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ocr_rl.evaluate import bench as bench_module
from ocr_rl.evaluate import candidates
from ocr_rl.pages.dataset import write_tests
from tests.evaluate.scripted import FakePrompter, Script, ScriptedSampler, a_test, make_pdf


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """a.pdf (tests in two files), sub/b.pdf (a test on page 2 alone), c.pdf (a baseline test of its own)."""
    folder = tmp_path / "data"
    make_pdf(folder / "pdfs/a.pdf", 1, 100)
    make_pdf(folder / "pdfs/sub/b.pdf", 2, 101)
    make_pdf(folder / "pdfs/c.pdf", 1, 102)
    write_tests(folder / "one.jsonl", [a_test("a1", "a.pdf"), a_test("b1", "sub/b.pdf", 2, type="absent")])
    write_tests(
        folder / "two.jsonl",
        [a_test("a2", "a.pdf", text="good night"), {"pdf": "c.pdf", "page": 1, "id": "c1", "type": "baseline"}],
    )
    return folder


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging without worker processes, whose start takes most of a small run."""
    monkeypatch.setattr(bench_module, "guarded", lambda function, jobs, **_: [(job, function(job)) for job in jobs])


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch, in_process: None) -> Callable[[Script], ScriptedSampler]:
    """Every policy that is opened is the scripted one."""

    def scripted(script: Script) -> ScriptedSampler:
        sampler = ScriptedSampler(script)

        @contextmanager
        def opened(candidate: Any) -> Iterator[Any]:
            yield SimpleNamespace(sampler=sampler, prompter=FakePrompter(), settings=SimpleNamespace(max_tokens=99))

        monkeypatch.setattr(candidates, "_open_policy", opened)
        return sampler

    return scripted


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return str(folder)
