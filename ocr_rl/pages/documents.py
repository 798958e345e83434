"""The PDFs and pictures that a command's words name: files, and whatever stands below folders.

Knows nothing about what is in them: a file's own bytes say that once it is opened.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ocr_rl import outputs
from ocr_rl.contract import UserError
from ocr_rl.pages import pictures

SUFFIXES = (".pdf", *pictures.SUFFIXES)  # what a document in a folder is known by; capitals do not matter


def documents(places: Sequence[Path], out: Path | None = None) -> list[Path]:
    """The files, each folder replaced by the documents below it, in the order of their paths.

    What ocr-rl wrote into `out` before is left out, so that a second call takes what the first one took. Raises
    UserError for a folder that holds no document.
    """
    found: list[Path] = []
    for place in places:
        if not place.is_dir():
            found.append(place)
            continue
        below = [path for path in _below(place) if not _is_output(path, out)]
        if not below:
            raise UserError(
                f"{place}: there is no PDF, PNG, JPEG, WebP or TIFF in this folder; name one that holds some."
            )
        found += below
    return found


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


def _below(folder: Path) -> Iterator[Path]:
    paths = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names if not name.startswith("._"))
    yield from sorted(path for path in paths if path.suffix.lower() in SUFFIXES)


def _is_output(path: Path, out: Path | None) -> bool:
    return (
        out is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(out)) and outputs.is_ours(path)
    )
