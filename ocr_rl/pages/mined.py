"""People's own PDFs become a dataset: tests from text layers, and from Markdown transcripts that lie beside PDFs.

    mine_folder(folder, out, seed)     `ocr-rl pages mine FOLDER --out DIR`
    import_folder(folder, out, seed)   `ocr-rl pages import FOLDER --out DIR`

`mined_tests` and `layer_tests` make the tests. A page that cannot be trusted is left out and named with the reason.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unicodedata import normalize

from ocr_rl.contract import UserError
from ocr_rl.files import MAX_LINE, Unreadable, is_utf8, read_text
from ocr_rl.pages.check_lines import Flaw, read_tests
from ocr_rl.pages.dataset import write_tests
from ocr_rl.pages.documents import SUFFIXES, twins
from ocr_rl.pages.folder import references_of
from ocr_rl.pages.layer_tests import layer_tests
from ocr_rl.pages.manifest import write_manifest
from ocr_rl.pages.mined_tests import markdown_tests
from ocr_rl.pages.raster import PageError, count_pages, distinct_stems, long_name, size_faults
from ocr_rl.pages.snippets import Test
from ocr_rl.pages.text_layer import read_layers
from ocr_rl.pages.tree import LEADS_OUT, NOT_UTF8, Tree, files_in, tree
from ocr_rl.text.checks import prepare
from ocr_rl.text.front_matter import split_front_matter


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """What became of a folder."""

    pages: int  # number of pages with tests or a transcript
    tests: int
    left_out: tuple[str, ...]  # "file, page N: reason"


def mine_folder(folder: Path, out: Path, seed: int) -> Harvest:
    """Write a dataset from the PDFs and pictures below a folder.

    A Markdown file beside a PDF is the reference of its page: `<stem>.md` for a PDF of one page, `<stem>_pg<N>.md` for
    page N. Pages of other PDFs get tests from their text layer; a picture has none. `left_out.txt` lists what was left
    out. Raises UserError if the folder holds no PDF and no picture or `out` is not empty.
    """
    left_out: list[str] = []
    pdfs = _apart(_below(folder, left_out), left_out)
    _empty(out)
    names = _names(pdfs.values(), out, left_out)
    references = _transcripts(list(names))
    tests: list[Test] = []
    for pdf, layers in read_layers([pdf for pdf in names if pdf not in references], workers=1):
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
    if (folder / "pdfs").is_dir() and files_in(folder, ".jsonl"):
        return _bench(folder, out, made_by)
    left_out: list[str] = []
    pdfs = list(_apart(_below(folder, left_out), left_out).values())
    _empty(out)
    references = _transcripts(pdfs)
    left_out += [f"{pdf}: there is no {pdf.stem}.md beside it" for pdf in pdfs if pdf not in references]
    names = _names(references, out, left_out)
    references = {pdf: references[pdf] for pdf in names}
    return _written(out, {"imported": _pairs(references, names, out, seed, left_out)}, left_out, made_by)


def _below(folder: Path, left_out: list[str], inside: Path | None = None) -> Tree:
    """The PDFs below a folder; a line for each name that is left out is appended. With `inside` no link leads out."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name one that holds PDFs.")
    below = tree(folder, SUFFIXES, inside)
    for path, reason in below.left_out:
        if reason == NOT_UTF8:
            raise UserError(f"{_shown(path)}: this file's name is not UTF-8; rename it or take it out.")
    left_out += [f"{path}: {reason}" for path, reason in (*below.left_out, *below.not_followed)]
    left_out += [f"{below.files[name]}: is {below.files[first]} by another name" for name, first in below.same.items()]
    if not below.files:
        why = f" ({left_out[0]})" if left_out else ""
        raise UserError(f"{folder}: there is no PDF in this folder{why}; name one that holds PDFs.")
    return below


def _names(pdfs: Iterable[Path], out: Path, left_out: list[str]) -> dict[Path, str]:
    """The name of each file below pdfs/ of the new dataset, but for those whose name cannot be written."""
    names: dict[Path, str] = {}
    for pdf, stem in distinct_stems(pdfs).items():
        name = f"{stem}{pdf.suffix.lower()}"
        if reason := long_name(out, name):
            left_out.append(f"{pdf}: {reason}")
        else:
            names[pdf] = name
    return names


def _apart(below: Tree, left_out: list[str]) -> dict[str, Path]:
    """The documents by name, without those that share it with another one; a line for each such is appended."""
    documents = below.once(*SUFFIXES)
    shared = twins(documents.values())
    left_out += [
        f"{path}: has the name of {other.name} but for the ending; rename one" for path, other in shared.items()
    ]
    return {name: path for name, path in documents.items() if path not in shared}


