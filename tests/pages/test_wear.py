"""Looks of worn pages: seeded, as strong as asked, and in any combination."""

from __future__ import annotations

import numpy as np
import pypdfium2 as pdfium
import pytest
from PIL import Image

from ocr_rl.pages.raster import render_bytes
from ocr_rl.pages.synth.make import Looks, make_document
from ocr_rl.pages.synth.wear import STEPS, apply, worn


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return render_bytes(make_document("letter", 1, 0, 1).pdf, 1, 500)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), np.float64)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_seeded_and_its_strength_counts(image: Image.Image, name: str) -> None:
    once, again = (apply(image, [name], np.random.default_rng(3), 1.0) for _ in range(2))
    assert np.array_equal(np.asarray(once), np.asarray(again))
    assert once.size == image.size and once.mode == "RGB"
    assert np.array_equal(np.asarray(apply(image, [name], np.random.default_rng(3), 0.0)), np.asarray(image))
    weak, strong = (
        np.mean(
            [np.abs(pixels(apply(image, [name], np.random.default_rng(k), s)) - pixels(image)).mean() for k in range(6)]
        )
        for s in (0.4, 2.0)
    )
    assert strong > weak > 0


def test_steps_compose(image: Image.Image) -> None:
    both = apply(image, ["skew", "binarise"], np.random.default_rng(1), 1.0)
    assert set(np.unique(np.asarray(both))) == {0, 255}
    assert not np.array_equal(np.asarray(both), np.asarray(apply(image, ["binarise"], np.random.default_rng(1), 1.0)))


def test_a_worn_page_is_still_the_page(image: Image.Image) -> None:
    for seed in range(8):
        shown = pixels(worn(image, np.random.default_rng(seed), 1.0))
        assert 0.1 < np.abs(shown - pixels(image)).mean() < 80
        ink = pixels(image) < 100
        assert shown[ink].mean() < shown[~ink].mean()


def test_a_scanned_document_holds_pictures_alone_and_the_same_tests() -> None:
    typed, scan = (make_document("mixed", 2, 4, 2, Looks(scan=strength)) for strength in (None, 1.0))
    assert (typed.references, typed.tests) == (scan.references, scan.tests)
    with pdfium.PdfDocument(scan.pdf) as document, pdfium.PdfDocument(typed.pdf) as other:
        for page, original in zip(document, other, strict=True):
            assert page.get_textpage().count_chars() == 0
            assert np.allclose(page.get_size(), original.get_size(), atol=0.6)
