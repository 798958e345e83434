"""Training and test sets from one dataset. Documents are dealt out whole, never page by page."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from unicodedata import normalize

from ocr_rl import outputs
from ocr_rl.contract import Page, UserError
from ocr_rl.pages.chosen import copy_pages, places_of
from ocr_rl.pages.dataset import load_with_contents
from ocr_rl.pages.manifest import write_manifest


def split(pages: Sequence[Page], fractions: Mapping[str, float], seed: int) -> dict[str, list[Page]]:
    """Deal pages out by a hash of their document. The pages of a document and of its copies stay together.

    A document's part depends on its content, the seed and the fractions alone, so adding documents moves none of the
    others. In return the parts are only about as large as the fractions say. Raises ValueError unless the fractions
    sum to 1.
    """
    if any(fraction < 0 for fraction in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-9:
        raise ValueError(f"fractions must not be negative and must sum to 1, got {dict(fractions)}")
    parts: dict[str, list[Page]] = {name: [] for name in fractions}
    ends = list(accumulate(fractions.values()))
    for page in pages:
        document = re.split("[-:]", page.id)[0]
        digest = hashlib.sha256(f"{seed}:{document}".encode()).digest()
        place = ends[-1] * int.from_bytes(digest[:6], "big") / 2**48  # the parts lie side by side in [0, sum)
        parts[next(name for name, end in zip(fractions, ends, strict=True) if place < end)].append(page)
    return parts


def write_split(folder: Path, fractions: Mapping[str, float], seed: int, out: Path) -> dict[str, int]:
    """Write a dataset folder for each part below `out`, with copies of its PDFs, references and tests; all or none.

    Returns the number of pages by part. Raises UserError for a faulty dataset, for fractions that do not sum to 1, for
    names of parts that are one on some systems, and if a part's folder exists already.
    """
    require_part_names(list(fractions))
    pages, contents = load_with_contents(folder)
    try:
        parts = split(pages, fractions, seed)
    except ValueError as error:
        raise UserError(f"split: {error}; as in --part train=0.9 --part test=0.1.") from None
    if empty := [name for name, pages in parts.items() if not pages]:
        raise UserError(f"split: no document falls into {empty[0]!r}; give it a larger share, or another --seed.")
    for name in parts:
        if (out / name).exists():
            raise UserError(f"{out / name}: is there already; give a new folder with --out.")
    with outputs.writing(out), _whole(out, list(parts)) as aside:
        for name, pages in parts.items():
            copy_pages(contents, places_of(pages, contents), aside / name)
            made_by = {"split": folder.name, "part": name, "fractions": dict(fractions), "seed": seed}
            write_manifest(aside / name, made_by)
    return {name: len(pages) for name, pages in parts.items()}


def require_part_names(names: Sequence[str]) -> None:
    """UserError for names of parts that are one folder on some file systems, or that Windows keeps for devices."""
    first: dict[str, str] = {}
    for name in names:
        if re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", name, re.IGNORECASE):
            raise UserError(f"split: no folder can be called {name!r} on Windows; give the part another name.")
        folded = normalize("NFC", name).casefold()
        if folded in first:
            how = "is named twice" if first[folded] == name else f"and {first[folded]!r} are one folder on some systems"
            raise UserError(f"split: the part {name!r} {how}; give each part a name of its own.")
        first[folded] = name


@contextmanager
def _whole(out: Path, names: Sequence[str]) -> Iterator[Path]:
    """A folder beside, whose folders get their place in `out` together when the block ends well, or go."""
    aside = outputs.aside_of(out / "parts")
    first = next(path for path in (out, *out.parents) if path.exists())  # what stands above is not ours to take away
    aside.mkdir(parents=True)
    placed: list[Path] = []
    try:
        yield aside
        for name in names:
            (aside / name).rename(out / name)
            placed.append(out / name)
    except BaseException:
        for path in placed:
            shutil.rmtree(path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for path in (out, *out.parents):
            if path == first or any(path.iterdir()):
                break
            path.rmdir()
