"""Files for people are written whole or not at all, and never over a file of somebody else's.

One rule for all verbs: a file is written over only where it still is what ocr-rl wrote there. Each folder keeps a list
of that, `.ocr-rl.sha256`, with the hash and the name of every file. A file that is not on it, or that was changed
since, is a person's. So is a link, since nothing here writes one. Knows nothing about what is in the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from secrets import token_hex

from ocr_rl.contract import UserError

LIST = ".ocr-rl.sha256"
_ENTRY = re.compile(rb'[0-9a-f]{64}  "(?:[^"\\]|\\.)*"\n')
ASIDE = ".ocr-rl-"  # how names begin of what is not whole yet


def refuse_taken(targets: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """UserError for the first target that `write` would refuse, or that is an input of the same command."""
    sources = {os.path.realpath(path) for path in inputs}
    entries = cache(_entries)  # read once a folder, which may hold a hundred thousand files
    for target in targets:
        if os.path.realpath(target) in sources:
            raise UserError(f"{target}: is an input of this command; give another --out.")
        _require_ours(target, entries)


def refuse_others(folder: Path, mark: str, names: Iterable[str]) -> None:
    """UserError where a job that keeps its files under `names` would begin in a folder that holds one of them.

    A job writes its `mark` first: where that stands, the folder is the job's own.
    """
    if os.path.lexists(folder / mark):
        return
    for name in names:
        if os.path.lexists(folder / name):
            raise UserError(f"{folder / name}: is there already, without the {mark} of a job; give another --out.")


def write(target: Path, content: bytes | str) -> None:
    """Write a file (text as UTF-8), aside and renamed, and enter it in its folder's list; folders above it are made.

    Raises UserError where a file stands that ocr-rl did not write or that was changed since, and where none can be
    written.
    """
    write_lines(target, [content])


def write_lines(target: Path, lines: Iterable[bytes | str]) -> None:
    """`write` for content that comes piece by piece and need not fit into memory."""
    with replacing(target) as aside, aside.open("xb") as file:
        for line in lines:
            file.write(line.encode("utf-8", "backslashreplace") if isinstance(line, str) else line)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A name aside to write a file of any size at, within; then it gets the target's name, by the rule of `write`."""
    with writing(target):
        _require_ours(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = aside_of(target)
        try:
            yield aside
            with aside.open("rb") as file:
                _enter(target, hashlib.file_digest(file, "sha256").hexdigest())
            os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """What the system says against writing a file or folder within becomes a UserError that names the target alone.

    The user knows that path. Names that are put aside, and those within a folder, are no business of theirs. An input
    that cannot be read keeps its own name.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and not _is_of(os.path.abspath(error.filename), os.path.abspath(target)):
            raise
        raise UserError(f"{target}: cannot be written ({error.strerror or error}); give another --out.") from None


def _is_of(name: str, target: str) -> bool:
    """Whether a path is the target, stands below or above it, or was put aside."""
    within, around = (os.path.join(path, "") for path in (name, target))
    return within.startswith(around) or around.startswith(within) or f"{os.sep}{ASIDE}" in name


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder aside to fill within; then it gets the target's name, or all of it goes. Folders above are made."""
    aside = aside_of(target)
    with writing(target):
        try:
            aside.mkdir(parents=True)
            yield aside
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def aside_of(target: Path) -> Path:
    """A name beside the target that nobody has: what is written there is renamed to the target when it is whole."""
    return target.with_name(f"{ASIDE}{token_hex(8)}.part")


def _require_ours(target: Path, entries_of: Callable[[Path], frozenset[bytes]] | None = None) -> None:
    if not os.path.lexists(target):
        return
    if target.is_dir():
        raise UserError(f"{target}: is a folder, and a file would be written there; give another --out.")
    if not is_ours(target, entries_of):
        raise UserError(
            f"{target}: is there already and is not, or no longer, what ocr-rl wrote there; move it away or give "
            "another --out."
        )


def is_ours(target: Path, entries_of: Callable[[Path], frozenset[bytes]] | None = None) -> bool:
    """Whether a file stands there and is what ocr-rl wrote; `entries_of` a folder, where they are known already."""
    if target.is_symlink() or not target.is_file():
        return False
    try:
        with target.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        return _entry(target, sha) in (entries_of or _entries)(target.parent)
    except OSError:
        return False


def _entries(folder: Path) -> frozenset[bytes]:
    """A full disk may have cut one through, in front of the next."""
    return frozenset(_ENTRY.findall((folder / LIST).read_bytes()))


def _enter(target: Path, sha: str) -> None:
    """Entered before the file has its name: a kill in between leaves an entry too many, never a file unknown."""
    entries = target.parent / LIST
    if entries.is_symlink():
        raise UserError(f"{entries}: is a link; ocr-rl keeps a list of its own under this name, take the link away.")
    with entries.open("ab") as file:
        file.write(_entry(target, sha))


def _entry(target: Path, sha: str) -> bytes:
    return f"{sha}  {json.dumps(target.name)}\n".encode()  # JSON: a name may hold a line's end
