"""The layouts that olmOCR's public data come in become a dataset.

import_folder(folder, out, seed)   `ocr-rl pages import FOLDER --out DIR`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ocr_rl.file_kinds import DOCUMENTS
from ocr_rl.files import Unreadable
from ocr_rl.pages.check_lines import Flaw, PlacedCheck, read_tests
from ocr_rl.pages.harvest import (
    Crop,
    Harvest,
    counted,
    flat_names,
    require_empty,
    shown,
    shown_name,
    sources,
    texts,
    transcripts,
    undrawable,
    write_harvest,
)
from ocr_rl.pages.mined import mine_pairs
from ocr_rl.pages.references import names_of, reference_name, references
from ocr_rl.pages.tree import files_in, own_files
from ocr_rl.text.checks import prepare


def import_folder(folder: Path, out: Path, seed: int) -> Harvest:
    """Write a dataset from the two layouts that olmOCR's public data come in.

    The first layout has PDFs of one page with `<stem>.md` beside them. Tests are mined from the Markdown without its
    front matter, and PDFs without Markdown are left out. The second layout (olmOCR-Bench and its synthetic pages) has
    `pdfs/` and JSONL files of tests. These tests are copied, except those that cannot be read and those that a page's
    own Markdown fails. Where no page is kept, nothing is written. Raises UserError if the folder holds no PDF or `out`
    is not empty.
    """
    crop = Crop()
    require_empty(out)
    if (folder / "pdfs").is_dir() and files_in(folder, ".jsonl"):
        keep_bench(folder, folder, crop)
    else:
        keep_pairs(folder, out, crop, seed)
    return write_harvest(crop, out, {"verb": "import", "source": shown_name(folder), "seed": seed})


def keep_pairs(folder: Path, out: Path, crop: Crop, seed: int) -> None:
    """Keep the pages of documents with Markdown beside them, with tests mined from it."""
    below, documents = sources(folder, crop.left_out, wanted=f"{DOCUMENTS} (nor parquet)")
    names = flat_names(documents, out, crop.left_out)
    documents = {name: documents[name] for name in names}
    num_pages = counted(documents, crop.left_out)
    beside = references(below, documents)
    lone = num_pages.keys() - {file.document for file in beside}
    refused = undrawable(documents, ((name, 1) for name in num_pages if name in lone), crop.left_out)
    crop.left_out += [
        f"{documents[name]}: there is no {documents[name].stem}.md beside it"
        for name in num_pages
        if name in lone and (name, 1) not in refused
    ]
    files = transcripts(beside, num_pages, crop.left_out)
    mine_pairs(files, documents, num_pages, names, "imported", crop, seed)


def keep_bench(folder: Path, tests_in: Path, crop: Crop) -> None:
    """Keep a dataset folder without what cannot be used; its files of tests may stand in another folder."""
    below, pdfs = sources(folder / "pdfs", crop.left_out, inside=folder)
    num_pages = counted(pdfs, crop.left_out)
    places = ((name, number) for name, pages in num_pages.items() for number in range(1, pages + 1))
    refused = undrawable(pdfs, places, crop.left_out)
    read = texts(transcripts(references(below, pdfs), num_pages, crop.left_out), refused, crop.left_out)
    for (name, number), (path, _) in read.items():
        try:
            crop.copies[reference_name(name, number, num_pages[name], pdfs)] = path
            crop.pages.add((name, number))
        except Unreadable as flaw:
            crop.left_out.append(f"{path}: {flaw}")
    for test in _tests(tests_in, names_of(below, num_pages), num_pages, crop):
        place = test.pdf, test.number
        if place in refused:
            crop.left_out.append(f"{test.file}:{test.line}: its page cannot be drawn")
        elif place in read and not test.check.run(prepare(read[place][1]), "strict").passed:
            crop.left_out.append(f"{test.file}:{test.line}: the page's own transcript fails it")
        else:
            crop.keep(test.file.stem, [dict(test.fields)])
    wanted = {name for name, _ in crop.pages}
    crop.copies |= {name: pdfs[name] for name in wanted}
    crop.left_out += [
        f"{pdfs[name]}: no test and no transcript of it can be used" for name in num_pages if name not in wanted
    ]


def _tests(folder: Path, names: Mapping[str, str], num_pages: Mapping[str, int], crop: Crop) -> Iterator[PlacedCheck]:
    """The tests of a dataset folder; a line for each line and file that is left out is appended."""
    files, others = own_files(folder, ".jsonl")
    crop.left_out += [f"{shown(path)}: {reason}" for path, reason in others]
    for test in read_tests(files, names, num_pages):
        if isinstance(test, Flaw):
            crop.left_out.append(f"{test.file}{'' if test.line is None else f':{test.line}'}: {test.message}")
        else:
            yield test
