"""Folders of PDFs and datasets for tests of what is read from them."""

from __future__ import annotations

from pathlib import Path

from tests.pages.pdfs import SEEN, block, pdf


def put(path: Path, *more: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pdf(block(*SEEN, *more)))
    return path


def dataset(folder: Path, *names: str) -> Path:
    for k, name in enumerate(names):
        put(folder / "pdfs" / name, f"Document number {k} of the collection")
    return folder


def present(pdf: str, id: str = "x") -> dict[str, object]:
    return {"pdf": pdf, "page": 1, "id": id, "type": "present", "text": "harbour on Tuesday"}
