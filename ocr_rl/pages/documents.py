"""The PDFs and pictures that a command's words name: files, and whatever stands below folders.

Knows nothing about what is in them: a file's own bytes say that once it is opened. `tree` walks folders.
"""

from __future__ import annotations

import glob
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ocr_rl import outputs
from ocr_rl.contract import UserError
from ocr_rl.file_kinds import DOCUMENTS
from ocr_rl.files import Unreadable, read_text
from ocr_rl.pages import pictures
from ocr_rl.pages.tree import tree

MAX_LIST_BYTES = 2**28
SUFFIXES = (".pdf", *pictures.SUFFIXES)  # what a document in a folder is known by; capitals do not matter


def documents(places: Sequence[Path], out: Path | None = None) -> tuple[list[Path], list[str]]:
    """The files, each folder replaced by the documents below it in the order of their paths; and what is left out.

    A word may be a pattern (`scans/*.pdf`, where no shell replaced it) or a list of such words, a line each: `@names`,
    or a .txt file. What ocr-rl wrote into `out` before does not count, so that a second call takes what the first one
    took. Raises UserError for a folder that holds no document.
    """
    files: list[Path] = []
    left_out: list[str] = []
    for place in _named(places):
        if not place.is_dir():
            files.append(place)
            continue
        tree_below = tree(place, SUFFIXES)
        left_out += [f"{path}: {reason}" for path, reason in (*tree_below.left_out, *tree_below.not_followed)]
        below = [path for path in tree_below.once(*SUFFIXES).values() if not _is_output(path, out)]
        if not below:
            raise UserError(f"{place}: there is no {DOCUMENTS} in this folder; name one that holds some.")
        files += below
    return files, left_out


def _named(places: Iterable[Path]) -> Iterator[Path]:
    """What patterns and lists name; other words as they are. UserError for a pattern that nothing fits."""
    for place in places:
        word = str(place)
        if word.startswith("@") or (place.suffix.lower() == ".txt" and place.is_file()):
            yield from _patterns(Path(line.strip()) for line in _lines(Path(word.removeprefix("@"))) if line.strip())
        else:
            yield from _patterns([place])


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path, longest=MAX_LIST_BYTES).split("\n")
    except Unreadable as flaw:
        raise UserError(f"{path}: is no list of documents: {flaw}.") from None


def _patterns(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        if glob.has_magic(str(place)) and not place.exists():
            if not (fits := sorted(glob.glob(str(place), recursive=True))):
                raise UserError(f"{place}: no file fits this pattern.")
            yield from map(Path, fits)
        else:
            yield place


def twins(paths: Iterable[Path]) -> dict[Path, Path]:
    """Documents whose name differs from another's in the same folder by its ending alone, and that other one.

    `a.md` beside `a.pdf` and `a.png` would be of both. Of several, a PDF is the one that keeps the name.
    """
    first: dict[tuple[Path, str], Path] = {}
    twins: dict[Path, Path] = {}
    for path in sorted(paths, key=lambda path: path.suffix.lower() != ".pdf"):
        name = (path.parent, unicodedata.normalize("NFC", path.stem))
        if first.setdefault(name, path) != path:
            twins[path] = first[name]
    return twins


def other_names(root: Path) -> dict[str, Path]:
    """The documents below a dataset's pdfs/ that have further names there: each link with the file that counts."""
    below = tree(root, SUFFIXES, inside=root.parent)
    return {name: below.files[first] for name, first in below.same.items()}


def _is_output(path: Path, out: Path | None) -> bool:
    return (
        out is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(out)) and outputs.is_ours(path)
    )
