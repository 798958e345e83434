"""Training and test sets from one dataset. Documents are dealt out whole, never page by page."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

from ocr_rl.contract import Page, UserError
from ocr_rl.pages.check_lines import PlacedCheck
from ocr_rl.pages.dataset import load_with_tests, write_tests
from ocr_rl.pages.folder import references_of
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

    Returns the number of pages by part. Raises UserError for a faulty dataset, for fractions that do not sum to 1, and
    if a part's folder exists already.
    """
    pages, tests = load_with_tests(folder)
    try:
        parts = split(pages, fractions, seed)
    except ValueError as error:
        raise UserError(f"split: {error}; as in --part train=0.9 --part test=0.1.") from None
    if empty := [name for name, pages in parts.items() if not pages]:
        raise UserError(f"split: no document falls into {empty[0]!r}; give it a larger share, or another --seed.")
    for name in parts:
        if (out / name).exists():
            raise UserError(f"{out / name}: is there already; give a new folder with --out.")
    with _whole(out, list(parts)) as aside:
        for name, pages in parts.items():
            pdfs = {page.pdf for page in pages}
            ids = {check.id for page in pages for check in page.checks}
            of_part = [test for test in tests if test.check.id in ids]
            _copy(folder, pdfs, of_part, aside / name)
            made_by = {"split": folder.name, "part": name, "fractions": dict(fractions), "seed": seed}
            write_manifest(aside / name, made_by)
    return {name: len(pages) for name, pages in parts.items()}


@contextmanager
def _whole(out: Path, names: Sequence[str]) -> Iterator[Path]:
    """A folder beside, whose folders get their place in `out` together when the block ends well, or go."""
    aside = out / f".split.{os.getpid()}.part"
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


def _copy(folder: Path, pdfs: Collection[Path], tests: Sequence[PlacedCheck], out: Path) -> None:
    """Write the dataset that holds only these PDFs, with the references of each and these tests."""
    (out / "pdfs").mkdir(parents=True)
    for pdf, references in references_of(pdfs).items():
        for path in (pdf, *references.values()):
            target = out / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for file in dict.fromkeys(sorted(test.file for test in tests)):
        write_tests(out / file.name, [test.fields for test in tests if test.file == file])
