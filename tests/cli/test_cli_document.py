"""Every verb and option says what it is, and docs/cli.md says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.cli.document import document, verbs

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("name", "command"), verbs(), ids=[name for name, _ in verbs()])
def test_every_option_and_argument_has_a_help_text(name: str, command: object) -> None:
    assert (command.help or "").strip(), name  # type: ignore[attr-defined]
    for parameter in command.params:  # type: ignore[attr-defined]
        assert (parameter.help or "").strip(), f"{name}: {parameter.name}"


def test_no_line_of_the_list_of_verbs_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ([], ["pages"], ["rewards"], ["recipes"]):
        assert main([*group, "--help"]) == 0
        assert "..." not in capsys.readouterr().out.replace("[ARGS]...", "")


def test_the_document_is_what_the_code_says() -> None:
    stale = "docs/cli.md is stale: python -m ocr_rl.cli.document > docs/cli.md"
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == document(), stale


def test_the_document_does_not_follow_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = document()
    for name in ("COLUMNS", "TERMINAL_WIDTH"):
        monkeypatch.setenv(name, "40")
    assert document() == before
