"""People's own PDFs become a dataset: tests from text layers, and from Markdown transcripts that lie beside PDFs.

    mine_folder(folder, out, seed)     `ocr-rl pages mine FOLDER --out DIR`
    import_folder(folder, out, seed)   `ocr-rl pages import FOLDER --out DIR`

`mined_tests` and `layer_tests` make the tests. A page that cannot be trusted is left out and named with the reason.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ocr_rl.contract import UserError
from ocr_rl.files import Unreadable, is_utf8, read_text
from ocr_rl.pages.check_lines import Flaw, read_tests
from ocr_rl.pages.dataset import write_tests
from ocr_rl.pages.folder import references_of
from ocr_rl.pages.layer_tests import layer_tests
from ocr_rl.pages.manifest import write_manifest
from ocr_rl.pages.mined_tests import markdown_tests
from ocr_rl.pages.raster import PageError, count_pages, distinct_stems, size_faults
from ocr_rl.pages.snippets import Test
from ocr_rl.pages.text_layer import read_layers
from ocr_rl.text.checks import prepare
from ocr_rl.text.front_matter import split_front_matter


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """What became of a folder."""

    pages: int  # number of pages with tests or a transcript
    tests: int
    left_out: tuple[str, ...]  # "file, page N: reason"


def mine_folder(folder: Path, out: Path, seed: int) -> Harvest:
    """Write a dataset from the PDFs below a folder.

    A Markdown file beside a PDF is the reference of its page: `<stem>.md` for a PDF of one page, `<stem>_pg<N>.md` for
    page N. Pages of other PDFs get tests from their text layer. `left_out.txt` lists what was left out. Raises
    UserError if the folder holds no PDF or `out` is not empty.
    """
    pdfs = _pdfs(folder)
    _empty(out)
    names = {pdf: f"{stem}.pdf" for pdf, stem in distinct_stems(pdfs).items()}
    references = _transcripts(pdfs)
    tests: list[Test] = []
    left_out: list[str] = []
    for pdf, layers in read_layers([pdf for pdf in pdfs if pdf not in references], workers=1):
        if isinstance(layers, str):
            left_out.append(f"{pdf}: {layers}")
            continue
        kept: list[Test] = []
        for layer in layers:
            rng = Random(f"{seed}/{names[pdf]}/{layer.number}")
            page_tests = [] if layer.reason else layer_tests(layer, names[pdf], rng)
            if not page_tests:
                reason = layer.reason or "nothing on it stands once and can be tested"
                left_out.append(f"{pdf}, page {layer.number}: {reason}")
            kept += page_tests
        tests += _copied(pdf, names[pdf], out, kept)
    tests += _pairs(references, names, out, seed, left_out)
    return _written(out, {"mined": tests}, left_out, {"verb": "mine", "source": _name(folder), "seed": seed})


def import_folder(folder: Path, out: Path, seed: int) -> Harvest:
    """Write a dataset from the two layouts that olmOCR's public data come in.

    The first layout has PDFs of one page with `<stem>.md` beside them. Tests are mined from the Markdown without its
    front matter, and PDFs without Markdown are left out. The second layout (olmOCR-Bench and its synthetic pages) has
    `pdfs/` and JSONL files of tests. These tests are copied, except those that cannot be read and those that a page's
    own Markdown fails. Raises UserError if the folder holds no PDF or `out` is not empty.
    """
    made_by = {"verb": "import", "source": _name(folder), "seed": seed}
    if (folder / "pdfs").is_dir() and any(folder.glob("*.jsonl")):
        return _bench(folder, out, made_by)
    pdfs = _pdfs(folder)
    _empty(out)
    references = _transcripts(pdfs)
    left_out = [f"{pdf}: there is no {pdf.stem}.md beside it" for pdf in pdfs if pdf not in references]
    names = {pdf: f"{stem}.pdf" for pdf, stem in distinct_stems(references).items()}
    return _written(out, {"imported": _pairs(references, names, out, seed, left_out)}, left_out, made_by)


def _pdfs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name one that holds PDFs.")
    root = folder.resolve()
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".pdf" and path.is_file())
    pdfs = [path for path in paths if path.resolve().is_relative_to(root)]  # no link leads out of the folder
    if not pdfs:
        raise UserError(f"{folder}: there is no PDF in this folder; name one that holds PDFs.")
    for pdf in pdfs:
        if not is_utf8(str(pdf)):
            raise UserError(f"{_shown(pdf)}: this file's name is not UTF-8; rename it or take it out.")
    return pdfs


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _name(folder: Path) -> str:
    return _shown(Path(folder.resolve().name))


def _empty(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: this folder is not empty; give an empty or a new one with --out.")
    (out / "pdfs").mkdir(parents=True, exist_ok=True)


def _transcripts(pdfs: Sequence[Path]) -> dict[Path, dict[int, Path]]:
    """The Markdown files of each PDF that has any, by page number."""
    transcripts: dict[Path, dict[int, Path]] = {}
    for pdf, beside in references_of(pdfs).items():
        if None in beside:
            transcripts[pdf] = {1: beside[None]}
        elif beside:
            transcripts[pdf] = {number: path for number, path in beside.items() if number is not None}
    return transcripts


def _pairs(
    references: dict[Path, dict[int, Path]], names: dict[Path, str], out: Path, seed: int, left_out: list[str]
) -> list[Test]:
    """Tests of the PDFs with transcripts. PDFs and transcripts are copied to `out`, faults appended to `left_out`."""
    tests: list[Test] = []
    sizes = _absurd({pdf: list(numbers) for pdf, numbers in references.items()})
    for pdf, pages in count_pages(references):
        if isinstance(pages, PageError):
            left_out.append(str(pages))
            continue
        kept: list[Test] = []
        silent = sorted(set(range(1, pages + 1)) - set(references[pdf]))
        left_out += [f"{pdf}, page {number}: has no transcript" for number in silent]
        for number, path in references[pdf].items():
            if (pdf, number) in sizes and number <= pages:
                left_out.append(f"{pdf}, page {number}: {sizes[pdf, number]}")
                continue
            if number > pages or (pages > 1 and path.stem == pdf.stem):
                why = f"does not fit a PDF of {pages} pages"
                left_out.append(f"{pdf}, page {number}: the transcript {path.name} {why}")
                continue
            try:
                text = _text_of(path)
            except Unreadable as flaw:
                left_out.append(f"{path}: {flaw}")
                continue
            page_tests = markdown_tests(text, names[pdf], number, Random(f"{seed}/{names[pdf]}/{number}"))
            stem = names[pdf].removesuffix(".pdf")
            name = f"{stem}.md" if pages == 1 else f"{stem}_pg{number}.md"
            if not page_tests:
                left_out.append(f"{pdf}, page {number}: nothing in its transcript can be tested")
            elif (out / "pdfs" / name).exists():  # x_pg1.pdf and page 1 of x.pdf want the same name
                left_out.append(f"{pdf}, page {number}: the name {name} is taken by another PDF's; rename one of them")
            else:
                shutil.copyfile(path, out / "pdfs" / name)
                kept += page_tests
        tests += _copied(pdf, names[pdf], out, kept)
    return tests


def _text_of(path: Path) -> str:
    """The transcript without front matter. Raises Unreadable."""
    return split_front_matter(read_text(path))[1]


def _copied(pdf: Path, name: str, out: Path, tests: list[Test]) -> list[Test]:
    """The tests of a PDF, which is copied if there are any."""
    if tests:
        shutil.copyfile(pdf, out / "pdfs" / name)
    return tests


def _absurd(pages: Mapping[Path, Sequence[int]]) -> dict[tuple[Path, int], str]:
    """The reason for each page that is too large or too thin to be drawn."""
    return {(e.pdf, e.number): e.reason for e in size_faults(pages.items()) if e.pdf and e.number is not None}


def _bench(folder: Path, out: Path, made_by: Mapping[str, Any]) -> Harvest:
    """A dataset folder copied without what cannot be used."""
    pdfs = _pdfs(folder / "pdfs")
    _empty(out)
    left_out: list[str] = []
    pages = _counted(pdfs, left_out)
    absurd = _absurd({pdf: range(1, count + 1) for pdf, count in pages.items()})
    left_out += [f"{pdf}, page {number}: {reason}" for (pdf, number), reason in absurd.items()]
    names = {path.relative_to(folder / "pdfs").as_posix(): path for path in pages}
    transcripts = _whole(_transcripts(list(pages)), pages, absurd, left_out)
    kept: dict[str, list[Test]] = {}  # by the stem of their file, since files are the benchmark's categories
    for test in read_tests(_own_files(folder, left_out), names, {name: pages[pdf] for name, pdf in names.items()}):
        if isinstance(test, Flaw):
            left_out.append(f"{test.file}{'' if test.line is None else f':{test.line}'}: {test.message}")
            continue
        place = names[test.pdf], test.number
        if place in absurd:
            left_out.append(f"{test.file}:{test.line}: {absurd[place]}")
        elif place in transcripts and not test.check.run(prepare(transcripts[place][1]), "strict").passed:
            left_out.append(f"{test.file}:{test.line}: the page's own transcript fails it")
        else:
            kept.setdefault(test.file.stem, []).append(dict(test.fields))
    wanted = {names[test["pdf"]] for tests in kept.values() for test in tests} | {pdf for pdf, _ in transcripts}
    left_out += [f"{pdf}: no test and no transcript of it can be used" for pdf in pages if pdf not in wanted]
    for path in sorted(wanted | {reference for reference, _ in transcripts.values()}):
        target = out / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    with_transcript = [(pdf.relative_to(folder / "pdfs").as_posix(), number) for pdf, number in transcripts]
    return _written(out, kept, left_out, made_by, with_transcript)


def _own_files(folder: Path, left_out: list[str]) -> list[Path]:
    """The *.jsonl files that lie in the folder once links are followed."""
    files = []
    for file in sorted(folder.glob("*.jsonl")):
        if file.is_file() and file.resolve().is_relative_to(folder.resolve()) and is_utf8(str(file)):
            files.append(file)
        else:
            left_out.append(f"{_shown(file)}: it is not a file of this folder with a name in UTF-8")
    return files


def _counted(pdfs: Sequence[Path], left_out: list[str]) -> dict[Path, int]:
    """How many pages each PDF has that opens."""
    counts: dict[Path, int] = {}
    for pdf, count in count_pages(pdfs):
        if isinstance(count, PageError):
            left_out.append(str(count))
        else:
            counts[pdf] = count
    return counts


def _whole(
    references: Mapping[Path, Mapping[int, Path]],
    pages: Mapping[Path, int],
    absurd: Collection[tuple[Path, int]],
    left_out: list[str],
) -> dict[tuple[Path, int], tuple[Path, str]]:
    """File and text of each transcript that can be read and belongs to a page, by PDF and page number."""
    whole: dict[tuple[Path, int], tuple[Path, str]] = {}
    for pdf, numbered in references.items():
        for number, path in numbered.items():
            if number > pages[pdf] or (pdf, number) in absurd or (path.stem == pdf.stem and pages[pdf] > 1):
                left_out.append(f"{path}: there is no page for it in {pdf.name}")
                continue
            try:
                whole[pdf, number] = path, _text_of(path)
            except Unreadable as flaw:
                left_out.append(f"{path}: {flaw}")
    return whole


def _written(
    out: Path,
    files: Mapping[str, list[Test]],
    left_out: list[str],
    made_by: Mapping[str, Any],
    with_transcript: Sequence[tuple[str, int]] = (),
) -> Harvest:
    """Write tests by file name, the list of what was left out and the manifest.

    `with_transcript`: the pages (PDF, number) that have a transcript; some may have no tests.
    """
    for name, kept in files.items():
        write_tests(out / f"{name}.jsonl", kept)
    tests = [test for kept in files.values() for test in kept]
    (out / "left_out.txt").write_text("".join(f"{line}\n" for line in left_out), encoding="utf-8")
    write_manifest(out, made_by)
    pages = len({*with_transcript, *((test["pdf"], test["page"]) for test in tests)})
    return Harvest(pages=pages, tests=len(tests), left_out=tuple(left_out))
