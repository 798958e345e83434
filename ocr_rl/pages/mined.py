"""People's own PDFs become a dataset: tests from text layers, and from Markdown transcripts that lie beside PDFs.

    mine_folder(folder, out, seed)     `ocr-rl pages mine FOLDER --out DIR`
    import_folder(folder, out, seed)   `ocr-rl pages import FOLDER --out DIR`

Every test passes with what it was mined from, in both readings, and what it looks for stands there once. A page that
cannot be trusted is left out and named with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ocr_rl.contract import UserError
from ocr_rl.pages.dataset import MAX_REFERENCE_BYTES, is_utf8, references_of, write_tests
from ocr_rl.pages.hygiene import write_manifest
from ocr_rl.pages.raster import PageError, count_pages, distinct_stems, size_faults
from ocr_rl.pages.snippets import budget, stands_once
from ocr_rl.pages.text_layer import Layer, Line, read_layers
from ocr_rl.text import formulas, markdown
from ocr_rl.text.checks import load_check, prepare
from ocr_rl.text.front_matter import split_front_matter
from ocr_rl.text.normalize import normalize
from ocr_rl.text.tables import html_tables

Test = dict[str, Any]
_LONE_ACCENT = re.compile("[¨´`ˆ˜¸¯˘˙˚˝ˇ]")  # TeX's old typefaces print an accented letter in two parts
_PER_TYPE = {"present": 5, "order": 3, "absent": 4, "table": 6, "math": 4, "format": 4, "footnote": 3, "baseline": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """What came of a folder."""

    pages: int  # with tests or a transcript
    tests: int
    left_out: tuple[str, ...]  # "file, page N: reason"


def mine_folder(folder: Path, out: Path, seed: int) -> Harvest:
    """Write a dataset from the PDFs below a folder: a Markdown file beside a PDF is its reference, else the text layer.

    `<stem>.md` belongs to a PDF of one page, `<stem>_pg<N>.md` to page N. What was left out is in `left_out.txt`.
    """
    pdfs = _pdfs(folder)
    _empty(out)
    names = {pdf: f"{stem}.pdf" for pdf, stem in distinct_stems(pdfs).items()}
    references = _transcripts(pdfs)
    tests: list[Test] = []
    left_out: list[str] = []
    for pdf, found in read_layers([pdf for pdf in pdfs if pdf not in references], workers=1):
        if isinstance(found, str):
            left_out.append(f"{pdf}: {found}")
            continue
        kept: list[Test] = []
        for layer in found:
            made = [] if layer.reason else layer_tests(layer, names[pdf], Random(f"{seed}/{names[pdf]}/{layer.number}"))
            if not made:
                reason = layer.reason or "nothing on it stands once and can be tested"
                left_out.append(f"{pdf}, page {layer.number}: {reason}")
            kept += made
        tests += _copied(pdf, names[pdf], out, kept)
    tests += _pairs(references, names, out, seed, left_out)
    return _written(out, {"mined": tests}, left_out, {"verb": "mine", "source": _name(folder), "seed": seed})


def import_folder(folder: Path, out: Path, seed: int) -> Harvest:
    """Write a dataset from the layouts that olmOCR's public data come in; PDFs without either are left out.

    PDFs of one page with `<stem>.md` beside them (front matter taken off): tests are mined from the Markdown. A folder
    with `pdfs/` and JSONL files of tests (olmOCR-Bench, and its synthetic pages): tests are taken over, those that
    cannot be read or that a page's own Markdown fails are left out.
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


# --- tests from a text layer ------------------------------------------------------------------------------------------


