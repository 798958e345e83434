"""Pictures as pages: drawn as viewers show them, or refused by name. All pictures are of our own making."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocr_rl.pages import pictures, raster
from ocr_rl.pages.raster import (
    ImageRef,
    PageError,
    count_pages,
    num_pages,
    render,
    render_all,
    render_bytes,
    size_faults,
)
from ocr_rl.pages.text_layer import layers
from ocr_rl.pages.typefaces import surveyed
from ocr_rl.pages.workers import Refusal
from tests.pages.pictures import SIZE, encoded, page, tiff, turned

WHITE = (255, 255, 255)
KINDS = {
    ".png": ("PNG", ("1", "L", "LA", "P", "RGB", "RGBA")),
    ".jpg": ("JPEG", ("L", "RGB", "CMYK")),
    ".webp": ("WEBP", ("RGB", "RGBA")),
    ".tif": ("TIFF", ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")),
}


def corners(image: Image.Image) -> list[bool]:
    """Whether the corners are black, clockwise from the upper left."""
    right, bottom = image.width - 3, image.height - 3
    return [max(image.getpixel(at)) < 60 for at in ((2, 2), (right, 2), (right, bottom), (2, bottom))]  # type: ignore[arg-type]


def reason(data: bytes, number: int = 1) -> str:
    with pytest.raises(PageError) as caught:
        render_bytes(data, number, 100)
    return caught.value.reason


# --- drawn ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in KINDS.values() for mode in modes])
def test_every_kind_and_mode_is_rgb_on_white(kind: str, mode: str) -> None:
    image = render_bytes(encoded(page(mode), kind), 1, 400)
    assert (image.mode, image.size) == ("RGB", (400, 200))
    assert corners(image) == [True, False, False, False]
    assert image.getpixel((200, 100)) == WHITE


@pytest.mark.parametrize("longest_px", [1, 50, 240, 1288])
@pytest.mark.parametrize("size", [(240, 120), (120, 240), (1601, 1600), (2000, 20)])
def test_the_longest_side_is_exact_as_a_pdfs(longest_px: int, size: tuple[int, int]) -> None:
    width, height = size
    drawn = render_bytes(encoded(page(size=size), "PNG"), 1, longest_px)
    shortest = max(1, -(-longest_px * min(size) // max(size)))
    assert drawn.size == ((longest_px, shortest) if width >= height else (shortest, longest_px))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "black"), [(1, 0), (2, 1), (3, 2), (4, 3), (5, 0), (6, 1), (7, 2), (8, 3), (9, 0), (65535, 0)]
)
def test_exif_turns_the_picture(kind: str, orientation: int, black: int) -> None:
    image = render_bytes(encoded(page(), kind, exif=turned(orientation)), 1, 200)
    assert image.size == ((100, 200) if 5 <= orientation <= 8 else (200, 100))
    assert corners(image) == [k == black for k in range(4)]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_rotation_is_clockwise_on_top_of_exif(kind: str) -> None:
    data = encoded(page(), kind, exif=turned(6))  # upright, black is in the upper right corner
    assert [corners(render_bytes(data, 1, 200, rotation)).index(True) for rotation in (0, 90, 180, 270)] == [1, 2, 3, 0]


def test_transparent_is_paper_and_half_transparent_half() -> None:
    image = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    image.paste((255, 0, 0, 128), (0, 0, 120, 120))
    drawn = render_bytes(encoded(image, "PNG"), 1, 240)
    assert drawn.getpixel((200, 60)) == WHITE
    assert drawn.getpixel((60, 60)) == (255, 127, 127)


def test_a_transparent_colour_of_a_palette_is_paper() -> None:
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 0, 9, 9, 9])
    assert render_bytes(encoded(image, "PNG", transparency=1), 1, 240).getpixel((60, 60)) == WHITE
    assert render_bytes(encoded(image, "PNG"), 1, 240).getpixel((60, 60)) == (9, 9, 9)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey(kind: str) -> None:
    grey = np.full(SIZE[::-1], 40_000, np.uint16)
    grey[:20, :20] = 255
    drawn = render_bytes(encoded(Image.fromarray(grey), kind), 1, 240)
    assert drawn.getpixel((120, 60)) == (156, 156, 156)  # 40,000 // 256
    assert corners(drawn) == [True, False, False, False]


def test_sixteen_bits_where_nought_is_white() -> None:
    grey = np.zeros(SIZE[::-1], np.uint16)
    grey[:20, :20] = 65_535
    drawn = render_bytes(encoded(Image.fromarray(grey), "TIFF", tiffinfo={262: 0}), 1, 240)
    assert corners(drawn) == [True, False, False, False]
    assert drawn.getpixel((120, 60)) == WHITE


def test_cmyk_is_ink() -> None:
    ink = Image.new("CMYK", SIZE, (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        red, green, blue = render_bytes(encoded(ink, kind), 1, 100).getpixel((50, 25))  # type: ignore[misc]
        assert red > 250 and green < 5 and blue < 5


def test_a_large_jpeg_is_the_same_page_as_a_small_one() -> None:
    large = render_bytes(encoded(page(size=(4000, 2000)), "JPEG"), 1, 200)
    assert (large.size, corners(large)) == ((200, 100), [True, False, False, False])


# --- many pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate"])
def test_each_frame_of_a_tiff_is_a_page(compression: str, tmp_path: Path) -> None:
    sizes = [(240, 120), (120, 240), (240, 240)]
    (tmp_path / "scan.tiff").write_bytes(tiff([page(size=size) for size in sizes], compression=compression))
    scan = tmp_path / "scan.tiff"
    assert num_pages(scan) == 3
    assert list(count_pages([scan])) == [(scan, 3)]
    drawn = [render(ImageRef(pdf=scan, number=number, longest_px=120)) for number in (1, 2, 3, 2)]
    assert [image.size for image in drawn] == [(120, 60), (60, 120), (120, 120), (60, 120)]
    assert all(corners(image) == [True, False, False, False] for image in drawn)
    with pytest.raises(PageError, match="page 4: there is no such page, the document has 3"):
        render(ImageRef(pdf=scan, number=4))


def test_each_frame_has_its_own_orientation() -> None:
    first, second = page(), page()
    data = tiff([first, second], exif=turned(6))
    for number in (1, 2):
        assert render_bytes(data, number, 200).size in ((100, 200), (200, 100))
    assert corners(render_bytes(data, 1, 200)) == [False, True, False, False]


def test_a_picture_has_one_page() -> None:
    assert [pictures.count(encoded(page(), kind)) for kind in ("PNG", "JPEG", "WEBP")] == [1, 1, 1]
    assert reason(encoded(page(), "PNG"), 2) == "there is no such page, the document has 1"


# --- what a file is ---------------------------------------------------------------------------------------------------


def test_content_counts_and_not_the_name(tmp_path: Path) -> None:
    for name in ("picture.pdf", "picture", "picture.TXT", "picture.jpg"):
        (tmp_path / name).write_bytes(encoded(page(), "PNG"))
        assert render(ImageRef(pdf=tmp_path / name, number=1, longest_px=100)).size == (100, 50)
    kinds = {"GIF": "a GIF picture", "BMP": "a BMP picture", "PPM": "a PPM picture", "ICO": "an icon (ICO)"}
    for kind, shown in {**kinds, "JPEG2000": "a JPEG 2000 picture"}.items():
        assert reason(encoded(page(size=(64, 64)), kind)) == (
            f"the file is not a PDF, PNG, JPEG, WebP or TIFF but {shown}; save it as one of these"
        )


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind: str) -> None:
    data = encoded(page(), kind, save_all=True, append_images=[page().rotate(180)], duration=100)
    assert reason(data).startswith("the file is an animation")


# --- refused ----------------------------------------------------------------------------------------------------------


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few KiB that claims to be large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2**20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((60_000, 60_000), "absurdly large (60000 x 60000 px)"),
        ((2**31 - 1, 1), "absurdly large"),
        ((2000, 19), "absurdly thin (2000 x 19 px)"),
        ((19, 2000), "absurdly thin (19 x 2000 px)"),
        ((15, 10), "too small to be a page (15 x 10 px)"),
        ((1, 1), "too small to be a page (1 x 1 px)"),
    ],
)
def test_absurd_sizes_are_refused_before_they_are_decoded(size: tuple[int, int], said: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(bomb(*size))
    assert said in reason(bomb(*size))
    assert [said in error.reason for error in size_faults([(tmp_path / "x.png", [1])])] == [True]


def test_the_limits_are_those_of_pages() -> None:
    assert pictures.MAX_ASPECT == raster.MAX_ASPECT
    assert list(size_faults([(Path("none.png"), [1])]))[0].reason == "there is no such file"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_file_cut_short_is_refused_before_it_is_drawn_and_in_the_same_words(kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 240, 3), np.uint8))
    data = encoded(noise, kind)[: int(share * len(encoded(noise, kind)))]
    why = reason(data)
    assert why in ("the file is truncated: its end is missing", "the picture is damaged")
    try:
        assert pictures.refused(data, [1]) == [(1, why)]
    except Refusal as refusal:  # the file cannot even be opened
        assert str(refusal) == why


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_colours_of_no_page_are_refused(mode: str, tmp_path: Path) -> None:
    image = Image.new("LAB", SIZE) if mode == "LAB" else page(mode)
    data = encoded(image, "TIFF")
    assert reason(data).startswith("its colours are not those of a page")
    assert pictures.refused(data, [1]) == [(1, reason(data))]


def test_of_a_tiff_each_frame_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 240, 3), np.uint8))
    data = bytearray(tiff([noise, noise, page(size=(8, 8)), noise], compression="tiff_lzw"))
    at = Image.open(io.BytesIO(data)).tag_v2[273][0]  # type: ignore[attr-defined]
    data[at + 300 : at + 600] = bytes(300)
    for number, why in ((1, "the picture is damaged"), (3, "the picture is too small to be a page (8 x 8 px)")):
        assert reason(bytes(data), number) == why
    (tmp_path / "scan.tif").write_bytes(data)
    monkeypatch.setattr(raster, "FRAMES", 3)
    for judged in (size_faults, surveyed):
        errors = list(judged([(tmp_path / "scan.tif", [1, 2, 3, 4])]))
        assert [(error.number, str(error).split(": ")[1][:14]) for error in errors] == [
            (1, "the picture is"),
            (3, "the picture is"),
        ]


def test_exif_data_that_cannot_be_read_turn_nothing() -> None:
    data = encoded(page(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\x00")
    assert corners(render_bytes(data, 1, 200)) == [True, False, False, False]


def test_files_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    contents = {"a.png": encoded(page(), "PNG"), "b.jpg": b"\xff\xd8\xff", "c.tif": b"II*\0", "d.webp": b"RIFF1234WEBP"}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    refs = [ImageRef(pdf=tmp_path / name, number=1, longest_px=50) for name in (*contents, "a.png")]
    results: Sequence[Image.Image | PageError] = [result for _, result in render_all(refs)]
    assert [isinstance(result, PageError) for result in results] == [False, True, True, True, False]
    assert "b.jpg, page 1: " in str(results[1])


def test_nothing_is_written_to_stderr_about_a_damaged_tiff(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(page("RGB", (800, 800)), "TIFF", compression="tiff_adobe_deflate"))
    data[100:200] = bytes(range(100))
    with pytest.raises(PageError):
        render_bytes(bytes(data), 1, 100)
    assert capfd.readouterr() == ("", "")


def test_a_picture_has_no_text_layer_and_one_that_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    cut = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 240, 3), np.uint8)), "PNG")[:-3000]
    for content, why in (
        (bomb(60_000, 60_000), "the picture is absurdly large (60000 x 60000 px)"),
        (cut, reason(cut)),
        (tiff([page(size=(8, 8)), page()]), "is a picture and has no text layer"),  # a page of it can be drawn
    ):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(Refusal) as refusal:
            layers(tmp_path / "x.png")
        assert str(refusal.value).startswith(why)
