"""A small dataset, and a command that must be refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.pages.synth.make import make_dataset

Refused = Callable[..., str]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small pages; tests must not write to it."""
    folder = tmp_path_factory.mktemp("data") / "nano"
    assert list(make_dataset("nano", n=3, seed=1, out=folder)) == [1, 2, 3]
    return folder


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command that must be refused; returns its one sentence."""

    def run(*argv: str) -> str:
        capsys.readouterr()
        assert main(argv) == 2
        sentence = capsys.readouterr().err.strip()
        assert sentence.startswith("ocr-rl: ")
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        return sentence

    return run
