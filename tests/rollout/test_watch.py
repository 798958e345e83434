"""A falling test type under a rising reward is called out; noise, and a fall with the reward, are not."""

from __future__ import annotations

from random import Random

from ocr_rl.rollout.watch import WINDOW, falls


def curve(start: float, end: float, noise: float, seed: int, n: int = 60) -> list[float]:
    rng = Random(seed)
    return [start + (end - start) * k / (n - 1) + rng.gauss(0, noise) for k in range(n)]


def rows(reward: tuple[float, float], **types: tuple[float, float]) -> list[dict]:
    columns = {"reward": curve(*reward, 0.05, 0)}
    columns |= {f"pass_rate/{name}": curve(*ends, 0.05, 1 + k) for k, (name, ends) in enumerate(types.items())}
    return [{name: values[i] for name, values in columns.items()} for i in range(60)]


def test_tables_fall_while_the_reward_rises() -> None:
    (fall,) = falls(rows((0.4, 0.7), table=(0.5, 0.3), present=(0.4, 0.8)))
    assert fall.type == "table"
    assert str(fall).startswith("table 4") and str(fall).endswith("while the reward rises")
    assert fall.now < fall.before


def test_nothing_is_called_out_where_the_reward_falls_too_or_nothing_moves() -> None:
    assert falls(rows((0.7, 0.4), table=(0.5, 0.3))) == []
    assert falls(rows((0.4, 0.7), table=(0.5, 0.5), order=(0.4, 0.41))) == []


def test_too_few_steps_say_nothing_and_steps_without_the_type_do_not_count() -> None:
    found = rows((0.4, 0.7), table=(0.5, 0.3))
    assert falls(found[: 2 * WINDOW - 1]) == []
    assert falls([{"reward": row["reward"]} for row in found]) == []
    assert [fall.type for fall in falls([{"step": 0}, *found])] == ["table"]
