"""A study's pictures, as PNG: what every arm reached for its cost, and one a claim."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ocr_rl.evaluate.png import as_png
from ocr_rl.study.findings import Finding, Series
from ocr_rl.study.results import Point, Results


def main_plot(results: Results) -> bytes:
    """The legend names the arms in the order in which they end, the best first."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter

    figure, axes = plt.subplots(1, 2, figsize=(11.5, 4.4), dpi=110, sharey=True, layout="constrained")
    ends: dict[str, float] = {}
    for axis, what, label in ((axes[0], "tokens", "tokens generated, thousands"), (axes[1], "seconds", "seconds")):
        for arm in results.study.arms:
            if curves := results.curves_of(arm):
                series = _over_seeds(curves, what)
                _band(axis, arm, series)
                ends[arm] = series.y[-1]
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:.0f}"))
    axes[0].set_ylabel("pass rate on the validation pages, %")
    handles, names = axes[1].get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda k: -ends[names[k]])
    figure.legend([handles[k] for k in order], [names[k] for k in order], fontsize=8, loc="outside right center")
    return as_png(figure)


def _over_seeds(curves: Sequence[Sequence[Point]], what: str) -> Series:
    """Evaluations of the seeds side by side: they came after equally many steps."""
    together = list(zip(*curves, strict=False))
    rates = [[100 * point.pass_rate for point in points_] for points_ in together]
    return Series(
        x=[float(np.mean([getattr(point, what) for point in points_])) for points_ in together],
        y=[float(np.mean(values)) for values in rates],
        low=[min(values) for values in rates],
        high=[max(values) for values in rates],
    )


def claim_plot(finding: Finding) -> bytes:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.4), dpi=110, layout="constrained")
    for k, (name, series) in enumerate(finding.series.items()):
        if finding.ticks:
            _whiskers(axis, name, series, 0.12 * (k - (len(finding.series) - 1) / 2))
        else:
            _band(axis, name, series)
    if finding.ticks:
        axis.set_xticks(range(len(finding.ticks)), finding.ticks, fontsize=8)
    axis.axhline(0, color="0.5", linewidth=0.8)
    axis.set_xlabel(finding.x_label)
    axis.set_ylabel(finding.y_label)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return as_png(figure)


def _band(axis, name: str, series: Series) -> None:  # type: ignore[no-untyped-def]
    (line,) = axis.plot(series.x, series.y, marker="o" if len(series.x) < 30 else None, markersize=3, label=name)
    if series.low:
        axis.fill_between(series.x, series.low, series.high, alpha=0.15, color=line.get_color())


def _whiskers(axis, name: str, series: Series, shift: float) -> None:  # type: ignore[no-untyped-def]
    y, low, high = map(np.asarray, (series.y, series.low, series.high))
    axis.errorbar(np.asarray(series.x) + shift, y, [y - low, high - y], fmt="o", markersize=4, capsize=3, label=name)
