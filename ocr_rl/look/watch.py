"""`ocr-rl watch`: a run as it goes, in a terminal of any width. Reads files alone, so it costs the run nothing.

A picture is a pure function of what was read: `picture(view, width)`.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from unicodedata import combining, east_asian_width

from ocr_rl.evaluate.tables import visible
from ocr_rl.look.pace import PARTS, Pace, duration, pace_of, tripped_in
from ocr_rl.look.run_log import Row, RunFolder, Siblings, group_files, number, open_run, read_step

FIGURES = {  # what is drawn, in order, with its name
    "reward": "reward",
    "pass_rate": "tests passed",
    "pass_degree": "degree",
    "eval_pass_rate": "held out",
    "nll": "nll",
    "nll_page": "held-out nll",
    "accuracy_mean": "pairs right",
    "margin_mean": "margin",
    "length": "length",
    "finished": "ended",
    "flat_groups": "flat groups",
    "entropy": "entropy",
    "kl": "kl",
    "gap_max": "largest gap",
    "grad_norm": "gradient",
}
_BLOCKS, _PLAIN_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*%#"
_NAME = 13  # columns of a curve's name
NARROWEST, WIDEST = 40, 160


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What was read of a run."""

    run: RunFolder
    rows: Sequence[Row]
    pace: Pace
    groups: Sequence[Siblings]  # of the last step that has some
    groups_step: int | None = None


def read_view(run: RunFolder, now: float | None = None) -> View:
    rows = run.metrics()
    step, path = max(group_files(run.folder).items(), default=(None, None))
    groups = read_step(path)[0] if path is not None else []
    return View(run=run, rows=rows, pace=pace_of(run, rows, now), groups=groups, groups_step=step)


