"""Rotation means what olmOCR's code means by it: its three steps (augment, label, correct) beside ours, in numbers.

olmOCR turns an image with PIL's ROTATE_90 and so on, which are counter-clockwise, labels it with what is left to a full
turn, and corrects by turning counter-clockwise by the label (allenai/olmocr at f7cfe4c: train/dataloader.py,
synth/rotate_html_templates.py, pipeline.py).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ocr_rl.contract import Page, Transcript
from ocr_rl.pages.raster import render_bytes
from ocr_rl.pages.synth.sheets.printers import to_front_matter
from ocr_rl.pages.synth.sheets.tree import Heading, Text
from ocr_rl.text.front_matter import FrontMatter, split_front_matter
from rewards.front_matter import FrontMatterReward
from tests.pages.test_raster import pdf_bytes
from tests.pages.test_sheets import LOOK, page

TURNS = (0, 90, 180, 270)
COUNTER_CLOCKWISE = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


def _turn(image: Image.Image, degrees: int) -> Image.Image:
    return image.transpose(COUNTER_CLOCKWISE[degrees]) if degrees else image


def _label(augmented: int) -> FrontMatter:
    """What olmOCR's data say of a page that its augmentation turned by so many degrees."""
    return FrontMatter(
        primary_language="en",
        is_rotation_valid=augmented == 0,
        rotation_correction=(360 - augmented) % 360,
        is_table=False,
        is_diagram=False,
    )


@pytest.mark.parametrize("augmented", TURNS)
def test_a_page_that_is_corrected_by_its_label_stands_upright_there_and_here(augmented: int) -> None:
    upright = render_bytes(pdf_bytes(), 1, 400)
    turned = _turn(upright, augmented)
    label = _label(augmented)
    assert _turn(turned, label.rotation_correction).tobytes() == upright.tobytes()
    pdf = pdf_bytes(page=f"/Rotate {(360 - augmented) % 360}")  # /Rotate is clockwise
    assert render_bytes(pdf, 1, 400).tobytes() == turned.tobytes()
    assert render_bytes(pdf, 1, 400, rotation=label.clockwise).tobytes() == upright.tobytes()
    if augmented in (90, 270):  # the other sense leaves it upside down
        assert render_bytes(pdf, 1, 400, rotation=label.rotation_correction).tobytes() != upright.tobytes()


@pytest.mark.parametrize("augmented", TURNS)
def test_our_own_turned_pages_have_olmocrs_labels_and_the_reward_pays_for_them(augmented: int) -> None:
    sheet = page(Heading(text=Text(text="Torvik"), level=1))
    turned = replace(sheet, look=replace(LOOK, rotated=(360 - augmented) % 360, language="en"))
    label = _label(augmented)
    assert to_front_matter(turned) == label
    a_page = Page(id="a:p1", pdf=Path("a.pdf"), number=1, tags=to_front_matter(turned).tags)
    assert _reward(a_page, label) == 1.0
    mirrored = replace(label, rotation_correction=-label.rotation_correction % 360)
    assert _reward(a_page, mirrored) == (0.9 if augmented in (90, 270) else 1.0)


def _reward(a_page: Page, front: FrontMatter) -> float | None:
    raw = front.to_text() + "Torvik"
    body = split_front_matter(raw)[1]
    (score,) = FrontMatterReward()(a_page, [Transcript(raw=raw, body=body, finish="stop", num_tokens=1)])
    return score.value


def test_an_upright_page_is_not_turned_whatever_its_correction_says() -> None:
    assert replace(_label(90), is_rotation_valid=True).clockwise == 0
