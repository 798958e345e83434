"""What paper, copiers and scanners do to a page: seeded steps on an image, each with a strength.

    worn(image, rng, strength)                      # a few steps, drawn at random, in the order of a page's life
    apply(image, ("skew", "jpeg"), rng, strength)   # these two steps

Strength 1 is a usual office scan, 2 a bad one, 0 changes nothing. Knows nothing about the text of the page.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps
from PIL.Image import Resampling, Transpose

Step = Callable[[Image.Image, np.random.Generator, float], Image.Image]


def show_through(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """The other side of the sheet shines through. The page itself, mirrored, faint and soft, stands in for it."""
    reverse = image.transpose(Transpose.FLIP_LEFT_RIGHT).filter(ImageFilter.GaussianBlur(1.2))
    share = min(0.35, float(rng.uniform(0.06, 0.14)) * strength)
    return ImageChops.multiply(image, Image.blend(Image.new("RGB", image.size, "white"), reverse, share))


def skew(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """The page lies a little askew on the glass."""
    return image.rotate(float(rng.uniform(-0.9, 0.9)) * strength, resample=Resampling.BICUBIC, fillcolor="white")


def light(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """Grey paper that is darker towards one side, at times with the shadow of a fold."""
    height, width = image.height, image.width
    slope = np.linspace(-1, 1, width)[None, :] * rng.uniform(-14, 14) + np.linspace(-1, 1, height)[
        :, None
    ] * rng.uniform(-14, 14)
    shade = slope * strength - rng.uniform(4, 16) * strength
    if rng.random() < 0.4:
        centre, reach = rng.uniform(0, width), rng.uniform(0.02, 0.06) * width
        shade = shade - 24 * strength * np.exp(-(((np.arange(width) - centre) / reach) ** 2))[None, :]
    return _pixels(np.asarray(image, np.float32) + shade[:, :, None].astype(np.float32))


def low_resolution(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """The page scanned with fewer pixels and enlarged again."""
    factor = 1 / (1 + float(rng.uniform(0.2, 0.6)) * strength)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Resampling.BILINEAR).resize(image.size, Resampling.BICUBIC)


def blur(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.8)) * strength))


def noise(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """Grain everywhere, and specks of dust."""
    pixels = np.asarray(image, np.float32) + rng.normal(0, 6 * strength, (image.height, image.width, 1)).astype(
        np.float32
    )
    specks = rng.random((image.height, image.width)) < 4e-5 * strength
    pixels[specks] = rng.uniform(0, 120)
    return _pixels(pixels)


def binarise(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """Black or white pixels, as fax machines and old scanners store pages. The threshold varies with the strength."""
    grey = np.asarray(ImageOps.grayscale(image).filter(ImageFilter.GaussianBlur(0.4)))
    threshold = 150 + float(rng.uniform(-30, 30)) * min(strength, 2.0)
    return Image.fromarray(np.where(grey > threshold, 255, 0).astype(np.uint8)).convert("RGB")


def jpeg(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(max(12, rng.uniform(70, 90) - 28 * strength)))
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


STEPS: Mapping[str, Step] = {  # in the order in which they happen
    "show_through": show_through,
    "skew": skew,
    "light": light,
    "low_resolution": low_resolution,
    "blur": blur,
    "noise": noise,
    "binarise": binarise,
    "jpeg": jpeg,
}
_OFTEN = {"skew": 0.8, "light": 0.7, "noise": 0.6, "jpeg": 0.7, "blur": 0.4, "low_resolution": 0.3, "show_through": 0.3}


def apply(image: Image.Image, steps: Sequence[str], rng: np.random.Generator, strength: float) -> Image.Image:
    """The image after these steps (keys of STEPS), one after the other."""
    if strength <= 0:
        return image
    for name in steps:
        image = STEPS[name](image, rng, strength)
    return image


def worn(image: Image.Image, rng: np.random.Generator, strength: float = 1.0) -> Image.Image:
    """The image after a few steps drawn at random. One page in ten becomes black and white."""
    drawn = [name for name in STEPS if rng.random() < _OFTEN.get(name, 0.1)]
    return apply(image, drawn or ["skew"], rng, strength)


def _pixels(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
