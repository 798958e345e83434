"""What a token counts: its share of the whole step, and of a minibatch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn.algos.rollouts import reweighted, split_by_group, to_rows
from ocr_rl.learn.rows import _advantages
from ocr_rl.objectives.losses import PolicyGradient
from ocr_rl.rollout.flow import ComparedGroup, Group, Row, Sample
from tests.learn.conftest import PROMPT, batch_of, read_of


def compared(lengths: list[int], advantages: list[float], finishes: list[str] | None = None) -> ComparedGroup:
    samples = [
        Sample(token_ids=(1,) * n, logprobs=(-1.0,) * n, text="x", finish=finish, policy=0)  # type: ignore[arg-type]
        for n, finish in zip(lengths, finishes or ["stop"] * len(lengths), strict=True)
    ]
    page = Page(id="ab:p1", pdf=Path("a.pdf"), number=1)
    group = Group(page=page, prompt=PROMPT, samples=tuple(samples), temperature=0.7, banned_ids=(9,))
    return ComparedGroup(group=group, scores={}, rewards=tuple(advantages), advantages=tuple(advantages))


def settings(**changes) -> config.Grpo:
    return config.Grpo.model_validate({"pages": {"synth": "nano"}, "steps": 1, **changes})


TWO_GROUPS = [compared([2, 4], [2.0, -1.0]), compared([1, 3], [1.0, -3.0])]


@pytest.mark.parametrize(
    ("aggregation", "weights", "value"),
    [
        # 1 / (2 groups * 2 samples * T); at ratio 1 the loss is -(2 - 1 + 1 - 3) / 4
        ("sample_mean", [1 / 8, 1 / 16, 1 / 4, 1 / 12], 0.25),
        # 1 / 10 tokens; -(2 * 2 - 4 * 1 + 1 * 1 - 3 * 3) / 10
        ("token_mean", [1 / 10] * 4, 0.8),
        # 1 / (4 samples * 8 tokens at most); -(4 - 4 + 1 - 9) / 32
        ("fixed_length", [1 / 32] * 4, 0.25),
    ],
)
def test_what_a_token_counts(aggregation: str, weights: list[float], value: float) -> None:
    rows = to_rows(TWO_GROUPS, settings(aggregation=aggregation), max_tokens=8)
    assert [row.weight for row in rows] == pytest.approx(weights)
    tokens = [row for row in rows for _ in row.completion_ids]
    batch = batch_of(
        [len(row.completion_ids) for row in rows],
        weight=[row.weight for row in tokens],
        advantage=[row.advantage for row in tokens],
        old=[-1.0] * 10,
    )
    now = torch.full((10,), -1.0, dtype=torch.float64, requires_grad=True)
    assert float(PolicyGradient()(read_of(now), batch)[0].detach()) == pytest.approx(value, abs=1e-12)


def test_rows_carry_what_their_samples_were_drawn_with() -> None:
    rows = to_rows(TWO_GROUPS, settings(), max_tokens=8)
    assert [row.group_id for row in rows] == [0, 0, 1, 1]
    assert [row.advantage for row in rows] == [2.0, -1.0, 1.0, -3.0]
    assert {(row.temperature, row.banned_ids, row.prompt) for row in rows} == {(0.7, (9,), PROMPT)}
    assert [row.sampler_logprobs for row in rows] == [(-1.0,) * n for n in (2, 4, 1, 3)]
    assert {(row.old_logprobs, row.ref_logprobs) for row in rows} == {(None, None)}


def test_samples_cut_off_can_be_left_out() -> None:
    groups = [compared([2, 4], [2.0, -1.0], ["stop", "length"]), compared([1, 3], [1.0, -3.0])]
    assert len(to_rows(groups, settings(), max_tokens=8)) == 4
    left = to_rows(groups, settings(mask_unfinished=True), max_tokens=8)
    assert [len(row.completion_ids) for row in left] == [2, 1, 3]
    assert [row.weight for row in left] == pytest.approx([1 / 8, 1 / 4, 1 / 12])  # the others count as before
    by_tokens = to_rows(groups, settings(mask_unfinished=True, aggregation="token_mean"), max_tokens=8)
    assert [row.weight for row in by_tokens] == pytest.approx([1 / 6] * 3)  # 6 tokens are left


def rows_of(*groups: int) -> list[Row]:
    return [
        Row(prompt=PROMPT, completion_ids=(1,) * (i + 1), group_id=group, weight=0.1) for i, group in enumerate(groups)
    ]


@pytest.mark.parametrize(("parts", "sizes"), [(1, [6]), (2, [3, 3]), (3, [2, 1, 3]), (9, [2, 1, 3])])
def test_groups_are_not_torn_apart(parts: int, sizes: list[int]) -> None:
    rows = rows_of(0, 0, 1, 5, 5, 5)
    split = split_by_group(rows, parts)
    assert [len(part) for part in split] == sizes
    assert sum(split, []) == rows


def test_a_minibatch_weighs_as_much_as_the_whole() -> None:
    rows = rows_of(0, 0, 1)  # 1, 2 and 3 tokens of weight 0.1: 0.6 in all
    part = reweighted(rows[:2], rows, "token_mean")  # 0.3: doubled
    assert [row.weight for row in part] == pytest.approx([0.2, 0.2])
    assert [row.weight for row in reweighted(rows, rows, "token_mean")] == pytest.approx([0.1] * 3)


def test_a_token_of_fixed_length_weighs_the_same_whatever_its_neighbours_lengths() -> None:
    rows = rows_of(0, 0, 1)
    assert [row.weight for row in reweighted(rows[:2], rows, "fixed_length")] == pytest.approx([0.15, 0.15])
    assert [row.weight for row in reweighted(rows[2:], rows, "fixed_length")] == pytest.approx([0.3])  # a third


def test_a_row_carries_an_advantage_a_token_only_where_it_was_shared_out() -> None:
    shared = [replace(TWO_GROUPS[0], token_advantages=((3.0, 1.0), (-4.0, 0.0, 0.0, 0.0))), TWO_GROUPS[1]]
    plain, rows = (to_rows(groups, settings(), max_tokens=8) for groups in (TWO_GROUPS, shared))
    assert [row.advantage for row in rows] == [(3.0, 1.0), (-4.0, 0.0, 0.0, 0.0), 1.0, -3.0]
    assert [replace(row, advantage=0.0) for row in rows] == [replace(row, advantage=0.0) for row in plain]
    assert rows[2:] == plain[2:]  # off: the very same rows


def test_the_gradient_of_a_token_is_its_own_advantage() -> None:
    """On the policy's own samples d loss / d log-probability = -weight x advantage, token by token."""
    shared = [replace(TWO_GROUPS[0], token_advantages=((3.0, 1.0), (-4.0, 0.0, 0.0, 0.0))), TWO_GROUPS[1]]
    rows = to_rows(shared, settings(), max_tokens=8)
    batch = batch_of(
        [len(row.completion_ids) for row in rows],
        weight=[row.weight for row in rows for _ in row.completion_ids],
        advantage=_advantages(rows).tolist(),
        old=[-1.0] * 10,
    )
    now = torch.full((10,), -1.0, dtype=torch.float64, requires_grad=True)
    PolicyGradient()(read_of(now), batch)[0].backward()
    # Weights are 1/8, 1/16, 1/4 and 1/12 (2, 4, 1 and 3 tokens).
    by_hand = [-3 / 8, -1 / 8, 4 / 16, 0, 0, 0, -1 / 4, 3 / 12, 3 / 12, 3 / 12]
    assert now.grad is not None
    assert now.grad.tolist() == pytest.approx(by_hand, abs=1e-12)
    even = to_rows(TWO_GROUPS, settings(), max_tokens=8)
    for row, plain in zip(rows, even, strict=True):  # what a sample's tokens pull in all is as before
        of_row, of_plain = (_advantages([some]).sum() * some.weight for some in (row, plain))
        assert float(of_row) == pytest.approx(float(of_plain))
