"""Features of a frozen tower: kept where it says the same for good, and to the bit what it says each time."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from PIL import Image
from torch import nn

from ocr_rl.learn.features import Features, KeptFeatures, joined, stands_still
from ocr_rl.learn.learner import Learner
from ocr_rl.objectives.losses import PolicyGradient
from ocr_rl.pages.raster import ImageRef
from ocr_rl.rollout.flow import Row
from tests.learn.conftest import NLL, MakeLearner, largest_gap, weights

FROZEN = {"freeze_vision": True}


def count_reads(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the tower is about, from now on."""
    counts: list[int] = []
    see = learner.network.see
    monkeypatch.setattr(learner.network, "see", lambda pixels, sizes: counts.append(len(sizes)) or see(pixels, sizes))
    return counts


def step(learner: Learner, rows: list[Row]) -> None:
    learner.update(learner.annotate(rows, old=True, reference=True), PolicyGradient(beta=0.1))


@pytest.mark.parametrize(
    ("policy", "keeps"),
    [
        (FROZEN, True),
        ({"lora_rank": 2, **FROZEN}, True),
        ({"lora_rank": 2, "lora_vision": False}, True),
        ({"lora_rank": 2}, False),  # adapters sit in the tower
        ({}, False),
    ],
)
def test_features_are_kept_where_the_tower_does_not_learn(make_learner: MakeLearner, policy: dict, keeps: bool) -> None:
    assert (make_learner(policy=policy).features is not None) == keeps


def test_a_part_that_drops_out_or_has_adapters_does_not_stand_still() -> None:
    part = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)).requires_grad_(False)
    assert stands_still([part])
    part[1].p = 0.1
    assert not stands_still([part])
    part[1].p = 0.0
    part[0].attention_dropout = 0.1  # type: ignore[assignment]
    assert not stands_still([part])
    del part[0].attention_dropout
    part[0].register_parameter("lora_A", nn.Parameter(torch.zeros(1), requires_grad=False))  # of who learns later
    assert not stands_still([part])


def test_the_tower_reads_a_page_once_whatever_passes_come(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner(policy=FROZEN, reference=True, micro_tokens=1)  # each row alone
    counts = count_reads(learner, monkeypatch)
    for _ in range(2):
        step(learner, rows[::2])
    assert counts == [1, 1]


@pytest.mark.parametrize("policy", [FROZEN, {"autocast": True, "lora_rank": 2, **FROZEN}], ids=["weights", "adapters"])
def test_kept_features_are_those_of_each_time_to_the_bit(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch, policy: dict
) -> None:
    answers = []
    for limit in (2**30, 0):
        learner = make_learner(policy=policy, reference=True)
        learner.features = KeptFeatures(limit)
        counts = count_reads(learner, monkeypatch)
        step(learner, rows[::2])
        answers.append((learner.logprobs(rows[::2]), weights(learner), len(counts)))
    (kept, after, few), (fresh, other, many) = answers
    assert (few, many) == (2, 2 * (3 + 1))
    assert kept == fresh and all(torch.equal(after[name], other[name]) for name in after)


def test_a_learner_without_them_says_the_same_to_rounding(make_learner: MakeLearner, rows: list[Row]) -> None:
    """It reads the pages of a micro-batch side by side, which may change the last bit."""
    keeping, without = (make_learner(policy=FROZEN, reference=True) for _ in range(2))
    without.features = None
    for learner in (keeping, without):
        step(learner, rows[::2])
    assert largest_gap(keeping.logprobs(rows[::2]), without.logprobs(rows[::2])) < 1e-5
    references = [learner.logprobs(rows[::2], reference=True) for learner in (keeping, without)]
    assert largest_gap(*references) < 1e-5


def test_another_image_is_read_and_not_kept(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner(policy=FROZEN)
    before = learner.logprobs(rows)
    counts = count_reads(learner, monkeypatch)
    blank = lambda prompt: Image.new("RGB", learner.prompter.image(prompt).size, "white")
    assert largest_gap(learner.logprobs(rows, image=blank), before) > 1e-2
    assert counts == [2] and learner.logprobs(rows) == before


def test_a_tower_that_learns_is_read_at_each_pass(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner()
    counts = count_reads(learner, monkeypatch)
    learner.update(rows, NLL)
    learner.logprobs(rows)
    assert sum(counts) == 4


def page(number: int) -> ImageRef:
    return ImageRef(pdf=Path("a.pdf"), number=number)


def features(number: int, layers: int = 1) -> Features:
    """Of 100 bytes."""
    return Features(
        size=torch.tensor([1, 5, 5]), layers=tuple(torch.full((25 // layers, 1), number + 0.0) for _ in range(layers))
    )


def test_memory_is_bounded_and_what_was_not_asked_for_the_longest_goes_first() -> None:
    kept, reads = KeptFeatures(limit=250), []
    for number in (1, 2, 1, 3, 1, 2):  # the third page drives out the second one
        answer = kept.of(page(number), lambda number=number: reads.append(number) or features(number))
        assert answer.layers[0][0, 0] == number and kept.nbytes <= 250
    assert reads == [1, 2, 3, 2]


def test_pages_are_joined_layer_by_layer() -> None:
    layers, sizes = joined([features(1, layers=5), features(2, layers=5)])
    assert len(layers) == 5 and sizes.tolist() == [[1, 5, 5]] * 2
    assert all(layer.tolist() == [[1.0]] * 5 + [[2.0]] * 5 for layer in layers)
