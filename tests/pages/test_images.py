"""Page images: each drawn once, elsewhere, and ahead of its use; what a bad page costs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ocr_rl.pages import images as module
from ocr_rl.pages.images import Images
from ocr_rl.pages.raster import ImageRef, PageError, drawn, render
from ocr_rl.pages.synth.make import make_document
from ocr_rl.pages.workers import Pool


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "three.pdf"
    path.write_bytes(make_document("nano", 0, 0, 3).pdf)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the worker writes down what it draws."""
    return tmp_path / "log"


@pytest.fixture
def images(log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Images]:
    monkeypatch.setenv("DRAWN", str(log))
    store = Images(cache_bytes=2 * 3 * 60 * 60)
    store._pool = Pool(noting, workers=1, timeout_s=5.0)
    yield store
    store._pool.close()


def noting(ref: ImageRef) -> tuple[tuple[int, int], bytes]:
    with Path(os.environ["DRAWN"]).open("a") as file:
        file.write(f"{ref.number} {ref.rotation}\n")
    if ref.rotation == 90:
        os._exit(3)
    if ref.rotation == 270:
        time.sleep(60)
    return drawn(ref)


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines()


def ref(pdf: Path, number: int, rotation: int = 0) -> ImageRef:
    return ImageRef(pdf=pdf, number=number, longest_px=60, rotation=rotation)


def test_an_image_is_the_one_that_render_makes_and_goes_by_content(
    pdf: Path, tmp_path: Path, images: Images, log: Path
) -> None:
    copy = tmp_path / "copy.pdf"
    copy.write_bytes(pdf.read_bytes())
    first = images.get(ref(pdf, 1))
    first.putpixel((0, 0), (1, 2, 3))  # the caller's copy, not the one that is remembered
    assert images.get(ref(copy, 1)).tobytes() == render(ref(pdf, 1)).tobytes()
    assert lines(log) == ["1 0"]


def test_trap_12_what_was_used_longest_ago_is_forgotten(pdf: Path, images: Images, log: Path) -> None:
    for number in (1, 2, 1, 3, 1, 2):  # two images have room (pages are no taller than wide): 2 goes when 3 comes
        images.get(ref(pdf, number))
    assert lines(log) == ["1 0", "2 0", "3 0", "2 0"]


def test_prefetched_pages_wait_for_whoever_asks(pdf: Path, images: Images, log: Path) -> None:
    images.prefetch(ref(pdf, number) for number in (2, 3, 1))  # half the cache holds one page of this size
    assert isinstance(images.get(ref(pdf, 2)), Image.Image)
    assert lines(log) == ["2 0"]


def test_a_page_that_crashes_or_hangs_costs_itself_alone(pdf: Path, images: Images, log: Path) -> None:
    for _ in range(2):  # a failure is not remembered: it may have been the machine's
        with pytest.raises(PageError, match="page 1: it crashed its process"):
            images.get(ref(pdf, 1, 90))
    with pytest.raises(PageError, match="page 1: it took longer than 5 s"):
        images.get(ref(pdf, 1, 270))
    assert images.get(ref(pdf, 1)).size == render(ref(pdf, 1)).size
    assert lines(log) == ["1 90", "1 90", "1 270", "1 0"]


def test_a_file_that_is_gone_or_has_changed(pdf: Path, tmp_path: Path, images: Images) -> None:
    gone = tmp_path / "gone.pdf"
    images.prefetch([ref(gone, 1)])  # whoever asks for it will hear of it
    with pytest.raises(PageError, match="no such file"):
        images.get(ref(gone, 1))
    gone.write_bytes(pdf.read_bytes())
    assert images.get(ref(gone, 1)).size == render(ref(pdf, 1)).size


def test_everybody_shares_one(pdf: Path) -> None:
    module.prefetch([ref(pdf, 2)])
    assert module.page_image(ref(pdf, 2)).tobytes() == render(ref(pdf, 2)).tobytes()
