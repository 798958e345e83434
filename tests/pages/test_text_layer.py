"""Text layers: reading order, running headers, and what makes a page not to be trusted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from ocr_rl.pages.reading_order import Line, in_reading_order
from ocr_rl.pages.synth.make import make_document
from ocr_rl.pages.text_layer import MAX_PAGES, Layer, layers, with_running
from tests.pages.pdfs import FOOTER, HEADER, HIDDEN, SEEN, block, pdf


def line(text: str, left: float, bottom: float, right: float = 0.0) -> Line:
    return Line(text=text, left=left, bottom=bottom, right=right or left + 100, top=bottom + 8)


def texts(lines: Iterable[Line]) -> list[str]:
    return [line.text for line in lines]


def test_columns_are_read_down_and_a_title_first() -> None:
    lines = [line("title", 50, 700, 500)]
    for k in range(4):
        lines += [line(f"left {k}", 50, 600 - 12 * k, 240), line(f"right {k}", 300, 603 - 12 * k, 500)]
    lines.append(line("foot", 50, 100, 500))
    expected = ["title", *[f"left {k}" for k in range(4)], *[f"right {k}" for k in range(4)], "foot"]
    assert texts(in_reading_order(lines, 612)) == expected
    assert texts(in_reading_order(lines[::-1], 612)) == expected


def test_what_runs_along_the_edge_of_three_pages_is_running() -> None:
    pages = [
        Layer(number=k, height=800, lines=(line(f"Annual report {k}", 50, 770), line("Annual report", 50, 400)))
        for k in (1, 2, 3)
    ]
    assert [[line.running for line in page.lines] for page in with_running(pages)] == [[True, False]] * 3
    assert not any(line.running for page in with_running(pages[:2]) for line in page.lines)


def test_a_block_that_runs_in_part_is_not_asked_for() -> None:
    def page(number: int) -> Layer:
        block = ("20 Harbour Road", 124), ("Northport, NP 30630", 112), ("Telephone 883 2430", 100), ("Drawn", 86)
        lines = [line("Date", 50, 700), line(f"Minutes of meeting {number}{'abc'[number]}", 400, 136)]
        lines += [line(text, 400, bottom) for text, bottom in block]
        lines.append(line("Beside it", 50, 100))
        return Layer(number=number, height=800, lines=tuple(lines))

    (first, *_) = with_running([page(0), page(1), page(2)])  # the outer 12 % end at 96
    assert texts(line for line in first.lines if line.running) == ["Drawn"]
    # What goes on from there on every page may be one with it; not the head of a table, nor what is new on each page.
    assert texts(line for line in first.lines if line.margin and not line.running) == [
        "20 Harbour Road",
        "Northport, NP 30630",
        "Telephone 883 2430",
    ]


def test_left_and_right_pages_have_headers_of_their_own(tmp_path: Path) -> None:
    body = block(*SEEN, y=650)
    pages = [f"{block(HEADER if k % 2 else FOOTER, y=750)} {body}" for k in range(6)]
    (tmp_path / "a.pdf").write_bytes(pdf(*pages))
    assert [layer.lines[0].running for layer in layers(tmp_path / "a.pdf")] == [True] * 6


def test_a_turned_page_is_not_read(tmp_path: Path) -> None:
    import pypdfium2 as pdfium

    with pdfium.PdfDocument(make_document("letter", 1, 0, 1).pdf) as document:
        document[0].set_rotation(90)
        document.save(tmp_path / "turned.pdf")
    assert [page.reason for page in layers(tmp_path / "turned.pdf")] == ["its text stands sideways"]


@pytest.mark.parametrize(
    "hidden",
    [
        f"1 1 1 rg {block(HIDDEN, y=400)}",
        f"{block(HIDDEN, y=400)} 1 1 1 rg 0 300 612 150 re f",
        f"q 0 0 1 1 re W n {block(HIDDEN, y=400)} Q",
        block(HIDDEN, y=400, mode=7),
        f"/G0 gs {block(HIDDEN, y=400)}",
        block(HIDDEN, y=400, size=0.1),
        block(f"{HIDDEN} {HIDDEN}", x=400, y=400),
        "/X1 Do",
    ],
    ids=["white", "covered", "clipped", "clip mode", "transparent", "tiny", "half off the page", "in a form"],
)
def test_a_page_with_text_that_nobody_sees_is_left_out(tmp_path: Path, hidden: str) -> None:
    page = f"{block(*SEEN)} {hidden}"
    (tmp_path / "a.pdf").write_bytes(pdf(page, xobject=f"1 1 1 rg {block(HIDDEN, y=400)}"))
    assert [layer.reason for layer in layers(tmp_path / "a.pdf")] == ["hidden text in 1 of its 4 lines"]


def test_what_a_printer_wrote_beside_the_page_is_not_on_it(tmp_path: Path) -> None:
    beside = f"{block(HIDDEN, y=-300)} {block(HIDDEN, x=1000)}"
    (tmp_path / "a.pdf").write_bytes(pdf(f"{block(*SEEN)} {beside}"))
    (tmp_path / "b.pdf").write_bytes(pdf(f"1 0 0 1 50 500 cm {block(*SEEN)}", box="50 500 662 1292"))
    first, second = (layers(tmp_path / name)[0] for name in ("a.pdf", "b.pdf"))
    assert texts(first.lines) == texts(second.lines) == list(SEEN)
    assert first.lines[0].bottom == pytest.approx(second.lines[0].bottom, abs=0.1)  # from the page's own corner


def test_each_page_past_the_last_that_is_read_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(*[""] * (MAX_PAGES + 3)))
    pages = layers(tmp_path / "a.pdf")
    assert [layer.number for layer in pages] == list(range(1, MAX_PAGES + 4)) and "past page" in pages[-1].reason


LETTERS = "  ".join(
    f"{72 + 9 * k} 400 m {75 + 9 * k} 412 l {78 + 9 * k} 400 l S" for k in range(9)
)  # drawn, not written


@pytest.mark.parametrize(
    ("drawn", "explained"),
    [
        ("", True),
        ("72 660 400 0 re S 72 500 468 60 re S 200 500 m 200 560 l S 72 530 m 540 530 l S", True),
        ("0.9 0.9 0.6 rg 72 560 468 40 re f", True),
        (LETTERS, False),
    ],
    ids=["nothing", "rules and a grid", "a plain area", "outlines of letters"],
)
def test_ink_that_the_layer_does_not_explain(tmp_path: Path, drawn: str, explained: bool) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(f"{block(*SEEN)} {drawn}"))
    (page,) = layers(tmp_path / "a.pdf")
    assert not page.reason and page.explained is explained


@pytest.mark.parametrize("kind", ["Widget /FT /Tx /T (a)", "Stamp"])
def test_what_was_filled_in_or_stamped_is_ink_without_a_layer(tmp_path: Path, kind: str) -> None:
    written = f"50 0 obj << /Type /Annot /Subtype /{kind} /F 4 /Rect [0 0 612 792] /AP << /N 4 0 R >> >> endobj trailer"
    plain = pdf(block(*SEEN), xobject=block(HIDDEN, y=400)).decode()
    filled = plain.replace("trailer", written).replace("/Contents", "/Annots [50 0 R] /Contents")
    filled = filled.replace("/Type /Catalog", "/Type /Catalog /AcroForm << /Fields [50 0 R] >>")
    for text, explained in ((plain, True), (filled, False)):
        (tmp_path / "a.pdf").write_bytes(text.encode())
        (page,) = layers(tmp_path / "a.pdf")
        assert texts(page.lines) == list(SEEN) and page.explained is explained


def test_a_letter_in_two_halves_is_one_letter(tmp_path: Path) -> None:
    from ocr_rl.pages.synth.typeset import compiled

    source = '#set text(font: "Libertinus Serif")\nLet the value of $x$ be what the harbour master measured on Tuesday.'
    (tmp_path / "a.pdf").write_bytes(compiled(source)[0])
    (page,) = layers(tmp_path / "a.pdf")
    assert "Let the value of 𝑥 be" in texts(page.lines)[0]


def test_a_figure_with_a_raised_mark_is_known_from_its_digits(tmp_path: Path) -> None:
    marked = "BT /F1 11 Tf 72 600 Td (Torvik 61.5) Tj 4 Ts /F1 7 Tf (7) Tj 0 Ts ET"
    (tmp_path / "a.pdf").write_bytes(pdf(f"{block(*SEEN)} {marked}"))
    (layer,) = layers(tmp_path / "a.pdf")
    (line,) = [line for line in layer.lines if "Torvik" in line.text]
    assert line.text.split() == ["Torvik", "61.57"]
    assert line.odd == (False, True)
