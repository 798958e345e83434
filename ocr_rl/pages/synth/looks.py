"""Scan-like looks: seeded steps on a rendered page, and PDFs that hold only the scanned image.

Knows nothing about the text of the page.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter
from PIL.Image import Resampling


def scan(image: Image.Image, rng: np.random.Generator, strength: float = 1.0) -> Image.Image:
    """The page as a cheap office scanner gives it: skew, blur, uneven light, noise, JPEG. 0 changes nothing."""
    if strength <= 0:
        return image
    skewed = image.rotate(rng.uniform(-0.5, 0.5) * strength, resample=Resampling.BICUBIC, fillcolor="white")
    blurred = skewed.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.5) * strength))
    pixels = np.asarray(blurred, dtype=np.float32)
    height, width = pixels.shape[:2]
    slope = np.linspace(-1, 1, width)[None, :, None] * rng.uniform(-8, 8) * strength
    slope = slope + np.linspace(-1, 1, height)[:, None, None] * rng.uniform(-8, 8) * strength
    paper = 1 - rng.uniform(0.02, 0.10) * strength
    noise = rng.normal(0, 5 * strength, size=(height, width, 1))
    noisy = np.clip(pixels * paper + slope + noise, 0, 255).astype(np.uint8)
    return _jpeg(Image.fromarray(noisy), quality=int(90 - 25 * min(strength, 2)))


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def image_pdf(images: list[Image.Image], dpi: float) -> bytes:
    """A PDF without a text layer whose pages are these images. A page's size in inches is its pixels / dpi."""
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        "PDF",
        save_all=True,
        append_images=images[1:],
        resolution=dpi,
        quality=90,
        creationDate=None,
        modDate=None,
        producer="ocr-rl",
    )
    return buffer.getvalue()
