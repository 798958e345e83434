"""Training and test sets from one dataset. Documents are dealt out whole, never page by page."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from ocr_rl.contract import Page, UserError
from ocr_rl.pages.dataset import load_dataset, write_tests
from ocr_rl.pages.folder import references_of
from ocr_rl.pages.manifest import write_manifest
from ocr_rl.pages.tree import files_in, name_among, tree


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
    """Write a dataset folder for each part below `out`, with copies of its PDFs, references and tests.

    Returns the number of pages by part. Raises UserError for a faulty dataset, for fractions that do not sum to 1, and
    if a part's folder exists already.
    """
    try:
        parts = split(load_dataset(folder), fractions, seed)
    except ValueError as error:
        raise UserError(f"split: {error}; as in --part train=0.9 --part test=0.1.") from None
    if empty := [name for name, pages in parts.items() if not pages]:
        raise UserError(f"split: no document falls into {empty[0]!r}; give it a larger share, or another --seed.")
    part_of = {page.pdf: name for name, pages in parts.items() for page in pages}
    for name in parts:
        if (out / name).exists():
            raise UserError(f"{out / name}: is there already; give a new folder with --out.")
    references = references_of(part_of)
    for name in parts:
        own_pdfs = {pdf: list(references[pdf].values()) for pdf, part in part_of.items() if part == name}
        _copy(folder, own_pdfs, out / name)
        write_manifest(out / name, {"split": folder.name, "part": name, "fractions": dict(fractions), "seed": seed})
    return {name: len(pages) for name, pages in parts.items()}


def _copy(folder: Path, pdfs: Mapping[Path, Sequence[Path]], out: Path) -> None:
    """Write the dataset that holds only these PDFs, with the references and tests of each."""
    (out / "pdfs").mkdir(parents=True)
    for pdf, references in pdfs.items():
        for path in (pdf, *references):
            target = out / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    below = tree(folder / "pdfs", (".pdf",), inside=folder)
    kept = {name for name, path in below.files.items() if below.files[below.same.get(name, name)] in pdfs}
    for path in files_in(folder, ".jsonl"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
        if tests := [test for test in lines if name_among(test["pdf"], below.files) in kept]:
            write_tests(out / path.name, tests)