def _is_whole(transcript: Path, pdf: Path) -> bool:
    """Whether a Markdown file is named as that of a whole document, not of one of its pages."""
    return normalize("NFC", transcript.stem) == normalize("NFC", pdf.stem)


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
            if number > pages or (pages > 1 and _is_whole(path, pdf)):
                why = f"does not fit a PDF of {pages} pages"
                left_out.append(f"{pdf}, page {number}: the transcript {path.name} {why}")
                continue
            try:
                text = _text_of(path)
            except Unreadable as flaw:
                left_out.append(f"{path}: {flaw}")
                continue
            page_tests = markdown_tests(text, names[pdf], number, Random(f"{seed}/{names[pdf]}/{number}"))
            stem = Path(names[pdf]).stem
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
    left_out: list[str] = []
    below = _below(folder / "pdfs", left_out, inside=folder)
    pdfs = _apart(below, left_out)
    _empty(out)
    pages = _counted(list(pdfs.values()), left_out)
    absurd = _absurd({pdf: range(1, count + 1) for pdf, count in pages.items()})
    left_out += [f"{pdf}, page {number}: {reason}" for (pdf, number), reason in absurd.items()]
    name_of = {path: name for name, path in pdfs.items() if path in pages}
    num_pages = {name: pages[pdf] for pdf, name in name_of.items()}
    names_of = {**{name: name for name in num_pages}, **{a: b for a, b in below.same.items() if b in num_pages}}
    transcripts = _whole(_transcripts(list(pages)), pages, absurd, left_out)
    transcripts = {place: kept for place, kept in transcripts.items() if not _leads_out(kept[0], folder, left_out)}
    kept: dict[str, list[Test]] = {}  # by the stem of their file, since files are the benchmark's categories
    for test in read_tests(_own_files(folder, left_out), names_of, num_pages):
        if isinstance(test, Flaw):
            left_out.append(f"{test.file}{'' if test.line is None else f':{test.line}'}: {test.message}")
            continue
        place = pdfs[test.pdf], test.number
        if place in absurd:
            left_out.append(f"{test.file}:{test.line}: {absurd[place]}")
        elif place in transcripts and not test.check.run(prepare(transcripts[place][1]), "strict").passed:
            left_out.append(f"{test.file}:{test.line}: the page's own transcript fails it")
        else:
            kept.setdefault(test.file.stem, []).append(dict(test.fields))
    wanted = {pdfs[test["pdf"]] for tests in kept.values() for test in tests} | {pdf for pdf, _ in transcripts}
    left_out += [f"{pdf}: no test and no transcript of it can be used" for pdf in pages if pdf not in wanted]
    for path in sorted(wanted | {reference for reference, _ in transcripts.values()}):
        target = out / normalize("NFC", path.relative_to(folder).as_posix())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    with_transcript = [(name_of[pdf], number) for pdf, number in transcripts]
    return _written(out, kept, left_out, made_by, with_transcript)


def _leads_out(path: Path, folder: Path, left_out: list[str]) -> bool:
    if path.resolve().is_relative_to(folder.resolve()):
        return False
    left_out.append(f"{path}: {LEADS_OUT}")
    return True


def _own_files(folder: Path, left_out: list[str]) -> list[Path]:
    """The *.jsonl files that lie in the folder once links are followed."""
    files = []
    for file in files_in(folder, ".jsonl"):
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
            if number > pages[pdf] or (pdf, number) in absurd or (_is_whole(path, pdf) and pages[pdf] > 1):
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
    """Write tests by file name, the list of what was left out and the manifest. A test too long to be read is left out.

    `with_transcript`: the pages (PDF, number) that have a transcript; some may have no tests.
    """
    tests: list[Test] = []
    for name, kept in files.items():
        short = [test for test in kept if len(json.dumps(test, ensure_ascii=False).encode()) < MAX_LINE]
        long = [test for test in kept if test not in short]
        left_out += [f"{t['pdf']}, page {t['page']}: the test {t['id']} is longer than 1 MiB" for t in long]
        write_tests(out / f"{name}.jsonl", short)
        tests += short
    (out / "left_out.txt").write_text("".join(f"{line}\n" for line in left_out), encoding="utf-8")
    write_manifest(out, made_by)
    pages = len({*with_transcript, *((test["pdf"], test["page"]) for test in tests)})
    return Harvest(pages=pages, tests=len(tests), left_out=tuple(left_out))
