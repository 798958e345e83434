"""One way to open a file: what is a PDF for one verb is one for all, and what is none is refused in the same words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from ocr_rl.cli import main
from ocr_rl.contract import Page
from ocr_rl.engines.text_layer import TextLayer
from ocr_rl.pages.dataset import check_dataset
from ocr_rl.pages.mined import mine_folder
from ocr_rl.pages.opening import XFA, opened
from ocr_rl.pages.raster import render_bytes
from ocr_rl.pages.text_layer import layers
from ocr_rl.pages.workers import Refusal
from tests.pages.pdfs import SEEN, block, pdf
from tests.pages.test_raster import pdf_bytes

PASSWORD = "the file is encrypted and asks for a password"
TRUNCATED = "the file is truncated: its end is missing"
WAIT = block(
    "Please wait...",
    "If this message is not eventually replaced by the proper contents of the document, your PDF",
    "viewer may not be able to display this type of document. Visit http://www.adobe.com/go/reader_download.",
)
LOCKED = pdf_bytes(
    trailer="/Encrypt 5 0 R /ID [<41> <41>]",
    extra=f"<< /Filter /Standard /V 1 /R 2 /O <{'41' * 32}> /U <{'41' * 32}> /P -4 >>",
)


def in_streams() -> bytes:
    """A PDF as modern programs write it: its catalogue and page lie in a compressed stream, its table in another."""
    objects = {
        1: "<</Type/Catalog/Pages 2 0 R>>",
        2: "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        3: "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Contents 4 0 R>>",
    }
    starts = [sum(len(text) + 1 for text in list(objects.values())[:k]) for k in range(3)]
    index = " ".join(f"{number} {start}" for number, start in zip(objects, starts, strict=True)) + "\n"
    body = index + "\n".join(objects.values())
    data, places = b"%PDF-1.7\n", {}
    for number, head, stream in (
        (4, "", "0 0 0 rg 0 80 20 20 re f"),
        (5, f"/Type/ObjStm/N 3/First {len(index)}", body),
    ):
        places[number] = len(data)
        data += f"{number} 0 obj\n<<{head}/Length {len(stream)}>>\nstream\n{stream}\nendstream\nendobj\n".encode()
    places[6] = len(data)
    rows = [(0, 0, 255), (2, 5, 0), (2, 5, 1), (2, 5, 2), *((1, places[number], 0) for number in (4, 5, 6))]
    table = b"".join(bytes([kind]) + place.to_bytes(2, "big") + bytes([index]) for kind, place, index in rows)
    head = f"6 0 obj\n<</Type/XRef/Size 7/W[1 2 1]/Root 1 0 R/Length {len(table)}>>\nstream\n"
    return data + head.encode() + table + f"\nendstream\nendobj\nstartxref\n{places[6]}\n%%EOF\n".encode()


def xfa_form(page: str, *, dynamic: bool) -> bytes:
    form = "/AcroForm << /Fields [] /XFA (<xdp/>) >>" + (" /NeedsRendering true" if dynamic else "")
    return pdf(page).replace(b"/Type /Catalog", f"/Type /Catalog {form}".encode())


def refusal(data: bytes) -> str:
    with pytest.raises(Refusal) as caught, opened(data):
        pass
    return str(caught.value)


# --- what follows the end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rubbish", [b"\0" * 300, b"\0" * 5245, b"<p>served by a proxy</p>\n" * 800, b"\0" * 3_000_000])
@pytest.mark.parametrize("data", [pdf_bytes(), in_streams()])
def test_what_follows_the_end_of_a_pdf_is_no_part_of_it(data: bytes, rubbish: bytes) -> None:
    assert render_bytes(data, 1, 100).tobytes() == render_bytes(data + rubbish, 1, 100).tobytes()
    assert render_bytes(data, 1, 100).getpixel((2, 2)) == (0, 0, 0)


def test_every_verb_takes_a_file_with_kilobytes_after_its_end(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "proxy.pdf").write_bytes(pdf(block(*SEEN)) + b"<p>served by a proxy</p>\n" * 800)
    harvest = mine_folder(own, tmp_path / "mined", 0)
    assert (harvest.pages, harvest.left_out) == (1, ())
    assert check_dataset(tmp_path / "mined") == []
    assert main(["pages", "render", str(own / "proxy.pdf"), "--out", str(tmp_path / "o")]) == 0
    assert TextLayer()(Image.new("RGB", (1, 1)), Page(id="x", pdf=own / "proxy.pdf", number=1)).startswith(SEEN[0])


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_file_cut_short_stays_refused_where_an_older_end_stands_before_the_cut(kept: float) -> None:
    update = pdf_bytes(boxes=["0 0 100 100"] * 300).removeprefix(b"%PDF-1.7\n")
    cut = pdf_bytes() + update[: int(kept * update.index(b"startxref"))]
    assert refusal(cut) == TRUNCATED
    assert refusal(cut + b"\0" * 5000) == TRUNCATED


def test_a_file_cut_short_stays_refused_whatever_follows(tmp_path: Path) -> None:
    assert refusal(in_streams()[:-60] + b"<html>" * 2000) == TRUNCATED
    (tmp_path / "cut.pdf").write_bytes(pdf_bytes()[:-60] + b"\0" * 9000)
    with pytest.raises(Refusal, match=TRUNCATED):
        layers(tmp_path / "cut.pdf")


# --- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [xfa_form("", dynamic=True), xfa_form(WAIT, dynamic=True), xfa_form(WAIT, dynamic=False)]
)
def test_a_form_that_asks_to_wait_for_another_program_is_refused(data: bytes) -> None:
    assert refusal(data) == XFA


def test_an_xfa_form_with_a_page_of_its_own_is_drawn_without_advice(capfd: pytest.CaptureFixture[str]) -> None:
    page = block(*SEEN)
    assert render_bytes(xfa_form(page, dynamic=False), 1, 300).tobytes() == render_bytes(pdf(page), 1, 300).tobytes()
    assert capfd.readouterr().err == ""


# --- one sentence a fault, in every verb ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (LOCKED, PASSWORD),
        (LOCKED + b"\0" * 9000, PASSWORD),
        (xfa_form(WAIT, dynamic=True), XFA),
        (pdf_bytes()[:-60], TRUNCATED),
        (b"%PDF-1.7\n%%EOF\n", "the file is damaged"),
        (
            b"<html>404 not found</html>",
            "the file is not a PDF, PNG, JPEG, WebP or TIFF but an HTML page; save it as one of these",
        ),
    ],
)
def test_the_sentence_is_the_same_in_every_verb_and_names_the_file(
    data: bytes, sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "set" / "pdfs" / "bad.pdf"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(data)
    for words, code in (
        (["pages", "render", str(bad), "--out", str(tmp_path / "o")], 2),
        (["transcribe", str(bad), "--backend", "transformers"], 2),
        (["pages", "check", str(tmp_path / "set")], 2),
        (["pages", "mine", str(bad.parent), "--out", str(tmp_path / "mined")], 2),
        (
            [
                "pages",
                "split",
                str(tmp_path / "set"),
                "--part",
                "a=0.5",
                "--part",
                "b=0.5",
                "--out",
                str(tmp_path / "s"),
            ],
            2,
        ),
    ):
        assert main(words) == code
        out, err = capfd.readouterr()
        assert f"{bad}: {sentence}" in out + err
        assert not re.search("pdfium", out + err, re.IGNORECASE) and len((out + err).splitlines()) <= 3
    bad.with_suffix(".md").write_text("a transcript", encoding="utf-8")
    assert main(["pages", "import", str(bad.parent), "--out", str(tmp_path / "imported")]) == 2
    assert f"{bad}: {sentence}" in capfd.readouterr().err
