"""What a policy is for, with each family: preferences, rounds, a critic, a learned reward, soup, transcripts, bench.

`doctor --parity` is in `test_engine.py`: it is about vLLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from benchmarks.families.policies import LONGEST_PX, TEXTS, two_pages
from ocr_rl import config
from ocr_rl.cli import main
from ocr_rl.contract import Page, Score, Transcript
from ocr_rl.evaluate.candidates import PolicyCandidate
from ocr_rl.learn.algos.best_of_n import best_of_n
from ocr_rl.learn.algos.dpo import dpo
from ocr_rl.learn.algos.ppo import ppo
from ocr_rl.learn.algos.reward_model import reward_model
from ocr_rl.learn.algos.setting import PpoSetting, SamplingSetting
from ocr_rl.learn.learned_reward import LearnedReward, RewardLearner
from ocr_rl.learn.learner import Learner, update_together
from ocr_rl.learn.network import Reads
from ocr_rl.learn.soup import average
from ocr_rl.learn.step import Step
from ocr_rl.models.family import Family
from ocr_rl.models.load import load_model
from ocr_rl.models.settings import PromptSettings
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Origin, Prompter
from ocr_rl.rollout.sampler.hf import HfSampler
from ocr_rl.rollout.scoring import WeightedReward, score
from tests.fakes import FakeSampler
from tests.learn.conftest import NLL, loud_head

SETTINGS = PromptSettings(longest_px=LONGEST_PX, instruction="Read.", max_prompt_tokens=200, max_tokens=4)
READS = "Hi!"  # what the taught policy writes
SAMPLES = {"pages_per_step": 2, "samples_per_page": 4, "pages": {"synth": "nano"}}


@pytest.fixture(scope="module")
def origin(folder: Path, prompter: Prompter) -> Origin:
    return Origin(path=str(folder), settings=SETTINGS, prompter=prompter)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Page]:
    return two_pages(tmp_path_factory.mktemp("two"))


def opened(origin: Origin, kind: type[Learner] = Learner, *, lr: float = 3e-4, **more: Any) -> Any:
    optim = config.Optim(lr=lr, micro_tokens=4096)
    return kind(origin, config.Policy(path=origin.path), optim, steps=100, reference=False, **more)


def odd(page: Page, group: Sequence[Transcript]) -> list[Score]:
    """A reward that tells nearly any two texts apart: random policies write no better and no worse ones."""
    return [Score(value=sum(map(ord, transcript.raw)) % 101 / 101) for transcript in group]


@pytest.fixture
def setting(origin: Origin, pages: list[Page], tmp_path: Path) -> SamplingSetting:
    """Its samples are scripted: those that a random policy writes do not end, and are no pairs."""
    return SamplingSetting(
        seed=0,
        learner=opened(origin),
        open_pages=lambda source: pages,
        folder=tmp_path,
        pages=pages,
        sampler=FakeSampler(origin.prompter, lambda page, k: TEXTS[k] * page.number),
        score=lambda groups: list(score(groups, [WeightedReward(name="odd", reward=odd)])),
        sampling=config.Sampling(temperature=1.0, max_tokens=64),
    )


def learnt(learner: Learner, step: Step) -> dict[str, float]:
    return learner.update(step.rows, step.loss)


def sums(learner: Learner, rows: Sequence[Row]) -> list[float]:
    return [sum(logprobs) for logprobs in learner.logprobs(rows)]


def test_dpo_prefers_what_was_chosen_and_draws_anew_with_what_it_has_learnt(setting: SamplingSetting) -> None:
    cfg = config.Dpo.model_validate({**SAMPLES, "steps": 2, "rounds": 2, "pages_per_round": 2})
    learner, margins = setting.learner, []
    for number, step in enumerate(dpo(cfg, setting, {})):
        assert setting.sampler.policy == number
        assert [sum(row.ref_logprobs or ()) for row in step.rows] == pytest.approx(sums(learner, step.rows), abs=1e-4)
        before, _ = sums(learner, step.rows), learnt(learner, step)
        moved = [after - then for after, then in zip(sums(learner, step.rows), before, strict=True)]
        margins.append(sum(moved[0::2]) - sum(moved[1::2]))
    assert len(margins) == 2 and min(margins) > 0.01


def test_best_of_n_makes_the_best_likelier(setting: SamplingSetting) -> None:
    cfg = config.BestOfN.model_validate({**SAMPLES, "steps": 1, "pages_per_round": 2})
    step = next(best_of_n(cfg, setting, {}))
    before, _ = sums(setting.learner, step.rows), learnt(setting.learner, step)
    assert fmean(sums(setting.learner, step.rows)) > fmean(before) + 0.01


def plain_numbers(learner: Learner, row: Row) -> tuple[list[float], float]:
    """(value before each token, score at the last one) off transformers' own hidden states of one row, unpacked."""
    prompter = learner.prompter
    ids = torch.tensor([[*row.prompt.expanded_ids, *row.completion_ids]])
    pixels, sizes = map(torch.from_numpy, prompter.pixels([prompter.image(row.prompt)]))
    inputs = prompter.family.generate_inputs(pixels, sizes, ids == prompter.image_id, 1)
    model: Any = load_model(learner.origin.path).eval()
    assert learner.head is not None
    with torch.no_grad():
        hidden_XD = model.model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).last_hidden_state[0]
        numbers = learner.head(hidden_XD).tolist()
    n = len(row.completion_ids)
    return numbers[-n - 1 : -1], numbers[-1]


