"""Packing by hand: what stands where, who sees whom, and how groups are cut into micro-batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from ocr_rl.learn.rows import collate, micro_batches, packed_length
from ocr_rl.pages.raster import ImageRef
from ocr_rl.rollout.flow import Prompt, Row


def row(group_id: int, completion: tuple[int, ...], prompt: tuple[int, ...] = (7, 8), **more) -> Row:
    ref = ImageRef(pdf=Path(f"{group_id}.pdf"), number=1)
    asked = Prompt(page_id=f"{group_id}:p1", image=ref, token_ids=prompt, expanded_ids=prompt)
    return Row(prompt=asked, completion_ids=completion, group_id=group_id, weight=1.0, **more)


def packed(*groups: list[Row]):
    pixels = torch.zeros(len(groups), 4), torch.tensor([[1, 2, 2]] * len(groups))
    # M-RoPE gives an image's patches small positions, so the largest is not the prompt's length - 1.
    positions = lambda row, grid: torch.tensor([[0, 5]] * 3)[:, : len(row.prompt.expanded_ids)]
    return collate(groups, pixels, positions)


def test_a_group_is_its_prompt_and_then_its_completions() -> None:
    batch = packed([row(0, (1, 2)), row(0, (3,))])
    assert batch.input_ids_1X.tolist() == [[7, 8, 1, 2, 3]]
    # Every completion goes on from the prompt's largest position, 5.
    assert batch.position_ids_31X.tolist() == [[[0, 5, 6, 7, 6]]] * 3
    # The first token of a completion is predicted at the prompt's end, index 1; 2 is predicted where 1 stands.
    assert batch.source_N.tolist() == [1, 2, 1]
    assert batch.target_N.tolist() == [1, 2, 3]
    assert batch.row_N.tolist() == [0, 0, 1]


def test_groups_stand_one_after_the_other_without_padding() -> None:
    batch = packed([row(0, (1, 2))], [row(1, (3,), advantage=-2.0)])
    assert batch.input_ids_1X.tolist() == [[7, 8, 1, 2, 7, 8, 3]]
    assert batch.position_ids_31X.tolist() == [[[0, 5, 6, 7, 0, 5, 6]]] * 3
    assert batch.source_N.tolist() == [1, 2, 5]
    assert batch.row_N.tolist() == [0, 0, 1]
    assert batch.advantage_N.tolist() == [0.0, 0.0, -2.0]


def test_per_token_values_are_there_only_if_every_row_has_them() -> None:
    both = [row(0, (1, 2), old_logprobs=(-1.0, -2.0)), row(0, (3,), old_logprobs=(-3.0,))]
    assert packed(both).old_N.tolist() == [-1.0, -2.0, -3.0]
    assert packed([both[0], replace(both[1], old_logprobs=None)]).old_N is None
    assert packed(both).ref_N is None


def test_rows_of_a_group_with_different_prompts_are_refused() -> None:
    with pytest.raises(AssertionError, match="share their prompt"):
        packed([row(0, (1,)), row(0, (1,), prompt=(9, 9))])


# --- micro-batches ----------------------------------------------------------------------------------------------------

ROWS = [row(group, (1,) * length) for group, lengths in enumerate([(3, 4), (10,), (1, 1, 1)]) for length in lengths]


def flat(batches) -> list[Row]:
    return [one for batch in batches for part in batch for one in part]


@pytest.mark.parametrize("budget", [1, 8, 9, 12, 24, 1000])
def test_every_row_is_computed_once_within_the_budget(budget: int) -> None:
    batches = micro_batches(ROWS, budget)
    assert sorted(map(id, flat(batches))) == sorted(map(id, ROWS))
    for batch in batches:
        assert sum(map(packed_length, batch)) <= budget or len(flat([batch])) == 1  # one row is not cut
        for part in batch:
            assert len({one.group_id for one in part}) == 1


def test_a_group_stays_together_where_it_fits() -> None:
    # Lengths with the prompt of 2: 9, 12 and 5. Sorted: 5, 9, 12.
    length = lambda part: [len(one.completion_ids) for one in part]
    sizes = lambda budget: [[length(part) for part in batch] for batch in micro_batches(ROWS, budget)]
    assert sizes(1000) == [[[1, 1, 1], [3, 4], [10]]]
    assert sizes(25) == [[[1, 1, 1], [3, 4]], [[10]]]  # 5 + 9 fit, 5 + 9 + 12 do not
    assert sizes(12) == [[[1, 1, 1]], [[3, 4]], [[10]]]
    assert sizes(8) == [[[3]], [[1, 1, 1]], [[4]], [[10]]]  # (3, 4) needs 9: cut, each with the prompt again
