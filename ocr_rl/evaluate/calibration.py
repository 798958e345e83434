"""How good a reward model's scores are: right pairs, and whether a chance of 70 % comes true in 70 of 100.

NumPy only. A pair is (page, gap): the chosen transcript's score less the rejected one's. Knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocr_rl.evaluate.png import as_png
from ocr_rl.evaluate.stats import Interval, bootstrap_mean

BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Pairs whose better-scored transcript was given about the same chance to be the preferred one."""

    chance: float  # mean
    right: float  # share in which it was
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    accuracy: Interval  # share of pairs whose chosen transcript scores higher; pages redrawn. A tie is half right.
    nll: float  # mean -log of the chance that was given to what came, nats
    ece: float  # expected calibration error: mean |chance - right| over bins, by pairs (Guo et al., arXiv 1706.04599)
    bins: tuple[Bin, ...]


def calibration(pairs: Sequence[tuple[str, float]], *, seed: int = 0, bins: int = BINS) -> Calibration:
    """Of held-out pairs; ValueError without any.

    The chance that the higher-scored of two is the preferred one is sigmoid(|gap|), from 0.5 to 1; bins are equally
    wide there.
    """
    gaps = np.array([gap for _, gap in pairs])
    right = np.where(gaps == 0, 0.5, gaps > 0)
    by_page: dict[str, list[float]] = {}
    for (page, _), was_right in zip(pairs, right, strict=True):
        by_page.setdefault(page, []).append(float(was_right))
    chance = 1 / (1 + np.exp(-np.abs(gaps)))
    place = np.minimum((chance - 0.5) * 2 * bins, bins - 1).astype(int)
    filled = [
        Bin(chance=float(chance[here].mean()), right=float(right[here].mean()), pairs=int(here.sum()))
        for k in range(bins)
        if (here := place == k).any()
    ]
    return Calibration(
        accuracy=bootstrap_mean(by_page, seed=seed),
        nll=float(np.logaddexp(0, -gaps).mean()),
        ece=sum(b.pairs * abs(b.chance - b.right) for b in filled) / len(pairs),
        bins=tuple(filled),
    )


def reliability_plot(result: Calibration) -> bytes:
    """The reliability diagram as PNG: what came true over the chance that was given, a point's area its pairs."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(4.4, 4.2), dpi=110, layout="constrained")
    axis.plot([0.5, 1], [0.5, 1], color="0.6", linewidth=1, label="calibrated")
    total = sum(b.pairs for b in result.bins)
    axis.scatter(
        [b.chance for b in result.bins],
        [b.right for b in result.bins],
        s=[20 + 400 * b.pairs / total for b in result.bins],
    )
    for b in result.bins:
        axis.annotate(str(b.pairs), (b.chance, b.right), textcoords="offset points", xytext=(6, -10), fontsize=7)
    axis.set_xlabel("chance given to the higher-scored transcript")
    axis.set_ylabel("share in which it was the preferred one")
    low = min([0.45, *(b.right - 0.05 for b in result.bins)])
    axis.set_xlim(0.48, 1.02)
    axis.set_ylim(max(-0.02, low), 1.04)
    axis.grid(alpha=0.3)
    axis.set_title(f"accuracy {result.accuracy.mean:.1%}, ECE {result.ece:.3f}, {total} pairs", fontsize=9)
    return as_png(figure)
