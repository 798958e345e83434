"""What the commands in docs/scale.md print, written below them: `python -m benchmarks.speed.scale_page`.

The 7B policy is its published configuration, without weights; nothing is downloaded.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from benchmarks.gpu.policies import Load, write_policy
from ocr_rl.cli import main as run_command
from ocr_rl.learn.memory import shape_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
_BLOCK = re.compile(r"^```\n(\$ ocr-rl plan (?:.*\\\n)*.*\n)[^`]*^```$", re.MULTILINE)


def filled(text: str, printed: Callable[[str], str]) -> str:
    """The page with what `printed` gives for each of its commands."""
    return _BLOCK.sub(lambda block: f"```\n{block[1]}{printed(block[1])}```", text)


def commands(text: str) -> list[str]:
    return [block[1] for block in _BLOCK.finditer(text)]


def published_7b(folder: Path) -> str:
    """The folder of the published 7B policy, without weights."""
    return write_policy("7B", folder, Load(groups=1, samples=1, completion=1, longest_px=1288, micro_tokens=24576))


def printer(folder: Path) -> Callable[[str], str]:
    """Runs commands with the 7B policy's configuration, written into `folder`."""
    policy, shape_once = published_7b(folder), cache(shape_of)

    def printed(command: str) -> str:
        _, *words = shlex.split(command.removeprefix("$ ").replace("\\\n", " "))
        with redirect_stdout(io.StringIO()) as out, mock.patch("ocr_rl.scale.room.shape_of", shape_once):
            code = run_command([*words, "--set", f"policy.path={policy}"])
        if code:
            raise RuntimeError(f"{command}: exit code {code}")
        return out.getvalue()

    return printed


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        PAGE.write_text(filled(text, printer(Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main()
