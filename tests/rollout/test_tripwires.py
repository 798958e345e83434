"""Tripwires: each figure's bound trips on a run that goes wrong, and none on a healthy one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ocr_rl.config import Recipe, Tripwire, Tripwires, load_recipe
from ocr_rl.contract import UserError
from ocr_rl.rollout.tripwires import tripped
from ocr_rl.rollout.watch import WINDOW

WIRES = load_recipe("nano_grpo").watched
# Of the figures of a healthy run of that recipe: lowest and highest value of a step.
HEALTHY = {
    "length": (68, 103),
    "finished": (0.95, 1.0),
    "repetition": (0.98, 1.0),
    "reward": (0.4, 0.75),
    "entropy": (0.08, 0.33),
    "kl": (0.0, 0.15),
    "grad_norm": (0.24, 0.87),
    "gap": (5e-7, 1e-6),
    "gap_max": (3e-5, 2e-4),
    "drift": (1e-3, 8e-3),  # with a rollout ahead at half the rate; at its own the recipe warns
    "page_gain": (0.5, 2.0),
}


def history(**last: float) -> list[dict]:
    """60 healthy steps, then five with the figures given."""
    rng = Random(0)
    rows = [{name: rng.uniform(low, high) for name, (low, high) in HEALTHY.items()} for _ in range(60)]
    return rows + [{**rows[k], **last} for k in range(5 if last else 0)]


def test_a_healthy_run_trips_nothing_at_any_step() -> None:
    rows = history()
    assert [tripped(rows[:n], WIRES) for n in range(len(rows) + 1)] == [[]] * (len(rows) + 1)


@pytest.mark.parametrize(
    ("figure", "value", "then"),
    [
        ("length", 500, "warn"),
        ("finished", 0.3, "stop"),
        ("repetition", 0.2, "stop"),
        ("reward", 0.1, "stop"),
        ("entropy", 3.0, "warn"),
        ("entropy", 0.001, "warn"),
        ("kl", 5.0, "warn"),
        ("grad_norm", 50.0, "warn"),
        ("gap", 0.4, "stop"),
        ("gap_max", 0.05, "stop"),
        ("drift", 0.02, "warn"),
        ("page_gain", 0.0, "stop"),
    ],
)
def test_trap_16_a_collapse_trips_its_wire(figure: str, value: float, then: str) -> None:
    (decision,) = tripped(history(**{figure: value}), WIRES)
    assert (decision.name, decision.then) == (figure, then)
    assert str(decision).startswith(f"{then}: {figure} {value:.3g} has ")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_trap_16_what_is_not_a_number_trips_every_wire(value: float) -> None:
    assert [decision.name for decision in tripped(history(kl=value), WIRES)] == ["kl"]
    assert str(tripped(history(page_gain=value), WIRES)[0]) == "stop: page_gain is not a number"


def test_one_bad_step_is_no_collapse_and_a_figure_that_is_missing_trips_nothing() -> None:
    rows = history(reward=0.05)
    assert tripped(rows[:-4], WIRES) == []
    assert tripped([*rows, {"kl": 0.1}], WIRES) == []


def test_a_bound_relative_to_the_start_waits_until_there_is_a_start() -> None:
    wires = Tripwires(length=Tripwire(above=2, of_start=True, steps=1))
    rows = [{"length": 10.0}] * (WINDOW - 1)
    assert tripped([*rows, {"length": 99.0}], wires) == []
    assert [decision.name for decision in tripped([*rows, {"length": 10.0}, {"length": 99.0}], wires)] == ["length"]


def test_a_reward_that_was_nothing_at_first_cannot_halve() -> None:
    assert tripped([{"reward": 0.0}] * 40, WIRES) == []


def test_a_falling_test_type_is_a_wire_too() -> None:
    rng = Random(0)
    rows = [{"reward": 0.3 + k / 100 + rng.gauss(0, 0.01), "pass_rate/table": 0.6 - k / 200} for k in range(40)]
    (decision,) = tripped(rows, Tripwires(falling_type="stop"))
    assert (decision.name, decision.then, decision.steps) == ("pass_rate/table", "stop", WINDOW)


# --- in a recipe ------------------------------------------------------------------------------------------------------


def test_an_action_alone_keeps_the_default_bound() -> None:
    recipe = load_recipe("nano_grpo", ["tripwires.finished.then=roll_back", "tripwires.kl={above=0.5}"])
    assert recipe.tripwires.finished == Tripwires().finished.model_copy(update={"then": "roll_back"})
    assert recipe.tripwires.kl == Tripwire(above=0.5)


def test_the_largest_gap_is_bounded_where_everything_is_float32() -> None:
    assert WIRES.gap_max is not None and WIRES.gap_max.then == "stop"
    assert load_recipe("qwen2_5_vl_7b_grpo").watched.gap_max is None
    mine = load_recipe("nano_grpo", ["tripwires.gap_max={above=1.0}"]).watched.gap_max
    assert mine == Tripwire(above=1.0)


def test_what_a_recipe_cannot_ask_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key tripwires\.lenght: did you mean length\?"):
        load_recipe("nano_grpo", ["tripwires.lenght.then=stop"])
    with pytest.raises(UserError, match=r"tripwires\.gap_max: give a bound: above or below"):
        load_recipe("nano_grpo", ["tripwires.gap_max.then=stop"])
    with pytest.raises(UserError, match=r"roll_back is for \[grpo\]"):
        load_recipe("nano_sft", ["tripwires.not_finite=roll_back"])
    assert isinstance(load_recipe("nano_sft", ["tripwires.not_finite=stop"]), Recipe)


def test_sft_may_lower_the_entropy_and_not_raise_it() -> None:
    watched = load_recipe("nano_sft").watched
    sure = [{"step": step, "entropy": 4.0 if step < WINDOW else 0.01} for step in range(3 * WINDOW)]
    unsure = [{"step": step, "entropy": 1.0 if step < WINDOW else 6.0} for step in range(3 * WINDOW)]
    assert not tripped(sure, watched)
    assert [decision.name for decision in tripped(sure, load_recipe("nano_grpo").watched)] == ["entropy"]
    assert [decision.name for decision in tripped(unsure, watched)] == ["entropy"]
    assert not tripped(sure, load_recipe("nano_sft", ["tripwires.entropy.then=stop"]).watched)
    asked = load_recipe("nano_sft", ["tripwires.entropy={below=0.1, of_start=true}"]).watched
    assert [decision.name for decision in tripped(sure, asked)] == ["entropy"]
