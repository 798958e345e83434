"""A run in the terminal: what a picture says, and that it fits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.look.pace import duration, pace_of
from ocr_rl.look.run_log import open_run
from ocr_rl.look.watch import Style, columns_of, picture, read_view, short, sparkline
from tests.look.conftest import Write, add_step

ESC = "\x1b]0;owned\x07\x1b[2J"


def test_a_sparkline_is_as_wide_as_asked() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 7], 4) == "▁▁██"
    assert sparkline([0, 2, 6, 8], 2, "ab") == "ab"  # means of neighbours
    assert sparkline([3, 3, 3], 5) == "▁▁▁▁▁"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.12345, "0.123"), (1234.5, "1,234"), (0.00012, "1.2e-04"), (3e9, "3.0e+09")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(42, "42 s"), (420, "7 min"), (12_000, "3 h 20 min"), (190_000, "2 d 4 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def at(run: Path, seconds: float) -> float:
    """A time so long after the last step."""
    return (run / "metrics.jsonl").stat().st_mtime + seconds


def test_the_pace_of_a_run_under_way(write_run: Write) -> None:
    run = write_run(steps=9)
    pace = pace_of(open_run(run), open_run(run).metrics(), now=at(run, 5))
    assert (pace.state, pace.sentence, pace.done) == ("runs", "step 2 of 9", 2)
    assert (pace.step_s, pace.left_s, pace.tokens_s) == (4.0, 28.0, 25.0)


def test_a_run_that_ended_is_stated(write_run: Write, page_id: str) -> None:
    run = write_run(steps=9)
    rows = open_run(run).metrics()
    silent = pace_of(open_run(run), rows, now=at(run, 600))
    assert silent.state == "silent" and silent.left_s is None
    assert silent.sentence == (
        "no step for 10 min: it was stopped at step 2 of 9, and a checkpoint is there: --resume goes on"
    )
    add_step(run, 3, page_id)
    assert pace_of(open_run(run), open_run(run).metrics(), now=at(run, 600)).sentence.endswith("or hangs")
    tripped = [*rows, {"step": 3, "tripwires": ["warn: kl", "stop: kl 9 has reached 2"]}]
    stopped = pace_of(open_run(run), tripped, now=at(run, 1))
    assert (stopped.state, stopped.sentence) == ("stopped", "stopped by a tripwire at step 3: kl 9 has reached 2")
    assert pace_of(open_run(run), [], now=os.path.getmtime(run / "config.json")).sentence == "no step yet"


def test_a_finished_run_is_stated(write_run: Write) -> None:
    run = write_run()
    assert pace_of(open_run(run), open_run(run).metrics(), now=at(run, 9e6)).sentence == "finished, 2 of 2 steps"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_picture_fits_any_terminal(write_run: Write, width: int) -> None:
    lines = picture(read_view(open_run(write_run())), width)
    assert max(map(len, lines)) <= max(40, min(160, width))
    curve = next(line for line in lines if line.startswith("reward "))
    assert curve.endswith("0.6 → 0.7") and sum(letter in "▁▂▃▄▅▆▇█" for letter in curve) >= 8


def test_nothing_of_a_run_acts_on_the_terminal(write_run: Write) -> None:
    run = write_run(steps=9)
    why = {"r": f"{ESC} longer than others"}
    add_step(run, 3, f"{ESC}:p1", worst={"reward": 0.0, "advantage": -1.0, "why": why, "text": "what"})
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as lines:
        lines.write('{"step": 4, "tripwires": ["warn: \\u001b[31mred"]}\n')
    text = "\n".join(picture(read_view(open_run(run)), 80))
    assert "\x1b" not in text and "\x07" not in text
    assert "⟨U+001B⟩" in text and "! step 4: warn" in text


def test_tripwires_stand_where_a_low_terminal_shows_them(write_run: Write) -> None:
    run = write_run(steps=9)
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as lines:
        lines.write('{"step": 4, "tripwires": ["warn: kl"]}\n')
    lines = picture(read_view(open_run(run)), 80)
    assert lines.index("! step 4: warn: kl") < next(k for k, line in enumerate(lines) if line.startswith("reward "))


def test_a_terminal_without_blocks_gets_letters(write_run: Write) -> None:
    lines = picture(read_view(open_run(write_run())), 80, Style(blocks="_.-=+*%#"))
    curves = [line for line in lines if line.startswith("reward ")]
    assert curves and all(line.isascii() and line.endswith("0.6 > 0.7") for line in curves)


def test_a_pipe_gets_one_picture_without_colours(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(write_run())]) == 0
    out = capsys.readouterr().out
    assert out.startswith("first  grpo\nfinished, 2 of 2 steps\n") and "\x1b" not in out
    assert "groups of step 2" in out and "0.00 .. 1.00" in out


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path)]) == 2
    assert main(["watch", str(tmp_path), "--web"]) == 2
    assert capsys.readouterr().err.count("holds no config.json of a run") == 2


def test_wide_letters_take_two_columns(write_run: Write) -> None:
    run = write_run(steps=9)
    worst = {"reward": 0.0, "advantage": -1.0, "why": {"r": "文" * 90}, "text": "what"}
    add_step(run, 3, "文" * 30, worst=worst)
    lines = picture(read_view(open_run(run)), 80)
    line = next(line for line in lines if line.startswith("文"))
    assert line == f"{'文' * 7}…  0.00 .. 1.00  {'文' * 24}…" and columns_of(line) <= 80


def test_a_long_start_or_evaluation_is_no_silence(write_run: Write) -> None:
    run = open_run(write_run(steps=9))
    assert pace_of(run, [], now=at(run.folder, 600)).state == "begins"
    assert pace_of(run, [], now=at(run.folder, 1000)).state == "silent"
    evaluated = [{"step": 1, "rollout_s": 4.0, "eval_s": 400.0}, *({"step": k, "rollout_s": 4.0} for k in (2, 3))]
    assert pace_of(run, evaluated, now=at(run.folder, 700)).state == "runs"
    assert pace_of(run, evaluated, now=at(run.folder, 900)).state == "silent"