def test_a_head_reads_where_a_plain_model_has_its_hidden_states(
    origin: Origin, family: Family, rows: list[Row]
) -> None:
    learner = loud_head(opened(origin, reads=Reads.SCALARS))
    row = rows[-3]  # neither first nor last of its page
    values, score = plain_numbers(learner, row)
    assert learner.values(rows)[-3] == pytest.approx(values, abs=10 * family.rounding)
    assert learner.scores(rows)[-3] == pytest.approx(score, abs=10 * family.rounding)
    assert abs(score - values[-1]) > 1e-3  # one place off would be seen


@pytest.mark.parametrize("kind", ["model", "head"])
def test_ppo_moves_policy_and_critic(setting: SamplingSetting, origin: Origin, kind: str) -> None:
    cfg = config.Ppo.model_validate({**SAMPLES, "steps": 1, "critic": {"kind": kind}})
    short = replace(setting, sampling=config.Sampling(temperature=1.0, max_tokens=6))
    learner, critic = with_critic(origin, kind)
    own = {"learner": learner, "sampler": HfSampler(origin.path, origin.prompter)}
    shared = {name: getattr(short, name) for name in short.__dataclass_fields__} | own
    step = next(ppo(cfg, PpoSetting(**shared, critic=critic), {}))
    before, wrong = [held(one) for one in (learner, critic)], squares(critic, step.rows)
    moves: list[Any] = [(learner, step.rows, step.loss)]
    update_together(moves if kind == "head" else [*moves, (critic, step.rows, step.critic_loss)])
    assert squares(critic, step.rows) < wrong
    for one, start in zip((learner, critic), before, strict=True):
        moved = {name for name, weight in held(one).items() if not weight.equal(start[name])}
        unread = {"lm_head.weight"} if kind == "model" and one is critic else set()
        assert moved == set(start) - unread


def with_critic(origin: Origin, kind: str) -> tuple[Learner, Learner]:
    """A policy and its critic; with a head they are one learner. After a longer step loud weights are far away."""
    own = partial(opened, origin, lr=1e-6)
    if kind == "model":
        return own(), loud_head(own(name="critic", reads=Reads.SCALARS))
    learner = loud_head(own(reads=Reads.WORDS | Reads.SCALARS))
    return learner, learner


def held(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in learner.masters.by_name.items()}


def squares(critic: Learner, rows: Sequence[Row]) -> float:
    """Of what is missing between its values and the returns."""
    both = zip(critic.values(rows), rows, strict=True)
    return fmean((v - r) ** 2 for values, row in both for v, r in zip(values, row.returns or (), strict=True))


def test_a_reward_model_learns_pairs_and_its_folder_gives_the_same_scores(
    setting: SamplingSetting, origin: Origin, tmp_path: Path
) -> None:
    cfg = config.RewardModel.model_validate({**SAMPLES, "steps": 3, "pages_per_round": 2, "held_out": 0.4})
    learner = opened(origin, RewardLearner, reads=Reads.SCALARS)
    for step in reward_model(cfg, replace(setting, learner=learner), {}):
        learnt(learner, step)
    scores = learner.scores(step.rows)
    assert len(scores) == 2 and scores[0] > scores[1] + 0.01  # what was chosen, what was not
    learner.centred_on(scores)
    learner.save(tmp_path / "reward")
    reward = LearnedReward(replace(origin, path=str(tmp_path / "reward")), config.Policy(path="x"), micro_tokens=4096)
    (page,) = [page for page in setting.pages if page.id == step.rows[0].prompt.page_id]
    group = [as_transcript(origin.prompter.decode(row.completion_ids)) for row in step.rows]
    again = [score.parts["score"] + fmean(scores) for score in reward(page, group)]
    assert again == pytest.approx(scores, abs=1e-4)


def as_transcript(text: str) -> Transcript:
    return Transcript(raw=text, body=text, finish="stop", num_tokens=len(text) + 1)


# --- a policy in use --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught(origin: Origin, pages: list[Page], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved policy that has learnt to write READS."""
    learner, prompter = opened(origin), origin.prompter
    ids = (*prompter.encode(READS), prompter.eos_id)
    shared = {"completion_ids": ids, "temperature": 1.0, "banned_ids": prompter.banned_ids}
    rows = [
        Row(prompt=prompter.prompt(page), group_id=i, weight=0.5 / len(ids), **shared) for i, page in enumerate(pages)
    ]
    for update in range(1, 41):
        learner.update(rows, NLL)
        if update % 4 == 0 and min(min(logprobs) for logprobs in learner.logprobs(rows)) > -0.3:
            break
    learner.save(folder := tmp_path_factory.mktemp("taught") / "model")
    return folder


def test_soup_is_the_mean_of_every_weight(taught: Path, origin: Origin, tmp_path: Path) -> None:
    start = tmp_path / "start"
    opened(origin).save(start)
    average([str(start), str(taught)], tmp_path / "soup")
    mean, *parts = (load_model(str(path)).state_dict() for path in (tmp_path / "soup", start, taught))
    for name, weight in mean.items():
        torch.testing.assert_close(weight, (parts[0][name] + parts[1][name]) / 2, rtol=1e-6, atol=1e-7, msg=name)
        assert not weight.equal(parts[0][name])


def test_transcribe_writes_what_it_was_taught_and_bench_is_given_it(
    taught: Path, pages: list[Page], tmp_path: Path
) -> None:
    with_policy = ["--model", str(taught), "--backend", "transformers"]
    assert main(["transcribe", str(pages[0].pdf), *with_policy, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "two.md").read_text(encoding="utf-8").split() == [READS, READS]
    candidate = PolicyCandidate(name="taught", model=str(taught), sampler="transformers", repeats=1, temperature=0.0)
    answers = list(candidate.answers({1: pages[:1]}))
    assert [answer.attempts[-1].transcript.body for answer in answers] == [READS]
