"""Pictures of our own making, as bytes. Knows nothing about what is tested with them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

SIZE = (240, 120)


def page(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    """White with a black square in the upper left corner."""
    image = Image.new("L", size, 255)
    side = min(size) // 5
    ImageDraw.Draw(image).rectangle((0, 0, side, side), fill=0)
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pages: Sequence[Image.Image], **options: Any) -> bytes:
    return encoded(pages[0], "TIFF", save_all=True, append_images=list(pages[1:]), **options)


def turned(orientation: int) -> Image.Exif:
    """EXIF data that say how to turn a picture."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
