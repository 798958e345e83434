"""Fixtures that many tests share: a few tiny pages, and random-weight policies small enough to sample in seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from ocr_rl.contract import Page

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is first imported

LONGEST_PX = 112  # 4 by 2 to 4 by 4 merged patches a page


@pytest.fixture(scope="session")
def tiny_pages(tmp_path_factory: pytest.TempPathFactory) -> list[Page]:
    """Four pages of one PDF, of three different shapes, so prompts differ in length."""
    pdf = tmp_path_factory.mktemp("pages") / "tiny.pdf"
    images = [Image.new("RGB", (400, height), "white") for height in (200, 200, 300, 400)]
    for number, image in enumerate(images, 1):
        ImageDraw.Draw(image).text((20, 40), f"Page {number}", fill="black", font=ImageFont.load_default(size=90))
    images[0].save(pdf, save_all=True, append_images=images[1:])
    return [Page(id=f"0a1b2c3d:p{n}", pdf=pdf, number=n, reference=f"Page {n}") for n in range(1, 5)]


@pytest.fixture(scope="session")
def nano_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of the embedded policy's shape with random weights; tests must not write to it."""
    pytest.importorskip("torch", reason="torch is not installed")
    from ocr_rl.models.fresh import new_policy

    folder = tmp_path_factory.mktemp("models") / "nano"
    new_policy(folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def prompter(nano_dir: Path) -> object:
    from ocr_rl.rollout.prompt import load_prompter

    return load_prompter(nano_dir, LONGEST_PX, instruction="")


@pytest.fixture(scope="session")
def open_engine() -> Iterator[Callable[..., Any]]:
    """Opens vLLM engines. All are closed at the end: closing one takes vLLM's process groups from the others."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from ocr_rl.rollout.sampler.vllm.engine import EngineSettings, VllmSampler

    settings = EngineSettings(max_model_len=256, max_num_seqs=64, kv_cache_gib=0.25, lora_rank=5, lora_in_tower=True)
    engines = []

    def opened(folder: Path, prompter: Any) -> Any:
        engines.append(VllmSampler(folder, prompter, settings))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()


@pytest.fixture(scope="session")
def vllm_sampler(open_engine: Callable[..., Any], nano_dir: Path, prompter) -> object:
    """The one of Qwen2.5-VL in a session (a start takes seconds). Whoever loads weights loads `nano_dir`'s back."""
    return open_engine(nano_dir, prompter)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that share an engine come first: a run that closes its own takes vLLM's process groups from all others.

    Workers take those with slow tests next, so that none is left alone with one at the end.
    """
    engines = {item.path for item in items if "open_engine" in getattr(item, "fixturenames", ())}
    slow: set[Path] = set()
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in engines, item.path not in slow))


_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and "cuda" not in report.keywords:
        _skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With CI=true a skipped test other than a CUDA one fails the run: nothing is left untested unnoticed."""
    if os.environ.get("CI") == "true" and _skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("CI") == "true" and _skipped:
        terminalreporter.write_line(f"CI: {len(_skipped)} tests were skipped, the first {_skipped[0]}", red=True)
