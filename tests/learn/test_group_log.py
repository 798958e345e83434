"""What the log keeps of a rollout's samples: every score, and of each token what sampler and learner made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl import config
from ocr_rl.learn.algos.grpo import grpo
from ocr_rl.learn.fit import Plan, fit
from ocr_rl.learn.heard import Listening
from ocr_rl.learn.learner import Learner
from ocr_rl.objectives.losses import PolicyGradient
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.token_trace import TokenTrace, unpack
from ocr_rl.run import Run
from tests.fakes import LOGPROB, FakeSampler
from tests.learn.conftest import MakeLearner, sampling_setting, weights
from tests.learn.test_grpo import settings

TEMPERATURE = 0.7  # of `sampling_setting`
TEXTS = ("b", "hé!")  # below the eight tokens where samples are cut off here


def logged(tiny_pages, prompter, learner: Learner, folder: Path, **changes) -> list[dict]:
    """The groups of one rollout's log."""
    sampler = FakeSampler(prompter, lambda page, k: TEXTS[k])
    steps = grpo(settings(**changes), sampling_setting(tiny_pages, sampler, learner), {})
    unwatched = config.Tripwires(gap=config.Tripwire(above=1e9))  # the fake sampler's log-probabilities are made up
    plan = Plan(total=changes["steps"], save_every=9, keep=1, tripwires=unwatched)
    fit(lambda state: steps, learner, Run(folder), plan)
    (path,) = (folder / "groups").glob("*.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def traces(group: dict) -> list[TokenTrace]:
    read = [unpack(sample["trace"]) for sample in group["samples"]]
    assert all(trace is not None for trace in read)
    return [trace for trace in read if trace is not None]


def test_scores_and_tokens_of_all_samples(tiny_pages, prompter, make_learner: MakeLearner, tmp_path: Path) -> None:
    (group,) = logged(tiny_pages, prompter, make_learner(), tmp_path, steps=1, pages_per_step=1)
    assert group["rewards"] == group["scores"]["longer"]["values"]
    assert group["advantages"][0] < 0 < group["advantages"][1]
    for trace, text, sample in zip(traces(group), TEXTS, group["samples"], strict=True):
        assert sum(trace.lengths) == len(text) and len(trace.lengths) == sample["tokens"]
        assert trace.sampler == pytest.approx((LOGPROB,) * sample["tokens"])
        assert trace.entropy is not None and max(trace.entropy) > 0


@pytest.mark.parametrize("minibatches", [1, 2])
def test_the_gap_is_that_of_the_learner_that_the_samples_were_drawn_from(
    tiny_pages, prompter, make_learner: MakeLearner, tmp_path: Path, minibatches: int
) -> None:
    before = make_learner()
    many = {"steps": minibatches, "minibatches": minibatches, "pages_per_step": 2}
    groups = logged(tiny_pages, prompter, make_learner(lr=0.1), tmp_path, **many)
    pages = {page.id: page for page in tiny_pages}
    for group in groups:
        for trace, text in zip(traces(group), TEXTS, strict=True):
            ids = (*prompter.encode(text), prompter.eos_id)
            prompt = prompter.prompt(pages[group["page"]])
            as_sampled = {"temperature": TEMPERATURE, "banned_ids": prompter.banned_ids}
            row = Row(prompt=prompt, completion_ids=ids, group_id=0, weight=1.0, **as_sampled)
            (true,) = before.logprobs([row])
            assert trace.gap is not None
            assert trace.gap == pytest.approx([logprob - LOGPROB for logprob in true], rel=0.07, abs=1e-6)


def test_listening_changes_no_bit_of_an_update(rows, make_learner: MakeLearner) -> None:
    own = [(float(k - 2), (LOGPROB,) * len(row.completion_ids)) for k, row in enumerate(rows)]
    sampled = [
        replace(row, advantage=gain, sampler_logprobs=logprobs) for row, (gain, logprobs) in zip(rows, own, strict=True)
    ]
    loss = PolicyGradient(surrogate="clip", epsilon=0.2, epsilon_high=0.2, beta=0.0)
    plain, heard = make_learner(), make_learner()
    listening = Listening(loss)
    figures = [learner.update(sampled, of) for learner, of in ((plain, loss), (heard, listening))]
    assert figures[0] | {"update_s": 0} == figures[1] | {"update_s": 0}
    assert all((a == b).all() for a, b in zip(weights(plain).values(), weights(heard).values(), strict=True))
    assert len(listening.kept) == len(rows)
