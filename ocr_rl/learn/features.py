"""What a frozen vision tower says of pages, kept: it says the same at every step and in every pass.

A page is then drawn, cut into patches and read once, not once in each pass of each step (old log-probabilities,
reference, update, and again where a group is cut up). Features lie on the host, in the dtype that the tower gives.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn

from ocr_rl.pages.raster import ImageRef

LIMIT = 2**30  # bytes: 99 pages of 1,500 tokens in the 7B shape
_SHARE = 0.1  # of the host's free memory, at most: they save time, and no run is to die of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Of one page. F of them, each D wide."""

    size: Tensor  # of the image, as the family's tower reads it
    layers: tuple[Tensor, ...]  # (F, D) each: the tower's last, then those that go to layers of the text model

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)


class KeptFeatures:
    """Features by page, `limit` bytes at most: those that were not asked for the longest go first."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.nbytes = 0
        self._by_page: OrderedDict[ImageRef, Features] = OrderedDict()

    def of(self, page: ImageRef, read: Callable[[], Features]) -> Features:
        """The page's features, `read` where they are not there."""
        if page in self._by_page:
            self._by_page.move_to_end(page)
            return self._by_page[page]
        features = self._by_page[page] = read()
        self.nbytes += features.nbytes
        while self.nbytes > self.limit:
            self.nbytes -= self._by_page.popitem(last=False)[1].nbytes
        return features


def room() -> int:
    """Bytes for one reader's features."""
    return min(LIMIT, int(_SHARE * psutil.virtual_memory().available))


def joined(pages: Sequence[Features]) -> tuple[tuple[Tensor, ...], Tensor]:
    """(layers, sizes) of several pages, one after the other."""
    layers = zip(*(features.layers for features in pages), strict=True)
    return tuple(map(torch.cat, layers)), torch.stack([features.size for features in pages])


def stands_still(parts: Sequence[nn.Module]) -> bool:
    """Whether these parts of a model say the same of the same page for good: nothing in them learns or drops out."""
    for part in parts:
        if any(weight.requires_grad or "lora_" in name for name, weight in part.named_parameters()):
            return False
        if any(_drops_out(module) for module in part.modules()):
            return False
    return True


def _drops_out(module: nn.Module) -> bool:
    shares = (getattr(module, name, 0) for name in ("attention_dropout", "dropout"))  # of attention, by family
    return (isinstance(module, nn.Dropout) and module.p > 0) or any(isinstance(p, float) and p > 0 for p in shares)