def layer_tests(layer: Layer, pdf: str, rng: Random) -> list[Test]:
    """Present, order, absent and baseline tests of a page; order only within a column, where nobody doubts it.

    What may be a running header or footer is neither asked for nor forbidden.
    """
    body = [line for line in layer.lines if not line.running]
    text = normalize("\n".join(line.text for line in layer.lines))
    lower = text.lower()
    prose = [line for line in body if _is_prose(line) and not line.margin]
    found: list[Test] = []
    pieces = [(line, piece) for line in prose if (piece := _piece(line.text, text, lower, rng))]
    chosen = rng.sample(pieces, min(_PER_TYPE["present"], len(pieces)))
    found += [{"type": "present", "text": piece, "max_diffs": len(piece) // 20} for _, piece in chosen]
    for _ in range(3 * _PER_TYPE["order"]):
        if len(pieces) < 2 or sum(test["type"] == "order" for test in found) == _PER_TYPE["order"]:
            break
        (first, before), (second, after) = rng.sample(pieces, 2)
        if _above(first, second):
            found.append({"type": "order", "before": before, "after": after, "max_diffs": 1})
    rest = normalize("\n".join(line.text for line in body)).lower()
    edges = [line.text for line in layer.lines if line.running and sum(map(str.isalpha, line.text)) >= 4]
    found += [
        {"type": "absent", "text": edge} for edge in edges if len(edge) >= 6 and normalize(edge).lower() not in rest
    ]
    if pieces:
        # Running headers count too: a transcript that has them is not cut off.
        found += [{"type": "baseline"}, {"type": "baseline", "max_length": budget(text)}]
    return _named(found, pdf, layer.number) if pieces else []


def _is_prose(line: Line) -> bool:
    words = line.text.split()
    return len(words) >= 5 and sum(c.isalpha() or c == " " for c in line.text) > 0.85 * len(line.text)


def _above(first: Line, second: Line) -> bool:
    """Whether both stand in one column, the first well above."""
    shared = min(first.right, second.right) - max(first.left, second.left)
    narrow = min(first.right - first.left, second.right - second.left)
    wide = max(first.right - first.left, second.right - second.left)
    return shared > 0.8 * wide and narrow > 0.5 * wide and first.bottom > second.top + 2


def _piece(line: str, text: str, lower: str, rng: Random) -> str | None:
    """Some whole words of a line (none that a hyphen may have cut) that stand once on the page."""
    words = line.split()[: -1 if line.endswith("-") else None]
    if len(words) < 4:
        return None
    length = min(len(words), rng.randint(4, 8))
    at = rng.randint(0, len(words) - length)
    piece = " ".join(words[at : at + length])
    if len(piece) < 16 or _LONE_ACCENT.search(piece):
        return None
    return piece if stands_once(piece, text, lower) else None


# --- tests from Markdown ----------------------------------------------------------------------------------------------


def markdown_tests(text: str, pdf: str, number: int, rng: Random) -> list[Test]:
    """Tests that the transcript passes in both readings; of one blank page a baseline test."""
    if not any(c.isalnum() for c in text):
        return _named([{"type": "baseline", "max_length": 0}], pdf, number)
    found = [*_prose_tests(text, rng), *_table_tests(text, rng), *_mark_tests(text), {"type": "baseline"}]
    rng.shuffle(found)
    prepared, kept, counts = prepare(text), [], Counter[str]()
    for test in _named(found, pdf, number):
        if counts[test["type"]] == _PER_TYPE[test["type"]]:
            continue
        try:
            check = load_check(test)
        except ValueError:
            continue
        if check.run(prepared, "strict").passed and check.run(prepared, "compatible").passed:
            counts[test["type"]] += 1
            kept.append(test)
    return kept


def _prose_tests(text: str, rng: Random) -> Iterator[Test]:
    page = normalize(text)
    lower = page.lower()
    lines = [line for line in text.split("\n") if line.strip() and not re.search(r"[<>|\\\[\]$#]", line)]
    pieces = [piece for line in lines if (piece := _piece(re.sub(r"[*_]", "", line), page, lower, rng))]
    for piece in rng.sample(pieces, min(6, len(pieces))):
        yield {"type": "present", "text": piece, "max_diffs": len(piece) // 20}
    for _ in range(4):
        if len(pieces) >= 2:
            first, second = sorted(rng.sample(range(len(pieces)), 2))
            yield {"type": "order", "before": pieces[first], "after": pieces[second], "max_diffs": 0}


def _table_tests(text: str, rng: Random) -> Iterator[Test]:
    tables = html_tables(text)
    seen = Counter(normalize(cell.text) for table in tables for cell in table.cells.values())
    for table in tables:
        if table.fault:
            continue
        for cell in rng.sample(list(table.cells.values()), min(8, len(table.cells))):
            way = rng.choice(("left", "right", "up", "down"))
            others = table.neighbours(cell, way)
            if len(others) == 1 and all(c.text.strip() and seen[normalize(c.text)] == 1 for c in (cell, others[0])):
                yield {"type": "table", "cell": cell.text, way: others[0].text}


def _mark_tests(text: str) -> Iterator[Test]:
    page = normalize(text)
    for formula in dict.fromkeys(formulas.extract(text, dollars=False)):
        if len(formula) >= 8:
            yield {"type": "math", "math": formula}
    for kind in ("heading", "bold", "italic"):
        for piece in markdown.PIECES[kind](text, "strict"):
            if 4 <= len(piece) <= 200 and page.count(normalize(piece)) == 1:
                yield {"type": "format", "text": piece.strip(), "format": kind}
    for match in re.finditer(r"(\w[^\n\[\]<>]{12,60}\w[.,;]?)\[\^(\w{1,3})\](?!:)", text):
        yield {"type": "footnote", "marker": match[2], "appears_before_marker": match[1][-40:].split(" ", 1)[-1]}


# --- folders ----------------------------------------------------------------------------------------------------------


def _pdfs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name one that holds PDFs.")
    root = folder.resolve()
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".pdf" and path.is_file())
    pdfs = [path for path in found if path.resolve().is_relative_to(root)]  # no link leads out of the folder
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
    """Markdown files beside those PDFs that have any, by the page that they are of."""
    found: dict[Path, dict[int, Path]] = {}
    for pdf, beside in references_of(pdfs).items():
        if None in beside:
            found[pdf] = {1: beside[None]}
        elif beside:
            found[pdf] = {number: path for number, path in beside.items() if number is not None}
    return found


def _pairs(
    references: dict[Path, dict[int, Path]], names: dict[Path, str], out: Path, seed: int, left_out: list[str]
) -> list[Test]:
    """Tests of PDFs with transcripts; PDFs and transcripts are copied."""
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
            said = _said(path)
            if said is None or number > pages or (pages > 1 and path.stem == pdf.stem):
                why = "is no UTF-8 text of at most 4 MiB" if said is None else f"does not fit a PDF of {pages} pages"
                left_out.append(f"{pdf}, page {number}: the transcript {path.name} {why}")
                continue
            made = markdown_tests(said, names[pdf], number, Random(f"{seed}/{names[pdf]}/{number}"))
            stem = names[pdf].removesuffix(".pdf")
            name = f"{stem}.md" if pages == 1 else f"{stem}_pg{number}.md"
            if not made:
                left_out.append(f"{pdf}, page {number}: nothing in its transcript can be tested")
            elif (out / "pdfs" / name).exists():  # of x_pg1.pdf and of page 1 of x.pdf
                left_out.append(f"{pdf}, page {number}: the name {name} is taken by another PDF's; rename one of them")
            else:
                shutil.copyfile(path, out / "pdfs" / name)
                kept += made
        tests += _copied(pdf, names[pdf], out, kept)
    return tests


def _said(path: Path) -> str | None:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        return split_front_matter(text)[1] if len(data) <= MAX_REFERENCE_BYTES else None
    except UnicodeDecodeError:
        return None


def _copied(pdf: Path, name: str, out: Path, tests: list[Test]) -> list[Test]:
    if tests:
        shutil.copyfile(pdf, out / "pdfs" / name)
    return tests


def _absurd(pages: Mapping[Path, Sequence[int]]) -> dict[tuple[Path, int], str]:
    """Pages too large or too thin to be drawn, and why."""
    return {(e.pdf, e.number): e.reason for e in size_faults(pages.items()) if e.pdf and e.number is not None}


def _bench(folder: Path, out: Path, made_by: Mapping[str, Any]) -> Harvest:
    """A folder of tests as it is, less what cannot be used."""
    pdfs = _pdfs(folder / "pdfs")
    _empty(out)
    left_out: list[str] = []
    pages = _drawable(pdfs, left_out)  # by PDF
    names = {path.relative_to(folder / "pdfs").as_posix(): path for path in pages}
    said = _whole(_transcripts(list(pages)), pages, left_out)
    kept: dict[str, list[Test]] = {}  # by file: the files are the benchmark's categories
    used: set[str] = set()
    for file in sorted(folder.glob("*.jsonl")):
        if not file.is_file() or not file.resolve().is_relative_to(folder.resolve()) or not is_utf8(str(file)):
            left_out.append(f"{_shown(file)}: it is not a file of this folder with a name in UTF-8")
            continue
        for k, line in enumerate(file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                test = json.loads(line.decode())
                check = load_check(test)
                pdf = names.get(check.pdf)
                if pdf is None or check.page is True or check.page not in pages[pdf] or check.id in used:
                    raise ValueError("its page is not there, or its id is taken")
                if not is_utf8(json.dumps(test, ensure_ascii=False)):
                    raise ValueError("it holds half a character (a lone surrogate)")
                reference = said.get((pdf, check.page))
                if reference is not None and not check.run(prepare(reference[1]), "strict").passed:
                    raise ValueError("the page's own transcript fails it")
            except (ValueError, TypeError, RecursionError) as error:
                left_out.append(f"{file}:{k}: {error}")
                continue
            used.add(check.id)
            kept.setdefault(file.stem, []).append(test)
    wanted = {names[test["pdf"]] for tests in kept.values() for test in tests} | {pdf for pdf, _ in said}
    left_out += [f"{pdf}: no test and no transcript of it can be used" for pdf in pages if pdf not in wanted]
    for path in sorted(wanted | {reference for reference, _ in said.values()}):
        target = out / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    told = [(pdf.relative_to(folder / "pdfs").as_posix(), number) for pdf, number in said]
    return _written(out, kept, left_out, made_by, told)


def _drawable(pdfs: Sequence[Path], left_out: list[str]) -> dict[Path, frozenset[int]]:
    """The numbers of each PDF's pages that can be drawn."""
    counts: dict[Path, int] = {}
    for pdf, count in count_pages(pdfs):
        if isinstance(count, PageError):
            left_out.append(str(count))
        else:
            counts[pdf] = count
    absurd = _absurd({pdf: range(1, count + 1) for pdf, count in counts.items()})
    left_out += [f"{pdf}, page {number}: {reason}" for (pdf, number), reason in absurd.items()]
    return {
        pdf: frozenset(number for number in range(1, count + 1) if (pdf, number) not in absurd)
        for pdf, count in counts.items()
    }


def _whole(
    references: Mapping[Path, Mapping[int, Path]], pages: Mapping[Path, frozenset[int]], left_out: list[str]
) -> dict[tuple[Path, int], tuple[Path, str]]:
    """File and text of each transcript that can be read and belongs to a page."""
    whole: dict[tuple[Path, int], tuple[Path, str]] = {}
    for pdf, numbered in references.items():
        for number, path in numbered.items():
            text = _said(path)
            if text is None:
                left_out.append(f"{path}: is no UTF-8 text of at most {MAX_REFERENCE_BYTES // 2**20} MiB")
            elif number not in pages[pdf] or (path.stem == pdf.stem and len(pages[pdf]) > 1):
                left_out.append(f"{path}: there is no page for it in {pdf.name}")
            else:
                whole[pdf, number] = path, text
    return whole


def _named(found: Sequence[Test], pdf: str, number: int) -> list[Test]:
    counts: Counter[str] = Counter()
    named = []
    for test in found:
        counts[test["type"]] += 1
        name = f"{pdf.removesuffix('.pdf')}_p{number}_{test['type']}{counts[test['type']]}"
        named.append({"pdf": pdf, "page": number, "id": name, **test})
    return named


def _written(
    out: Path,
    files: Mapping[str, list[Test]],
    left_out: list[str],
    made_by: Mapping[str, Any],
    told: Sequence[tuple[str, int]] = (),
) -> Harvest:
    """`told`: pages that have a transcript, perhaps without tests."""
    for name, kept in files.items():
        write_tests(out / f"{name}.jsonl", kept)
    tests = [test for kept in files.values() for test in kept]
    (out / "left_out.txt").write_text("".join(f"{line}\n" for line in left_out), encoding="utf-8")
    write_manifest(out, made_by)
    pages = len({*told, *((test["pdf"], test["page"]) for test in tests)})
    return Harvest(pages=pages, tests=len(tests), left_out=tuple(left_out))