def watch(folder: Path, *, every_s: float, once: bool) -> None:
    """Draw until the run has ended or Ctrl-C comes; one picture where stdout is no terminal. UserError for no run."""
    run = open_run(folder)
    style = Style.of_terminal()
    if once or not sys.stdout.isatty():
        print("\n".join(picture(read_view(run), _width(), style)))
        return
    with _screen():
        while True:
            view = read_view(run)
            _draw(picture(view, _width(), style))
            if view.pace.state in ("finished", "stopped"):
                break
            time.sleep(every_s)
    print("\n".join(picture(view, _width(), style)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What the terminal can show."""

    color: bool = False
    blocks: str = _BLOCKS

    @classmethod
    def of_terminal(cls) -> Style:
        """Colour unless NO_COLOR is set or stdout is no terminal; letters where it cannot write blocks."""
        try:
            _BLOCKS.encode(sys.stdout.encoding or "ascii")
            blocks = _BLOCKS
        except (UnicodeEncodeError, LookupError):
            blocks = _PLAIN_BLOCKS
        return cls(color=sys.stdout.isatty() and not os.environ.get("NO_COLOR"), blocks=blocks)

    @property
    def arrow(self) -> str:
        return "→" if self.blocks == _BLOCKS else ">"

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.color else text

    def faint(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.color else text

    def warn(self, text: str) -> str:
        return f"\x1b[31m{text}\x1b[0m" if self.color else text


def picture(view: View, width: int, style: Style | None = None) -> list[str]:
    """The lines of one picture, each at most `width` columns wide."""
    style = style or Style()
    width = max(NARROWEST, min(WIDEST, width))
    parts = [
        _head(view, width, style),
        _wires(view.rows, width, style),
        _curves(view.rows, width, style),
        _clock(view.rows, width, style),
        _groups(view, width, style),
    ]
    lines = [line for part in parts if part for line in (*part, "")]
    return lines[:-1]


def _head(view: View, width: int, style: Style) -> list[str]:
    pace, run = view.pace, view.run
    name = f"{_cut(_plain(run.name), width - 2 - len(run.algorithm))}  {style.faint(run.algorithm)}"
    share = min(1.0, pace.done / max(1, pace.total))
    long = width - 8
    full, empty = style.blocks[-1] * round(long * share), style.blocks[0] * (long - round(long * share))
    speed = [f"{pace.tokens_s:,.0f} tokens a second"] if pace.tokens_s else []
    speed += [f"{pace.step_s:.1f} s a step"] if pace.step_s else []
    speed += [f"{duration(pace.left_s)} left"] if pace.left_s is not None else []
    bad = pace.state in ("stopped", "silent")
    sentences = [style.warn(line) if bad else line for line in _wrapped(_plain(pace.sentence), width)]
    return [
        style.bold(name),
        *sentences,
        f"{full}{style.faint(empty)} {share:>6.1%}",
        *_flowing(speed, width),
    ]


def _curves(rows: Sequence[Row], width: int, style: Style) -> list[str]:
    curves = {}
    for key, name in FIGURES.items():
        values = [figure for row in rows if (figure := number(row.get(key))) is not None]
        if len(values) > 1:
            curves[name] = (values, f"{short(values[0])} {style.arrow} {short(values[-1])}")
    right = max((len(change) for _, change in curves.values()), default=0)
    return [
        f"{name:<{_NAME}} {sparkline(values, width - _NAME - right - 2, style.blocks)} {change:>{right}}"
        for name, (values, change) in curves.items()
    ]


def sparkline(values: Sequence[float], width: int, blocks: str = _BLOCKS) -> str:
    """The values as `width` blocks, from the least to the largest: means of neighbours, or stretched."""
    n = len(values)
    spans = [(k * n // width, max(k * n // width + 1, (k + 1) * n // width)) for k in range(width)]
    means = [fmean(values[start:end]) for start, end in spans]
    low, high = min(means), max(means)
    scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(blocks[round((mean - low) * scale)] for mean in means)


def short(value: float) -> str:
    """Three digits, or a power of ten where the number is tiny or huge."""
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e6):
        return f"{value:.1e}"
    return f"{value:,.0f}" if size >= 100 else f"{value:.3g}"


def _clock(rows: Sequence[Row], width: int, style: Style) -> list[str]:
    """Where the time of the last steps went."""
    recent = rows[-20:]
    sums = {part: sum(number(row.get(part)) or 0.0 for row in recent) for part in PARTS}
    whole = sum(sums.values())
    if not whole:
        return []
    shares = [f"{part.removesuffix('_s')} {of / whole:.0%}" for part, of in sums.items() if of / whole >= 0.005]
    return _flowing(["time:", *shares], width)


def _groups(view: View, width: int, style: Style) -> list[str]:
    """The last step's pages: what their samples earned, and why the worst of them earned little."""
    if not view.groups:
        return []
    lines = [style.faint(f"groups of step {view.groups_step}")]
    for group in view.groups[:8]:
        rewards = sorted(reward for reward in group.rewards if reward is not None)
        if not rewards:
            continue
        span = f"{rewards[0]:.2f} .. {rewards[-1]:.2f}"
        name = _cut(_plain(group.page_id), 16)
        start = f"{name}{' ' * (16 - columns_of(name))} {span}  "
        lines.append(_cut(start + _plain(_reason(group)), width))
    return lines if len(lines) > 1 else []


def _reason(group: Siblings) -> str:
    """The longest of the reasons for the worst sample's rewards."""
    rewards = [1.0 if reward is None else reward for reward in group.rewards]
    whys = group.whys.get(rewards.index(min(rewards)), {})
    return max(whys.values(), key=len, default="")


def _wires(rows: Sequence[Row], width: int, style: Style) -> list[str]:
    lines = []
    for step, why in tripped_in(rows)[-3:]:
        lines += [style.warn(line) for line in _wrapped(f"! step {step}: {_plain(why)}", width)]
    return lines


# ---- the terminal


def _plain(text: str) -> str:
    """One line without anything that would act on a terminal."""
    return visible(" ".join(text.split()))


def columns_of(text: str) -> int:
    """How wide a terminal draws the text: letters of Chinese, Japanese and Korean take two columns."""
    return sum(map(_columns, text))


def _columns(char: str) -> int:
    return 0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1


def _cut(text: str, width: int) -> str:
    if columns_of(text) <= width:
        return text
    ends = accumulate(map(_columns, text))
    return text[: sum(end < width for end in ends)] + "…"


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words."""
    return _flowing(text.split(), width, " ")


def _flowing(items: Sequence[str], width: int, between: str = "  ") -> list[str]:
    """Lines of whole items; one that is too long is cut."""
    lines: list[str] = []
    for item in items:
        if lines and columns_of(lines[-1] + between + item) <= width:
            lines[-1] += between + item
        else:
            lines.append(_cut(item, width))
    return lines


def _width() -> int:
    return shutil.get_terminal_size((80, 24)).columns


@contextmanager
def _screen() -> Iterator[None]:
    """The terminal's second screen, without its cursor; the first one comes back as it was."""
    sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


def _draw(lines: Sequence[str]) -> None:
    """Over the last picture, line by line, so that nothing flickers; what the terminal is too low for is left out."""
    high = shutil.get_terminal_size((80, 24)).lines
    sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in lines[: high - 1]) + "\x1b[J")
    sys.stdout.flush()
