"""How far a run is, how fast it goes, and whether it still goes; read off its files alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from ocr_rl.look.run_log import Row, RunFolder, number

PARTS = ("pages_s", "sync_s", "rollout_s", "score_s", "credit_s", "annotate_s", "update_s", "eval_s")
RECENT = 20  # steps that speed is measured on
SILENT_S = 120.0  # without a step, at least, before a run counts as stopped; or ten of its steps, or two of its longest
BEGIN_S = 900.0  # the same before the first step: pages are typeset, weights loaded, an engine started

State = Literal["begins", "runs", "finished", "stopped", "silent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """`step_s`, `left_s` and `tokens_s` (sampled, a second of the whole step) are None before they are known."""

    done: int
    total: int
    state: State
    sentence: str
    step_s: float | None = None
    left_s: float | None = None
    tokens_s: float | None = None


def pace_of(run: RunFolder, rows: Sequence[Row], now: float | None = None) -> Pace:
    """`now`: seconds since 1970, by default the clock's."""
    done = max((row["step"] for row in rows), default=0)
    recent = [row for row in rows[-RECENT:] if seconds_of(row) > 0]
    if not recent:
        state, sentence = _state(run, rows, done, None, now)
        return Pace(done=done, total=run.total, state=state, sentence=sentence)
    step_s = median(map(seconds_of, recent))
    generated = sum(number(row.get("generated")) or 0.0 for row in recent)
    state, sentence = _state(run, rows, done, step_s, now)
    going = state in ("runs", "begins")
    return Pace(
        done=done,
        total=run.total,
        state=state,
        sentence=sentence,
        step_s=step_s,
        left_s=step_s * (run.total - done) if going else None,
        tokens_s=generated / sum(map(seconds_of, recent)) if generated else None,
    )


def seconds_of(row: Row) -> float:
    """What a step took, as far as its row says."""
    return sum(number(row.get(part)) or 0.0 for part in PARTS)


def _state(
    run: RunFolder, rows: Sequence[Row], done: int, step_s: float | None, now: float | None
) -> tuple[State, str]:
    if rows and (why := next((str(t) for t in _tripwires(rows[-1]) if str(t).startswith("stop")), None)):
        return "stopped", f"stopped by a tripwire at step {done}: {why.partition(': ')[2]}"
    if done >= run.total and (run.folder / "ckpt" / f"{run.total:06d}").is_dir():
        return "finished", f"finished, {done} of {run.total} steps"
    age = (time.time() if now is None else now) - _last_write(run)
    longest = max(map(seconds_of, rows), default=0.0)  # with an evaluation, as the next one may be
    if age > (max(SILENT_S, 10 * (step_s or 0.0), 2 * longest) if rows else BEGIN_S):
        saved = (run.folder / "ckpt" / f"{done:06d}").is_dir()
        end = "and a checkpoint is there: --resume goes on" if saved else "or hangs"
        return "silent", f"no step for {duration(age)}: it was stopped at step {done} of {run.total}, {end}"
    if not rows:
        return "begins", "no step yet"
    return "runs", f"step {done} of {run.total}"


def _last_write(run: RunFolder) -> float:
    times = [path.stat().st_mtime for name in ("metrics.jsonl", "config.json") if (path := run.folder / name).exists()]
    return max(times, default=0.0)


def _tripwires(row: Row) -> Sequence[object]:
    wires = row.get("tripwires")
    return wires if isinstance(wires, list) else []


def tripped_in(rows: Sequence[Row]) -> list[tuple[int, str]]:
    """(step, sentence) of every tripwire and roll-back."""
    wires = [(row["step"], str(wire)) for row in rows for wire in _tripwires(row)]
    wires += [(row["step"], f"rolled back: {row['rolled_back']}") for row in rows if "rolled_back" in row]
    return sorted(wires)


def duration(seconds: float) -> str:
    """Two units at most: 42 s, 7 min, 3 h 20 min, 2 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"
