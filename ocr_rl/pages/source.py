"""A recipe's source of pages -> pages: a dataset folder, or pages that are typeset on first use below `root`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random

from ocr_rl.config import Folder, PageSource, Typeset
from ocr_rl.contract import Page, UserError
from ocr_rl.pages.dataset import load_dataset

_MOST_WORKERS = 16  # a typesetter each, of 0.2 GB


def open_pages(source: PageSource, root: Path, *, typesets: bool = True) -> list[Page]:
    """Pages in a fixed order; with `limit`, the first after a shuffle by the source's seed.

    Where `typesets` is off nothing is written, and pages that are not there yet are a UserError.
    """
    folder = source.dir if isinstance(source, Folder) else _typeset(source, root, typesets)
    pages = load_dataset(folder)
    if source.limit is not None:
        pages = Random(source.seed).sample(pages, min(source.limit, len(pages)))
    return pages


def _typeset(source: Typeset, root: Path, typesets: bool) -> Path:
    kind = source.synth
    name = f"{kind}-n{source.n}-seed{source.seed}-per{source.pages_per_document}"
    name += f"-{source.fonts}" if source.fonts else ""
    name += f"-{source.words}-words" if source.words else ""
    folder = root / (name if source.scan is None else f"{name}-scan{source.scan:g}")
    if not (folder / f"{kind}.jsonl").exists():
        if not typesets:
            raise UserError(f"{folder} is not there")
        from ocr_rl.pages.synth.make import Looks, write_dataset  # needs the extra `synth`

        write_dataset(
            kind,
            n=source.n,
            seed=source.seed,
            out=folder,
            pages_per_document=source.pages_per_document,
            look=Looks(fonts=source.fonts, words=source.words, scan=source.scan),
            workers=min(_MOST_WORKERS, max(2, os.cpu_count() or 2)),
        )
        (folder / "source.json").write_text(json.dumps(source.model_dump(mode="json")), encoding="utf-8")
    return folder
