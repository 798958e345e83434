"""What became of pages and tests, by hand-worked visits."""

from __future__ import annotations

import pytest

from ocr_rl.look import findings
from ocr_rl.look.findings import Visit


def visit(step: int, passes: tuple[int, ...], page: str = "a:p1", n: int = 4, name: str = "", **more) -> Visit:
    tests = tuple(f"t{i}" for i in range(len(passes)))
    types = ("present", "table", "order")[: len(passes)]
    return Visit(step=step, set=name, page=page, samples=n, tests=tests, types=types, passes=passes, **more)


def test_a_page_is_compared_by_halves_of_its_visits() -> None:
    visits = [visit(3, (4, 0)), visit(1, (0, 0)), visit(2, (4, 4))]  # in any order; the middle one is in neither half
    (change,) = findings.page_changes(visits)
    assert (change.before, change.after, change.visits, change.step) == (0.0, 0.5, 3, 3)


def test_pages_go_from_the_largest_loss_to_the_largest_gain() -> None:
    visits = [visit(1, (4,), "up"), visit(2, (0,), "up"), visit(1, (1,), "down"), visit(2, (2,), "down")]
    assert [(c.page, c.by) for c in findings.page_changes(visits)] == [("up", -1.0), ("down", 0.25)]


def test_a_page_that_came_once_or_was_not_judged_has_no_change() -> None:
    unjudged = Visit(step=2, set="", page="a:p1", samples=4, tests=(), types=(), passes=None)
    assert findings.page_changes([visit(1, (4,)), unjudged]) == []


def test_held_out_pages_are_apart_from_those_that_are_learnt_from() -> None:
    visits = [visit(1, (0,)), visit(2, (0,), n=1, name="new"), visit(3, (1,), n=1, name="new")]
    assert [(c.set, c.by) for c in findings.page_changes(visits)] == [("new", 1.0)]


def test_tests_learnt_forgotten_and_never_passed() -> None:
    learnt, forgotten, never = findings.test_changes([visit(1, (1, 3, 0)), visit(2, (3, 1, 0))])
    assert [(c.test, c.type, c.before, c.after) for c in learnt] == [("t0", "present", 0.25, 0.75)]
    assert [(c.test, c.type) for c in forgotten] == [("t1", "table")]
    assert [(c.test, c.type) for c in never] == [("t2", "order")]


def test_a_page_is_never_read_where_its_best_sample_passes_less_than_half() -> None:
    visits = [visit(1, (0,), "a", best=0.4), visit(2, (0,), "a", best=0.2), visit(1, (0,), "b", best=0.5)]
    assert [(c.page, c.after) for c in findings.never_read(visits)] == [("a", 0.4)]


def test_a_type_stops_teaching_where_siblings_agree() -> None:
    visits = [visit(1, (2, 2, 2)), visit(2, (2, 4, 0)), visit(3, (2, 4, 0))]
    rows = {row.type: row for row in findings.teaching(visits)}
    assert rows["present"].stopped == "" and rows["present"].split == (1.0, 1.0, 1.0)
    assert rows["table"].stopped == "all samples pass" and rows["table"].whole == (0.0, 1.0, 1.0)
    assert rows["order"].stopped == "no sample passes" and rows["order"].ever
    assert [row.type for row in findings.teaching(visits)] == ["order", "table", "present"]
    (never,) = findings.teaching([visit(step, (4,)) for step in (1, 2, 3)])
    assert never.stopped == "all samples pass" and not never.ever


def rising(step: int, reward: float, passes: int, k: int) -> Visit:
    return visit(step, (passes,), page=f"{k}", reward=reward + 0.01 * k)


def test_reward_rises_and_truth_does_not() -> None:
    visits = [rising(step, 0.1 * (step > 2), 2, k) for step in range(1, 5) for k in range(2)]
    (parting,) = findings.partings(visits)
    assert (parting.first, parting.last, parting.truth, parting.measured) == (3, 4, (0.5, 0.5), "")
    assert parting.reward == pytest.approx((0.005, 0.105))
    assert findings.partings([rising(s, 0.1 * (s > 2), 2 + (s > 2), k) for s in range(1, 5) for k in range(2)]) == []


def test_reward_rises_and_held_out_pages_get_worse() -> None:
    learning = [rising(step, 0.1 * step, step, k) for step in range(1, 5) for k in range(2)]
    held_out = [visit(step, (passed,), n=1, name="new", page="h") for step, passed in ((0, 1), (2, 1), (4, 0))]
    (parting,) = findings.partings([*learning, *held_out])
    assert (parting.first, parting.last, parting.truth, parting.measured) == (3, 4, (1.0, 0.0), "new")


def test_siblings_that_reward_and_truth_order_differently() -> None:
    assert findings.disagreement((0.1, 0.2, 0.3), (0.0, 0.5, 0.2)) == (1, 3)
    assert findings.disagreement((0.1, 0.1, None), (0.0, 0.5, 0.2)) == (0, 0)  # ties, and a reward nobody knows
