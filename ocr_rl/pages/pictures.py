"""A picture becomes the image of a page, as a page of a PDF does: PNG, JPEG, WebP, and every frame of a TIFF.

The bytes say what a file is, not its name. The longest side becomes `longest_px`, from below as from above: a page of
a PDF has no pixels of its own, and olmOCR makes a PDF of a picture before it draws it. A picture is shown as viewers
show it: turned as its EXIF data say, on white paper where it is transparent, without its colour profile. `raster` draws
PDFs, keeps both to their time and memory, and names the file.
"""

from __future__ import annotations

import io
import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ocr_rl.pages.workers import Refusal

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")  # what a folder is searched for
MAX_BYTES = 2**31
MAX_PIXELS = 178_956_970  # more is a bomb to Pillow too; A4 at 1,350 dpi
MAX_FRAMES = 10_000
MAX_DRAWN_PX = 8192  # as in `raster`
MIN_SIDE_PX = 16  # of the longest side: no line of text is in less, and it would be blown up a hundred times
MAX_ASPECT = 100.0  # a strip thinner than this is no page, and Qwen2-VL's processor refuses 200

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_CLOCKWISE = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
_lock = threading.RLock()  # Python's list of warnings to be ignored is one for all threads


def is_picture(source: Path | bytes) -> bool:
    """Whether the file begins as a picture does that can be read here; False where it cannot be opened."""
    return _reader(_head(source)) is not None


def count(source: Path | bytes) -> int:
    """The number of frames of a TIFF, else 1. Raises Refusal."""
    with _opened(source) as picture:
        return _frames(picture)


def longest_px(source: Path | bytes, number: int) -> int:
    """The longest side of a frame in px, at most what a page image may have. Raises Refusal."""
    with _opened(source) as picture:
        _turn_to(picture, number)
        return min(max(picture.size), MAX_DRAWN_PX)


def refused(source: Path | bytes, numbers: Sequence[int]) -> list[tuple[int, str]]:
    """Those of the frames, counted from 1, that `draw` would refuse, with the reason. Raises Refusal for the file.

    Only what is decoded to its end is known to be whole, so each frame is.
    """
    flaws: list[tuple[int, str]] = []
    with _opened(source) as picture:
        for number in numbers:
            try:
                with _as_refusals():
                    _decode(picture, number, 1)
                    _require_colours(picture)
            except Refusal as refusal:
                flaws.append((number, str(refusal)))
    return flaws


def draw(source: Path | bytes, number: int, longest_px: int, rotation: int = 0) -> Image.Image:
    """A frame as RGB on white paper, its longest side exactly `longest_px`, turned by `rotation` degrees clockwise.

    Raises Refusal.
    """
    with _opened(source) as picture:
        size_px = _decode(picture, number, longest_px)
        if (picture.width >= picture.height) != (size_px[0] >= size_px[1]):
            size_px = size_px[1], size_px[0]  # Pillow turns a TIFF itself as it loads it
        page = _on_paper(_resizable(picture).resize(size_px, Image.Resampling.LANCZOS, reducing_gap=3.0))
        for turn in (_UPRIGHT.get(_orientation(picture)), _CLOCKWISE.get(rotation)):
            page = page if turn is None else page.transpose(turn)
        return page


def _decode(picture: ImageFile, number: int, longest_px: int) -> tuple[int, int]:
    """Read the pixels of a frame; width and height of its page image. Raises Refusal, and what Pillow raises."""
    _turn_to(picture, number)
    size_px = _size_px(picture.size, longest_px)
    picture.draft(None, (2 * longest_px, 2 * longest_px))  # a large JPEG is not decoded whole
    picture.load()
    return size_px


# --- files ------------------------------------------------------------------------------------------------------------


def _head(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:16]
    try:
        if not source.is_file():  # a pipe would block for ever
            return b""
        with source.open("rb") as file:
            return file.read(16)
    except (OSError, ValueError):
        return b""


