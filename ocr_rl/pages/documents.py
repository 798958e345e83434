"""The PDFs and pictures that a command's words name: files, and whatever stands below folders.

Knows nothing about what is in them: a file's own bytes say that once it is opened. `tree` walks folders.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from ocr_rl import outputs
from ocr_rl.contract import UserError
from ocr_rl.file_kinds import DOCUMENTS
from ocr_rl.pages import pictures
from ocr_rl.pages.tree import tree

SUFFIXES = (".pdf", *pictures.SUFFIXES)  # what a document in a folder is known by; capitals do not matter


def documents(places: Sequence[Path], out: Path | None = None) -> tuple[list[Path], list[str]]:
    """The files, each folder replaced by the documents below it in the order of their paths; and what is left out.

    What ocr-rl wrote into `out` before does not count, so that a second call takes what the first one took. Raises
    UserError for a folder that holds no document.
    """
    files: list[Path] = []
    left_out: list[str] = []
    for place in places:
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
