"""The text that single pages' layers hold, read in processes that may hang or crash. Knows nothing about tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ocr_rl.pages.opening import opened
from ocr_rl.pages.text_layer import layer_of
from ocr_rl.pages.workers import Refusal, guarded

TIMEOUT_S = 30.0  # for one page
_PICTURED = 0.03  # a page whose pictures cover more may say much more than its layer: white letters look like paper

Place = tuple[Path, int]  # a file, and the number of a page from 1


def layer_texts(places: Iterable[Place], *, workers: int) -> Iterator[str | None]:
    """The text of each page in its turn, without markup; None where no layer tells all that the page shows."""
    for _, text in guarded(layer_text, places, workers=workers, timeout_s=TIMEOUT_S):
        yield None if isinstance(text, Refusal) else text


def layer_text(place: Place) -> str:
    """A page's text, a line a line. Raises Refusal where its layer is not there, not to be trusted, or not whole."""
    pdf, number = place
    with opened(pdf) as document:
        layer = layer_of(document, number)
    if layer.reason or not layer.explained:
        raise Refusal(layer.reason or "text is drawn where the layer has none")
    if layer.pictured > _PICTURED:
        raise Refusal(f"pictures cover {layer.pictured:.0%} of the page, and what they say is not in the layer")
    return "\n".join(line.text for line in layer.lines)
