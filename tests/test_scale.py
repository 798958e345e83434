"""The model of a step by hand-worked numbers, against the code that it models, and its advice."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ocr_rl.scale.advice import GIB, Room, advise, splits_of
from ocr_rl.scale.load import Bytes, Load, busy_of, lengths_between, occupancy, of_an_engine, spread
from ocr_rl.scale.parts import PART_NAMES, Figure, Parts
from ocr_rl.scale.step import STAGES, Split, decode_s, plan_step

ALONE, PAIRS = Split(learners=1), Split(learners=2, engines=2)
BYTES = Bytes(sent=300, saved=1000, weights=1000, gradients=500)
LOAD = Load(
    pages=4,
    learnt=4,
    samples=2,
    lengths=(10,),
    prompt_tokens=Figure(100, "hand"),
    rows=8,
    micro_tokens=10_000,
    passes=1,
    workers=2,
    save_every=10,
    bytes=BYTES,
)


def parts(**figures: float) -> Parts:
    return Parts(**{name: Figure(value, "hand") for name, value in figures.items()})


HAND: dict[str, float] = {
    "decode_step_s": 0.1,
    "decode_row_s": 0.01,
    "decode_rows": 8,
    "prefill_page_s": 0.5,
    "draw_page_s": 0.25,
    "score_sample_s": 0.2,
    "update_page_s": 1.0,
    "update_tokens_per_s": 20,
    "annotate_tokens_per_s": 40,
    "sync_s": 0.5,
    "checkpoint_bytes_per_s": 100,
    "gather_bytes_per_s": 1e9,
}


def test_samples_are_begun_one_after_the_other() -> None:
    # 5 and 3 begin; at 3 the next of 2, which ends with the first at 5; then 4 alone.
    assert occupancy([5, 3, 2, 4], 2) == [(3, 2), (2, 2), (4, 1)]
    assert occupancy([5, 3], 8) == [(3, 2), (2, 1)]
    assert occupancy([], 8) == []


def test_a_decoding_step_grows_with_its_rows_and_above_the_measured_ones_in_proportion() -> None:
    busy = [(3, 2), (2, 2), (4, 1)]
    assert decode_s(parts(decode_step_s=0.1, decode_row_s=0.01), busy) == pytest.approx(5 * 0.12 + 4 * 0.11)
    assert decode_s(parts(decode_step_s=0.1, decode_rows=1), busy) == pytest.approx(5 * 0.2 + 4 * 0.1)
    assert decode_s(Parts(), busy) is None


def test_one_card_does_one_after_the_other() -> None:
    plan = plan_step(LOAD, parts(**HAND), ALONE, ahead=True)  # which one card cannot
    assert {name: plan.stages[name].seconds for name in STAGES} == pytest.approx(
        {
            "load": 0.5,
            "sample": 4 * 0.25 + 4 * 0.5 + 10 * (0.1 + 8 * 0.01),
            "score": 8 * 0.2 / 2,
            "reference": 4 * (100 / 40 + 20 / 40),  # a page's seconds are not measured: its prompt counts by tokens
            "update": 4 * (1.0 + 20 / 20),
            "save": 1000 / 100 / 10,
        }
    )
    assert plan.step_s == pytest.approx(0.5 + 4.8 + 0.8 + 12 + 8 + 1)
    assert plan.learners_wait == pytest.approx(1 - 20 / 27.1)
    assert (plan.lacks, plan.ahead, plan.limit) == ((), False, "reference")


def test_two_sides_work_at_once_and_the_longer_one_counts() -> None:
    plan = plan_step(LOAD, parts(**HAND), PAIRS, ahead=True)
    assert plan.sampling_s == pytest.approx(4 * 0.25 + 2 * 0.5 + 10 * 0.14 + 0.8)
    assert plan.learning_s == pytest.approx(2 * 3 + 2 * 2)
    assert plan.step_s == pytest.approx(0.5 + 10 + 1)
    assert plan.engines_wait == pytest.approx(1 - 3.4 / 11.5)
    assert plan.limit == "learning"
    assert plan_step(LOAD, parts(**HAND), PAIRS).step_s == pytest.approx(0.5 + 4.2 + 10 + 1)


def test_pages_are_whole_so_some_cards_wait() -> None:
    plan = plan_step(LOAD, parts(**HAND), Split(learners=3, engines=1))
    assert (plan.busiest, plan.even) == (2, pytest.approx(2 / 3))
    assert plan.stages["update"].seconds == pytest.approx(2 * 2)


def test_weights_travel_beside_the_arithmetic_and_the_longer_one_counts() -> None:
    slow = parts(**{**HAND, "gather_bytes_per_s": 100})
    plan = plan_step(LOAD, slow, PAIRS)
    assert plan.stages["update"].seconds == pytest.approx(2500 / 2 / 100)  # twice the weights, and gradients
    assert plan.stages["reference"].seconds == pytest.approx(6)  # 5 s of travelling
    together = replace(slow, learners=Figure(2, "hand"))  # measured on two cards: it is in the rate
    assert plan_step(LOAD, together, PAIRS).stages["update"].seconds == pytest.approx(4)


def test_weights_by_bytes_where_nobody_measured_their_seconds() -> None:
    known = {name: value for name, value in HAND.items() if name != "sync_s"}
    assert plan_step(LOAD, parts(**known, transfer_bytes_per_s=150), ALONE).stages["load"].seconds == 2


@pytest.mark.parametrize("name", [name for name in HAND if name != "update_page_s"])
def test_what_is_not_measured_is_said_and_never_made_up(name: str) -> None:
    known = parts(**{key: value for key, value in HAND.items() if key != name})
    plan, whole = plan_step(LOAD, known, PAIRS), plan_step(LOAD, parts(**HAND), PAIRS)
    assert plan.lacks == ({"sync_s": "transfer_bytes_per_s"}.get(name, name),)
    assert plan.step_s <= whole.step_s


def test_without_parts_nothing_has_seconds() -> None:
    plan = plan_step(LOAD, Parts(), PAIRS)
    assert all(stage.seconds is None for stage in plan.stages.values())
    assert (plan.step_s, plan.limit, plan.learners_wait) == (0, "not measured", None)
    nothing = plan_step(replace(LOAD, lengths=(), prompt_tokens=None), parts(**HAND), PAIRS)
    assert {"mean_tokens", "prompt_tokens"} <= set(nothing.lacks)
    assert set(PART_NAMES) >= set(plan.lacks)


def test_the_busiest_engine_has_the_longest_sample() -> None:
    load = replace(LOAD, lengths=tuple(lengths_between(10, 80, 8)))
    assert sorted(load.lengths) == [1] * 7 + [80] and sum(lengths_between(20, 62, 4)) == 80
    assert max(of_an_engine(load, 2)) == 80 and len(of_an_engine(load, 2)) == 4
    assert spread([1, 2, 3, 4], 2) == [3, 1] and spread([], 3) == []


def test_a_batch_of_transformers_ends_with_its_longest_sample() -> None:
    load = replace(LOAD, pages=3, samples=32, lengths=(5, 7), rows=256, continuous=False)
    assert busy_of(load, 3) == [(7, 64), (7, 32)]


def test_memory_limits_what_is_written_side_by_side() -> None:
    assert [rows for _, rows in busy_of(LOAD, 4, room=3)] == [3, 3, 2]
    assert plan_step(LOAD, parts(**HAND), PAIRS, room=3).waves == 2


def rows_of(groups: int, samples: int, prompt: int, length: int) -> list[Any]:
    """As much of rows as dealing and cutting them reads."""
    asked = SimpleNamespace(expanded_ids=(0,) * prompt)
    return [
        SimpleNamespace(group_id=g, prompt=asked, completion_ids=(0,) * length)
        for g in range(groups)
        for _ in range(samples)
    ]


def test_the_learner_deals_and_cuts_as_the_model_says() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from ocr_rl.learn.ranks import deal
    from ocr_rl.learn.rows import micro_batches

    shares = deal(rows_of(7, 2, 100, 10), 6)
    seven = replace(LOAD, pages=7, learnt=7)
    plan = plan_step(seven, parts(**HAND), Split(learners=6, engines=1))
    assert max(len({row.group_id for row in share}) for share in shares) == plan.busiest == 2
    for budget in (1000, 180, 150, 110, 50):
        load = replace(LOAD, samples=8, micro_tokens=budget)
        batches = micro_batches(rows_of(1, 8, 100, 10), budget)
        assert sum(map(len, batches)) == load.views, budget


def test_splits_that_are_worth_a_look() -> None:
    assert splits_of(1) == [ALONE]
    assert [str(split) for split in splits_of(8)] == ["7 + 1", "6 + 2", "5 + 3", "4 + 4", "3 + 5", "2 + 6"]
    assert [str(split) for split in splits_of(2)] == ["1 + 1"]


ROOM = Room(learner=10 * GIB, engine=10 * GIB, sample=GIB, card=80 * GIB)
LONG = replace(LOAD, lengths=(1, 1, 1, 1, 1, 1, 1, 400))


@pytest.mark.parametrize(
    ("words", "load", "figures", "split", "ahead", "room"),
    [
        ("A learner card needs 90 GiB of 80 GiB: less.", LOAD, {}, PAIRS, False, {"learner": 90 * GIB}),
        ("An engine's weights alone are 75 GiB of 80 GiB", LOAD, {}, PAIRS, False, {"engine": 75 * GIB}),
        ("(ahead = 1) makes 11.5 s of 15.7 s.", LOAD, {}, PAIRS, False, {}),
        ("one card more for the engines (2 + 2)", LOAD, {"prefill_page_s": 9}, Split(learners=3, engines=1), True, {}),
        ("one card more for the learner (2 + 2)", LOAD, {}, Split(learners=1, engines=3), True, {}),
        ("4 pages on 3 learner cards: the busiest has 2, so 33%", LOAD, {}, Split(learners=3, engines=1), False, {}),
        (
            "of 4: use more engines, or shorter samples (sampling.max_tokens, sampling.page_limit)",
            LOAD,
            {},
            PAIRS,
            False,
            {"sample": 20 * GIB},
        ),
        (
            "writes 4 samples in 2 waves of 3: raise sampling.max_num_seqs to 4, there is room for 62.",
            replace(LOAD, rows=3),
            {},
            PAIRS,
            False,
            {},
        ),
        ("by what it says (sampling.page_limit = 2), or let", LONG, {}, PAIRS, False, {}),
        ("Lower sampling.max_tokens, or end each page's samples by what it says (sam", LONG, {}, PAIRS, True, {}),
        ("or sampling.page_limit (1.5).", replace(LONG, page_limit=1.5), {}, PAIRS, True, {}),
        (
            "a page is computed 2 times a pass: raise optim.micro_tokens to 120",
            replace(LOAD, micro_tokens=119),
            {},
            PAIRS,
            False,
            {},
        ),
        ("Handing over the weights takes 9.0 s of 24.2 s", LOAD, {"sync_s": 9}, PAIRS, False, {}),
        ("Rewards take 12.0 s of 26.9 s with 2 workers", LOAD, {"score_sample_s": 3}, PAIRS, False, {}),
        ("save less often than every 10 steps", LOAD, {"checkpoint_bytes_per_s": 10}, PAIRS, False, {}),
    ],
)
def test_each_sentence_of_advice(words: str, load: Load, figures: dict, split: Split, ahead: bool, room: dict) -> None:
    changed = parts(**{**HAND, **figures})
    here = replace(ROOM, ways=("less",), **room)
    plan = plan_step(load, changed, split, ahead=ahead, room=here.samples)
    sentences = advise(load, changed, plan, here)
    assert any(words in sentence for sentence in sentences), sentences


def test_there_is_nothing_to_say_of_a_step_that_is_even() -> None:
    figures = {**HAND, "sync_s": 0.01, "checkpoint_bytes_per_s": 1e6, "score_sample_s": 0.01, "prefill_page_s": 3}
    changed = parts(**figures)
    plan = plan_step(LOAD, changed, PAIRS, ahead=True)
    assert advise(LOAD, changed, plan, ROOM) == []
    assert advise(LOAD, changed, plan) == []


def test_where_nobody_says_how_large_a_card_is_everything_fits() -> None:
    room = replace(ROOM, card=None, learner=1000 * GIB)
    assert room.fits and room.samples is None
    assert not replace(room, card=80 * GIB).fits
