"""The ink of a drawn page: whether a line of its text layer is seen, and whether there is ink that no line explains.

Knows nothing about PDFs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ocr_rl.pages.reading_order import Line

_INK = 16  # of 255: by how much some colour must differ within a word's box
_CONTRAST = 40  # of 255: by how much ink differs from the paper
_RULE_PX = 24  # a straight run of so much ink is no letter
_OTHER_INK_PX = 40  # ink of about two letters


_RULE = 24  # of 255: by how much a rule differs from the paper beside it
_EVEN = 24  # of 255: by how much a rule's own pixels differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The picture of a page."""

    pixels: np.ndarray  # (rows, columns, 3), uint8
    grey: np.ndarray  # (rows, columns), int16
    px_per_pt: float

    def box(self, left: float, bottom: float, right: float, top: float, around_px: float) -> tuple[int, int, int, int]:
        """The first and last column and the first and last row, behind the last, of a box in pt from below."""
        height, width = self.grey.shape
        return (
            max(0, math.floor(left * self.px_per_pt - around_px)),
            min(width, math.ceil(right * self.px_per_pt + around_px)),
            max(0, math.floor(height - top * self.px_per_pt - around_px)),
            min(height, math.ceil(height - bottom * self.px_per_pt + around_px)),
        )


def drawn(picture: Image.Image, px_per_pt: float) -> Drawn:
    """A page as it was drawn at this scale."""
    pixels = np.asarray(picture)
    grey = np.add(pixels[:, :, 0], pixels[:, :, 1], dtype=np.int16)
    grey += pixels[:, :, 2]
    grey //= 3
    return Drawn(pixels=pixels, grey=grey, px_per_pt=px_per_pt)


def is_seen(line: Line, page: Drawn) -> bool:
    """Whether every word of a line has ink: its box lies on the page, and its pixels are not all of one colour.

    A picture that covers a word counts as ink.
    """
    if sum(map(str.isalnum, line.text)) > 3 and (line.top - line.bottom) * page.px_per_pt < 2:  # too small to read
        return False
    for box in line.words:
        first, last, top, bottom = page.box(*box, 1.0)  # one px wider, since a letter like | fills its own box
        if first >= last or top >= bottom:
            return False
        grey = page.grey[top:bottom, first:last]
        if grey.max() - grey.min() >= _INK:  # as for nearly all words; then some colour differs as much
            continue
        pixels = page.pixels[top:bottom, first:last].reshape(-1, 3)
        if (pixels.max(axis=0) - pixels.min(axis=0) < _INK).all():
            return False
    return True


def has_rule(left: float, bottom: float, right: float, top: float, page: Drawn) -> bool:
    """Whether a vertical rule, or the edge of a shade, goes through the gap between two words of a line."""
    around = 0.15 * (top - bottom)
    first, last, upper, lower = page.box(left, bottom - around, right, top + around, 0.0)
    gap = page.grey[upper:lower, first:last]
    if gap.shape[1] < 3 or gap.shape[0] < 3:
        return False
    darkest, lightest = gap.min(axis=0), gap.max(axis=0)
    even = lightest - darkest <= _EVEN
    if even.sum() < 3:
        return False
    levels = (lightest[even] + darkest[even]) // 2
    return bool(np.ptp(levels) > _RULE)


def has_other_ink(lines: Sequence[Line], page: Drawn) -> bool:
    """Whether ink that may be text is seen beside the lines: values of a form, text in pictures or outlines, stamps.

    Rules, frames and plain areas are no text: whatever is part of a straight run of 24 px or more, or is lower than
    4 px. A chart or a photograph may hold text, and counts.
    """
    paper = np.bincount(page.grey.ravel(), minlength=256).argmax()
    ink = np.abs(page.grey - paper) > _CONTRAST
    plain = _in_runs(ink, _RULE_PX) | _in_runs(ink.T, _RULE_PX).T
    for shift in (-1, 1):  # the soft edges of a rule
        plain |= np.roll(plain, shift, axis=0) | np.roll(plain, shift, axis=1)
    ink &= ~plain
    for line in lines:
        around = max(2.0, 0.35 * (line.top - line.bottom) * page.px_per_pt) if not line.slanted else 2.0
        for box in line.words if line.slanted else [(line.left, line.bottom, line.right, line.top)]:
            first, last, top, bottom = page.box(*box, around)
            ink[top:bottom, first:last] = False
    return int(_in_runs(ink.T, 4).sum()) > _OTHER_INK_PX


def _in_runs(ink: np.ndarray, length: int) -> np.ndarray:
    """Where the pixels of (rows, columns) are part of a run of at least `length` in their row."""
    if ink.shape[1] < length:
        return np.zeros_like(ink)
    starts, covered = ink, 1  # where a run of `covered` begins
    while covered < length:
        step = min(covered, length - covered)
        starts, covered = starts[:, :-step] & starts[:, step:], covered + step
    runs = np.zeros_like(ink)
    runs[:, : starts.shape[1]] = starts
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        runs[:, step:] |= runs[:, :-step].copy(order="K")  # columns may lie one after another
        covered += step
    return runs
