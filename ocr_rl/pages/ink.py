"""The ink of a drawn page: whether a line of its text layer is seen, and whether there is ink that no line explains.

Knows nothing about PDFs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ocr_rl.pages.reading_order import Line

_INK = 16  # of 255: by how much some colour must differ within a word's box
_CONTRAST = 40  # of 255: by how much ink differs from the paper
_RULE_PX = 24  # a straight run of so much ink is no letter
_OTHER_INK_PX = 40  # ink of about two letters


def is_seen(line: Line, picture: Image.Image, px_per_pt: float) -> bool:
    """Whether every word of a line has ink: its box lies on the page, and its pixels are not all of one colour.

    A picture that covers a word counts as ink.
    """
    if sum(map(str.isalnum, line.text)) > 3 and (line.top - line.bottom) * px_per_pt < 2:  # too small to read
        return False
    for left, bottom, right, top in line.words:
        box = (  # one px wider on each side, since a letter like | fills its own box
            max(0, math.floor(left * px_per_pt) - 1),
            max(0, math.floor(picture.height - top * px_per_pt) - 1),
            min(picture.width, math.ceil(right * px_per_pt) + 1),
            min(picture.height, math.ceil(picture.height - bottom * px_per_pt) + 1),
        )
        if box[0] >= box[2] or box[1] >= box[3]:
            return False
        pixels = np.asarray(picture.crop(box), dtype=np.int16)
        if (np.ptp(pixels, axis=(0, 1)) < _INK).all():
            return False
    return True


def has_other_ink(lines: Sequence[Line], picture: Image.Image, px_per_pt: float) -> bool:
    """Whether ink that may be text is seen beside the lines: values of a form, text in pictures or outlines, stamps.

    Rules, frames and plain areas are no text: whatever is part of a straight run of 24 px or more, or is lower than
    4 px. A chart or a photograph may hold text, and counts.
    """
    pixels = np.asarray(picture, dtype=np.int16)
    grey = pixels.mean(axis=2).astype(np.int16)
    paper = np.bincount(grey.ravel(), minlength=256).argmax()
    ink = np.abs(grey - paper) > _CONTRAST
    plain = _in_runs(ink, _RULE_PX) | _in_runs(ink.T, _RULE_PX).T
    for shift in (-1, 1):  # the soft edges of a rule
        plain |= np.roll(plain, shift, axis=0) | np.roll(plain, shift, axis=1)
    ink &= ~plain
    for line in lines:
        around = max(2.0, 0.35 * (line.top - line.bottom) * px_per_pt)
        left, right = line.left * px_per_pt - around, line.right * px_per_pt + around
        top, bottom = picture.height - line.top * px_per_pt - around, picture.height - line.bottom * px_per_pt + around
        ink[max(0, int(top)) : max(0, math.ceil(bottom)), max(0, int(left)) : max(0, math.ceil(right))] = False
    return int(_in_runs(ink.T, 4).sum()) > _OTHER_INK_PX


def _in_runs(ink: np.ndarray, length: int) -> np.ndarray:
    """Where the pixels of (rows, columns) are part of a run of at least `length` in their row."""
    rows, columns = ink.shape
    if columns < length:
        return np.zeros_like(ink)
    sums = np.concatenate([np.zeros((rows, 1), np.int32), ink.cumsum(axis=1, dtype=np.int32)], axis=1)
    starts = sums[:, length:] - sums[:, :-length] == length
    runs = np.zeros_like(ink)
    for shift in range(length):
        runs[:, shift : shift + starts.shape[1]] |= starts
    return runs
