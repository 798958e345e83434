"""Pages drawn, and pages refused: PDFs written by hand, object by object, and the shared collection where it is."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from ocr_rl.contract import UserError
from ocr_rl.pages import opening
from ocr_rl.pages.export import render_folder
from ocr_rl.pages.raster import (
    ImageRef,
    PageError,
    count_pages,
    num_pages,
    render,
    render_all,
    render_bytes,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "olmocr_bench"
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def pdf_bytes(*, boxes: Sequence[str] = ("0 0 200 100",), page: str = "", trailer: str = "", extra: str = "") -> bytes:
    """A PDF with one page per box; a black square of 20 pt in the upper left corner of 200 x 100 pt."""
    content = "0 0 0 rg 0 80 20 20 re f"
    kids = " ".join(f"{4 + k} 0 R" for k in range(len(boxes)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(boxes)} >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        *(f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents 3 0 R {page} >>" for box in boxes),
        *([extra] if extra else []),
    ]
    data, starts = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, start=1):
        starts.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode()
    rows = "".join(f"{start:010d} 00000 n \n" for start in starts)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{rows}trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\n"
    return data + f"{end}startxref\n{len(data)}\n%%EOF\n".encode()


def _locked(handler: str) -> bytes:
    marks = "<" + "41" * 32 + ">"  # no password fits them
    return pdf_bytes(
        trailer=f"/Encrypt 5 0 R /ID [{marks} {marks}]",
        extra=f"<< /Filter /{handler} /V 1 /R 2 /O {marks} /U {marks} /P -4 >>",
    )


def _corners(image: Image.Image) -> list[bool]:
    """Whether the corners are black, clockwise from the upper left."""
    right, bottom = image.width - 3, image.height - 3
    pixels = [image.getpixel(at) for at in ((2, 2), (right, 2), (right, bottom), (2, bottom))]
    assert set(pixels) <= {BLACK, WHITE}
    return [pixel == BLACK for pixel in pixels]


def _reason(data: bytes, number: int = 1) -> str:
    with pytest.raises(PageError) as caught:
        render_bytes(data, number, 100)
    return caught.value.reason


# --- drawing ----------------------------------------------------------------------------------------------------------


def test_rgb_on_white_with_the_page_the_right_way_up() -> None:
    image = render_bytes(pdf_bytes(), 1, 400)
    assert (image.mode, image.size) == ("RGB", (400, 200))
    assert _corners(image) == [True, False, False, False]
    assert image.getpixel((200, 100)) == WHITE


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_rotation_is_clockwise_and_adds_to_the_pages_own(quarters: int) -> None:
    expected = [corner == quarters for corner in range(4)]
    size = (400, 200) if quarters % 2 == 0 else (200, 400)
    rotated = render_bytes(pdf_bytes(), 1, 400, rotation=90 * quarters)
    own = render_bytes(pdf_bytes(page=f"/Rotate {90 * quarters}"), 1, 400)
    undone = render_bytes(pdf_bytes(page=f"/Rotate {90 * quarters}"), 1, 400, rotation=(360 - 90 * quarters) % 360)
    assert (rotated.size, _corners(rotated)) == (size, expected)
    assert (own.size, _corners(own)) == (size, expected)
    assert _corners(undone) == [True, False, False, False]


@pytest.mark.parametrize("box", ["0 0 612 792", "0 0 595.276 841.89", "0 0 3 5", "0 0 841.89 595.276", "0 0 14400 144"])
@pytest.mark.parametrize("longest_px", [1, 97, 1288])
def test_the_longest_side_is_exact_for_any_page_size(box: str, longest_px: int) -> None:
    right, top = map(float, box.split()[2:])
    image = render_bytes(pdf_bytes(boxes=[box]), 1, longest_px)
    assert max(image.size) == longest_px
    assert min(image.size) == pytest.approx(longest_px * min(right, top) / max(right, top), abs=1)
    assert (image.width > image.height) == (right > top) or image.width == image.height


def test_the_crop_box_is_the_page() -> None:
    image = render_bytes(pdf_bytes(page="/CropBox [0 50 50 100]"), 1, 100)
    assert image.size == (100, 100)
    assert _corners(image) == [True, False, False, False]


def test_annotations_are_drawn() -> None:
    look = "1 0 0 rg 0 0 50 50 re f"
    stamp = f"<< /Type /XObject /Subtype /Form /BBox [0 0 50 50] /Length {len(look)} >>\nstream\n{look}\nendstream"
    page = "/Annots [<< /Type /Annot /Subtype /Stamp /Rect [150 0 200 50] /F 4 /AP << /N 5 0 R >> >>]"
    image = render_bytes(pdf_bytes(page=page, extra=stamp), 1, 200)
    assert image.getpixel((175, 75)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("field", "value"), [("number", 0), ("longest_px", 0), ("longest_px", 10**6), ("rotation", 45)]
)
def test_a_ref_that_makes_no_sense_is_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        ImageRef(**{"pdf": Path("a.pdf"), "number": 1, field: value})


# --- refusing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", "the file is not a PDF, PNG, JPEG, WebP or TIFF"),
        (b"", "the file is not a PDF, PNG, JPEG, WebP or TIFF"),
        (b"%PDF-1.7\n%%EOF\n", "the file is damaged"),
        (pdf_bytes()[:-60], "the file is truncated: its end is missing"),
        (pdf_bytes()[:250], "the file is truncated: its end is missing"),
        (_locked("Standard"), "the file is encrypted and asks for a password"),
        (_locked("Unknown"), "the file is encrypted in a way that PDFium does not know"),
        (pdf_bytes(boxes=[]), "the document has no pages"),
        (pdf_bytes(boxes=["0 0 0 0"]), "the page has no size"),
        (pdf_bytes(boxes=["0 0 100 0"]), "the page has no size"),
        (pdf_bytes(boxes=["0 0 14401 14401"]), "the page is absurdly large (200 x 200 inches)"),
        (pdf_bytes(boxes=["0 0 3000000 100000"]), "the page is absurdly large (41667 x 1389 inches)"),
        (pdf_bytes(boxes=["0 0 1000 9"]), "the page is absurdly thin (1000 x 9 pt)"),
    ],
)
def test_refused_with_the_reason(data: bytes, reason: str) -> None:
    assert _reason(data) == reason


def test_no_such_page() -> None:
    assert _reason(pdf_bytes(boxes=["0 0 9 9"] * 2), 3) == "there is no such page, the document has 2"


def test_files_that_are_none(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pdf"
    empty.touch()
    huge = tmp_path / "huge.pdf"
    with huge.open("wb") as file:
        file.truncate(opening.MAX_FILE_BYTES + 1)  # a sparse file: it takes no room
    reasons = {
        tmp_path / "none.pdf": "there is no such file",
        tmp_path: "it is not a file",
        empty: "the file is empty",
        huge: "the file is absurdly large (2.0 GiB)",
    }
    for pdf, reason in reasons.items():
        with pytest.raises(PageError) as caught:
            render(ImageRef(pdf=pdf, number=1))
        assert str(caught.value) == f"{pdf}, page 1: {reason}"
        with pytest.raises(PageError) as caught:
            num_pages(pdf)
        assert str(caught.value) == f"{pdf}: {reason}"


# --- many pages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def pdfs(tmp_path: Path) -> dict[str, Path]:
    contents = {
        "good": pdf_bytes(boxes=["0 0 200 100", "0 0 0 0", "0 0 100 200"]),
        "locked": _locked("Standard"),
        "text": b"hello",
        "last": pdf_bytes(),
    }
    for name, data in contents.items():
        (tmp_path / f"{name}.pdf").write_bytes(data)
    return {name: tmp_path / f"{name}.pdf" for name in contents}


def test_render_all_goes_on_after_a_refused_page(pdfs: dict[str, Path]) -> None:
    places = [("good", 1), ("good", 2), ("locked", 1), ("good", 3), ("last", 2), ("last", 1)]
    refs = [ImageRef(pdf=pdfs[name], number=number, longest_px=60) for name, number in places]
    results = list(render_all(refs, workers=2))
    assert [ref for ref, _ in results] == refs
    shown = [result.size if isinstance(result, Image.Image) else result.reason for _, result in results]
    assert shown == [
        (60, 30),
        "the page has no size",
        "the file is encrypted and asks for a password",
        (30, 60),
        "there is no such page, the document has 1",
        (60, 30),
    ]
    first = results[0][1]
    assert isinstance(first, Image.Image) and first.tobytes() == render(refs[0]).tobytes()


def test_counting_pages(pdfs: dict[str, Path]) -> None:
    counts = [str(count) for _, count in count_pages(pdfs.values())]
    locked, text = (f"{pdfs[name]}: the file is" for name in ("locked", "text"))
    assert counts == [
        "3",
        f"{locked} encrypted and asks for a password",
        f"{text} not a PDF, PNG, JPEG, WebP or TIFF",
        "1",
    ]
    assert num_pages(pdfs["good"]) == 3


def test_render_folder_writes_pages_and_names_the_refused(pdfs: dict[str, Path], tmp_path: Path) -> None:
    twin = tmp_path / "twin" / "last.pdf"
    twin.parent.mkdir()
    twin.write_bytes(pdf_bytes(boxes=["0 0 100 200"]))
    out = tmp_path / "out" / "images"
    written, refused = render_folder([*pdfs.values(), twin, twin], out, longest_px=50, workers=2)
    assert [path.name for path in written] == ["good_pg1.png", "good_pg3.png", "last_pg1.png", "last-2_pg1.png"]
    assert sorted(out.glob("[!.]*")) == sorted(written)  # beside them, the list of what was written
    assert [Image.open(path).size for path in written] == [(50, 25), (25, 50), (50, 25), (25, 50)]
    assert [(error.pdf, error.number) for error in refused] == [
        (pdfs["good"], 2),
        (pdfs["locked"], None),
        (pdfs["text"], None),
    ]


def test_render_folder_says_where_it_cannot_write(pdfs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="text.pdf: cannot be written"):
        render_folder([pdfs["last"]], pdfs["text"])


# --- real pages -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared collection of real PDFs is not beside the checkout")
def test_every_real_page_can_be_drawn() -> None:
    files = sorted(SHARED.rglob("*.pdf"))
    assert files
    refs = []
    for pdf, pages in count_pages(files):
        assert isinstance(pages, int), pages
        refs += [ImageRef(pdf=pdf, number=number, longest_px=322) for number in range(1, pages + 1)]
    for _, image in render_all(refs, workers=1):
        assert isinstance(image, Image.Image), image
        assert max(image.size) == 322
