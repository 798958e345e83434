"""No test mined from a layer fails for the true transcript, whatever the layout; what cannot be read has a reason."""

from __future__ import annotations

import string
from pathlib import Path
from random import Random

import pypdfium2 as pdfium
import pytest

from benchmarks.data.layouts import PAGES, columns, document, prose, slanted, tight
from ocr_rl.contract import Reading
from ocr_rl.pages.encodings import is_no_language
from ocr_rl.pages.layer_tests import layer_tests
from ocr_rl.pages.text_layer import layers
from ocr_rl.text.checks import load_check, prepare

_NO_TESTS = ("tight 0.12 em", "no room")  # whose words run together in the layer


@pytest.mark.parametrize("kind", PAGES)
def test_a_true_transcript_passes_all_tests(kind: str, tmp_path: Path) -> None:
    rng = Random(kind)
    drawn = [PAGES[kind](rng) for _ in range(3)]
    (tmp_path / "a.pdf").write_bytes(document([content for content, _ in drawn]))
    total = 0
    for layer, (_, truth) in zip(layers(tmp_path / "a.pdf"), drawn, strict=True):
        assert not layer.reason
        prepared = prepare(truth)
        tests = layer_tests(layer, "a.pdf", Random(0))
        for test in tests:
            readings: tuple[Reading, ...] = ("strict",) if "max_length" in test else ("strict", "compatible")
            assert all(load_check(test).run(prepared, reading).passed for reading in readings), test
        total += len(tests)
    assert (total == 0) if kind in _NO_TESTS else total > 9


def test_a_landscape_page_made_by_turning_is_read_as_it_is_seen(tmp_path: Path) -> None:
    text = slanted(Random(1), "0 1 -1 0")[1]
    for rotate, matrix in ((90, "0 1 -1 0 612 0"), (180, "-1 0 0 -1 612 792"), (270, "0 -1 1 0 0 792")):
        page = f"q {matrix} cm {prose(text, 400)} Q"
        (tmp_path / f"{rotate}.pdf").write_bytes(document([page], rotate=rotate))
        (layer,) = layers(tmp_path / f"{rotate}.pdf")
        assert not layer.reason and layer.explained
        assert " ".join(line.text for line in layer.lines) == text
        assert layer.lines[0].left == pytest.approx(72, abs=2) and layer.lines[0].bottom == pytest.approx(400, abs=4)


def _called(order: str) -> dict[str, str]:
    letters = dict(zip(string.ascii_lowercase, order, strict=True))
    return {c: c for c in map(chr, range(32, 127))} | letters | {a.upper(): b.upper() for a, b in letters.items()}


@pytest.mark.parametrize("order", ["bcdefghijklmnopqrstuvwxyza", "ecdfighjoklmnpuqrstvawxyzb"])
def test_letters_that_are_not_those_drawn_are_no_text(order: str, tmp_path: Path) -> None:
    pages = [columns(Random(1), 14)[0], tight(Random(2), 0.3, " ")[0]]
    (tmp_path / "a.pdf").write_bytes(document(pages, unicode_map=_called(order)))
    assert all("a broken encoding" in layer.reason for layer in layers(tmp_path / "a.pdf"))
    (tmp_path / "b.pdf").write_bytes(document(pages, unicode_map=_called(string.ascii_lowercase)))
    assert not any(layer.reason for layer in layers(tmp_path / "b.pdf"))


@pytest.mark.parametrize(
    "text",
    [
        "The committee met on the third Tuesday of the month to discuss the harbour works and the northern pier. ",
        "Der Ausschuss traf sich am dritten Dienstag des Monats, um über die Arbeiten am Hafen zu sprechen. ",
        "Le comité s'est réuni le troisième mardi du mois pour discuter des travaux du port et de la jetée. ",
        "El comité se reunió el tercer martes del mes para hablar de las obras del puerto y del muelle norte. ",
        "Komitet spotkał się w trzeci wtorek miesiąca, aby omówić prace w porcie oraz stan północnego mola. ",
    ],
    ids=["English", "German", "French", "Spanish", "Polish"],
)
def test_a_language_is_one(text: str) -> None:
    assert not is_no_language(text * 10)
    shifted = text.lower().translate(str.maketrans("abcdefghijklmnopqrstuvwxyz", "bcdefghijklmnopqrstuvwxyza"))
    assert is_no_language(shifted * 10)


def test_pages_in_place_of_contents_are_named(tmp_path: Path) -> None:
    wait = (
        "Please wait... If this message is not eventually replaced by the proper contents of the document, your PDF "
        "viewer may not be able to display this type of document."
    )
    cover = "For the best experience, open this PDF portfolio in Acrobat X or Adobe Reader X, or later."
    for text, expected in ((wait, "a placeholder"), (cover, "files are inside (minutes.pdf)")):
        with pdfium.PdfDocument(document([prose(text, 700)])) as pages:
            pages.new_attachment("minutes.pdf").set_data(b"text")
            pages.save(tmp_path / "a.pdf")
        (layer,) = layers(tmp_path / "a.pdf")
        assert expected in layer.reason
    with pdfium.PdfDocument(document([columns(Random(1), 14)[0]])) as pages:  # an invoice with its data
        pages.new_attachment("invoice.xml").set_data(b"text")
        pages.save(tmp_path / "a.pdf")
    assert [layer.reason for layer in layers(tmp_path / "a.pdf")] == [""]