def _reader(head: bytes) -> type[ImageFile] | None:
    """Pillow's class for the file. Its own search would load every plug-in; most workers never see a picture."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        from PIL.PngImagePlugin import PngImageFile as Reader
    elif head.startswith(b"\xff\xd8\xff"):
        from PIL.JpegImagePlugin import JpegImageFile as Reader
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        from PIL.WebPImagePlugin import WebPImageFile as Reader
    elif head.startswith(_TIFF):
        from PIL.TiffImagePlugin import TiffImageFile as Reader
    else:
        return None
    return Reader


@contextmanager
def _opened(source: Path | bytes) -> Iterator[ImageFile]:
    """The picture, not decoded yet; what goes wrong with it inside the block becomes a Refusal."""
    reader = _reader(_head(source))
    if reader is None:
        raise Refusal("the file is not a PNG, JPEG, WebP or TIFF picture")
    quiet = _quiet() if reader.format == "TIFF" else nullcontext()
    with _as_refusals(), _lock, warnings.catch_warnings(), quiet:
        warnings.simplefilter("ignore")  # Pillow's advice is for programmers
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            if (num_bytes := file.seek(0, 2)) > MAX_BYTES:
                raise Refusal(f"the file is absurdly large ({num_bytes / 2**30:.1f} GiB)")
            file.seek(0)
            with reader(file) as picture:
                if reader.format != "TIFF" and getattr(picture, "n_frames", 1) > 1:
                    raise Refusal("the file is an animation; save the picture that is meant as one of its own")
                yield picture


@contextmanager
def _as_refusals() -> Iterator[None]:
    """What goes wrong with a picture within becomes a Refusal."""
    try:
        yield
    except (Refusal, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise Refusal(f"the picture is absurdly large (more than {MAX_PIXELS // 10**6} million pixels)") from None
    except Exception as error:  # noqa: BLE001 the boundary: Pillow raises whatever a damaged file leads it to
        cut = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise Refusal("the file is truncated: its end is missing" if cut else "the picture is damaged") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """libtiff itself writes to the process's stderr, a line for each line of pixels that it cannot read."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _frames(picture: ImageFile) -> int:
    frames = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
    if frames > MAX_FRAMES:
        raise Refusal(f"the file has more than {MAX_FRAMES:,} pages")
    return frames


def _turn_to(picture: ImageFile, number: int) -> None:
    if number > (frames := _frames(picture)):
        raise Refusal(f"there is no such page, the document has {frames}")
    if frames > 1:
        picture.seek(number - 1)


# --- pixels -----------------------------------------------------------------------------------------------------------


def _size_px(size: tuple[int, int], longest_px: int) -> tuple[int, int]:
    """Width and height of the page image. Raises Refusal for a picture that nobody could read."""
    longest, shortest = max(size), min(size)
    shown = f"({size[0]} x {size[1]} px)"
    if shortest < 1:
        raise Refusal("the picture has no size")
    if size[0] * size[1] > MAX_PIXELS:
        raise Refusal(f"the picture is absurdly large {shown}")
    if longest > MAX_ASPECT * shortest:
        raise Refusal(f"the picture is absurdly thin {shown}")
    if longest < MIN_SIDE_PX:
        raise Refusal(f"the picture is too small to be a page {shown}")
    shortest_px = shorter_px(longest_px, shortest, longest)
    return (longest_px, shortest_px) if size[0] >= size[1] else (shortest_px, longest_px)


def shorter_px(longest_px: int, shortest: float, longest: float) -> int:
    """The shorter side of an image whose longer one is `longest_px`, for sides of any unit."""
    return max(1, math.ceil(longest_px * shortest / longest - 1e-3))


def _resizable(picture: ImageFile) -> Image.Image:
    """The picture in a mode whose pixels can be averaged."""
    mode = picture.mode
    if mode.startswith("I;16"):
        return _eight_bits(picture)
    _require_colours(picture)
    if mode not in ("LA", "RGBA") and picture.has_transparency_data:
        return picture.convert("RGBA")
    return picture.convert({"1": "L", "P": "RGB"}[mode]) if mode in ("1", "P") else picture


def _require_colours(picture: ImageFile) -> None:
    if picture.mode in ("I", "F", "LAB"):
        raise Refusal("its colours are not those of a page (32 bits a pixel, or LAB); save it with 8 bits a colour")


def _eight_bits(picture: ImageFile) -> Image.Image:
    """The upper 8 bits of 16 (of 12 in some TIFFs) of grey."""
    import numpy as np  # here alone, as it takes each worker a fifth of a second to load
    from PIL.TiffImagePlugin import TiffImageFile

    bits, inverted = 16, False
    if isinstance(picture, TiffImageFile):
        bits, inverted = picture.tag_v2.get(258, (16,))[0], picture.tag_v2.get(262) == 0
    grey = np.clip(np.asarray(picture) >> (bits - 8), 0, 255).astype(np.uint8)
    return Image.fromarray(255 - grey if inverted else grey)


def _on_paper(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return image.convert("RGB")
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return paper


def _orientation(picture: ImageFile) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 the boundary: EXIF data that cannot be read turn nothing
        return 1
