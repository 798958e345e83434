"""Two processes against one for each family, and a learner gone on with: how far apart weights are in the end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from benchmarks.families.policies import learner_of, origin_of, rows_of
from benchmarks.speed.serving import free_port
from ocr_rl.contract import Page
from ocr_rl.learn import ranks
from ocr_rl.learn.learner import Learner
from ocr_rl.objectives.losses import NegativeLogLikelihood
from ocr_rl.rollout.flow import Row

NLL = NegativeLogLikelihood()
SAMPLES = (3, 1)  # of the two pages: ranks have unequal shares
Named = dict[str, Tensor]


def opened(folder: Path) -> Learner:
    return learner_of(origin_of(folder), max_grad_norm=1.0, micro_tokens=128)


def rows_at(learner: Learner, pages: Sequence[Page]) -> list[Row]:
    rows = rows_of(pages, learner.prompter, samples=max(SAMPLES))
    return [row for i, row in enumerate(rows) if i % max(SAMPLES) < SAMPLES[row.group_id]]


def whole(learner: Learner) -> Named:
    return {name: weight.detach().clone() for name, weight in learner.all_weights()}


def trained(learner: Learner, rows: Sequence[Row], updates: int) -> Named:
    for _ in range(updates):
        learner.update(rows, NLL)
    return whole(learner)


def apart(weights: Named, other: Named, start: Named) -> float:
    """Norm of the difference of two ends over the norm of the change from the start."""
    norm = lambda values: sum(float(value.double().square().sum()) for value in values) ** 0.5
    return norm(weights[name] - other[name] for name in other) / norm(other[name] - start[name] for name in other)


def two_ranks(folders: Sequence[Path], pages: Sequence[Page], scratch: Path, updates: int = 2) -> list[float]:
    """For each policy: how far two processes end from one."""
    spawn(_process, (free_port(), list(folders), list(pages), scratch, updates), nprocs=2)
    results: list[Named] = torch.load(scratch / "two.pt")
    gaps = []
    for folder, result in zip(folders, results, strict=True):
        learner = opened(folder)
        start = whole(learner)
        gaps.append(apart(result, trained(learner, rows_at(learner, pages), updates), start))
    return gaps


def _process(rank: int, port: int, folders: list[Path], pages: list[Page], scratch: Path, updates: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    results = []
    with ranks.group() as first:
        for folder in folders:
            if first:
                ranks.tell("", "open", folder)
                learner = opened(folder)
                results.append(trained(learner, rows_at(learner, pages), updates))
                ranks._send(None)
            else:
                ranks.follow(opened)
        if first:
            torch.save(results, scratch / "two.pt")
        else:
            ranks.follow(opened)


def gone_on_with(folder: Path, pages: Sequence[Page], scratch: Path) -> bool:
    """Whether two updates, saved, and one more by another learner give the bits of three in a row."""
    learner = opened(folder)
    rows: Any = rows_at(learner, pages)
    trained(learner, rows, 2)
    learner.save_state(scratch / "state.pt")
    expected = trained(learner, rows, 1)
    again = opened(folder)
    again.load_state(scratch / "state.pt")
    got = trained(again, rows, 1)
    return all(torch.equal(got[name], weight) for name, weight in expected.items())
