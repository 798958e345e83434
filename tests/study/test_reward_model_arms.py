"""Arms scored by a reward model: which runs follow from them, and what a run of them leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl.config import LEARNED, RewardChoice, RewardModel
from ocr_rl.contract import Page, UserError
from ocr_rl.pages.synth.make import write_dataset
from ocr_rl.study.folder import Folder
from ocr_rl.study.jobs import Job, claim_jobs, jobs_after_choice, main_jobs, reward_model_jobs, tuning_jobs
from ocr_rl.study.plan import Study
from ocr_rl.study.report import write_study
from ocr_rl.study.results import cost_of, read_results
from ocr_rl.study.run import _prepared, _test, _train, peak_memory
from tests.fakes import FakeSampler
from tests.study.by_hand import DRAWN, study_by_hand

# --- plans ------------------------------------------------------------------------------------------------------------


def test_each_seed_has_a_reward_model_and_so_have_trials_and_wrong_labels() -> None:
    study = study_by_hand(claim_seeds=[1])
    jobs = {job.name: job for job in reward_model_jobs(study)}
    flips = {f"reward_model_flip{share}-seed1" for share in (40,)}
    assert set(jobs) == {f"reward_model-seed{seed}" for seed in (*study.tuning_seeds, 0, 1, 2)} | flips
    for job in jobs.values():
        recipe = job.recipe
        assert isinstance(recipe.algorithm, RewardModel) and recipe.seed == job.seed
        assert recipe.algorithm.flip == (int(job.arm[-2:]) / 100 if "flip" in job.arm else 0)
        assert (recipe.rewards, recipe.gates, recipe.evaluation) == (study.rewards, study.gates, None)
    for job in (*tuning_jobs(study), *main_jobs(study, {}), *claim_jobs(study, {})):
        of = job.variation.of if job.variation else job.arm
        if study.arms[of].scored_by == "rewards":
            assert job.scored_by is None and job.recipe.rewards[0].name != LEARNED
        else:
            assert job.scored_by in jobs and jobs[job.scored_by].seed == job.seed
            assert job.recipe.gates == () and [choice.name for choice in job.recipe.rewards] == [LEARNED]
            flip = job.variation.flip if job.variation else 0
            assert jobs[job.scored_by].arm == (f"reward_model_flip{round(100 * flip)}" if flip else "reward_model")
    assert {job.name for job in reward_model_jobs(study_by_hand(variations=False))} & flips == set()


def test_without_such_an_arm_there_is_no_reward_model() -> None:
    study = study_by_hand(arms={arm: {"algorithm": arm} for arm in ("grpo", "dpo")})
    assert reward_model_jobs(study) == []
    names = {job.arm for job in claim_jobs(study, {})}
    assert "grpo_flip40" in names and not {"rlhf_flip40", "ppo_lambda"} & names


@pytest.mark.parametrize(
    ("arms", "wrong"),
    [
        ({"judge": {"algorithm": "reward_model"}}, "arms.judge: a reward model writes nothing"),
        (
            {"reward_model_2": {"algorithm": "grpo"}},
            "arms.reward_model_2: the runs that learn a reward model are called",
        ),
        ({"sft": {"algorithm": "sft", "scored_by": "reward_model"}}, "arms.sft: sft learns from references"),
        ({"rlhf": {"algorithm": "ppo", "scored_by": "reward_model"}}, r"write \[algorithms.reward_model\]"),
        ({"rlhf": {"algorithm": "ppo", "scored_by": "reward"}}, "scored_by"),
    ],
)
def test_arms_that_cannot_be_scored_are_refused(arms: dict, wrong: str) -> None:
    algorithms = {**study_by_hand().algorithms, "sft": {"steps": 1, "pages_per_step": 1}}
    if "rlhf" in arms:
        del algorithms["reward_model"]
    with pytest.raises(ValidationError, match=wrong):
        study_by_hand(arms=arms, algorithms=algorithms)


# --- a run ------------------------------------------------------------------------------------------------------------


def tiny_study(policy: Path, pages: Path) -> Study:
    data = {"dir": str(pages)}
    return Study.model_validate(
        {
            "seeds": [0],
            "pages": data,
            "validation": data,
            "test": data,
            "samples": 2,
            "variations": False,
            "rewards": [{"name": "diff_ratio"}],
            "gates": [{"name": "budget", "at_least": 0.1}],
            "base": {
                "save_every": 2,
                "scoring": {"workers": 1, "audit": False},
                "policy": {"path": str(policy), "longest_px": 112, "instruction": ""},
                "optim": {"lr": 1e-3},
                "sampling": {"engine": "transformers", "max_tokens": 64},
                "evaluation": {"every": 1, "max_tokens": 64},
                "tripwires": {
                    "page_gain": {"then": "warn"},
                    "gap": {"then": "warn"},
                    "gap_max": {"above": 9, "then": "warn"},
                },
            },
            "algorithms": {
                "reward_model": {**DRAWN, "steps": 2, "pages_per_round": 4},
                "ppo": {"steps": 2, "pages_per_step": 2, "samples_per_page": 2},
            },
            "arms": {"rlhf": {"algorithm": "ppo", "scored_by": "reward_model"}},
        }
    )


def test_the_most_memory_of_a_run_is_seen() -> None:
    with peak_memory() as nothing:
        pass
    with peak_memory() as much:
        ballast = bytearray(b"x") * 2**29
    # Half a GiB less what the system may take back meanwhile: pages of libraries count as resident too.
    assert len(ballast) == 2**29 and much[0] > nothing[0] + 0.2


def script(page: Page, k: int) -> str:
    """The reference, with the more of its beginning the later the sibling; another text for each page and sibling."""
    return (page.reference or "")[: 6 * (k + 1)] + "x"


@pytest.mark.slow
def test_a_reward_model_is_learnt_once_and_scores_alone(
    nano_dir: Path, prompter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocr_rl.train.session.require_eyes", lambda *_: None)  # a script sees no page
    write_dataset("nano", n=4, seed=1, out=tmp_path / "data", pages_per_document=4)
    study, folder = tiny_study(nano_dir, tmp_path / "data"), Folder((tmp_path / "out").resolve())
    sampler: Any = FakeSampler(prompter, script)
    (learnt,), (job,) = reward_model_jobs(study), main_jobs(study, {})
    with pytest.raises(UserError, match="the run reward_model-seed0, which this one needs, did not end"):
        _prepared(job, study, folder, sampler, prompter)
    for run in (learnt, job):
        _train(run, study, folder, sampler, prompter)
    model = folder.model("reward_model-seed0")
    assert json.loads((model / "reward_model.json").read_text())["centre"] is not None
    assert not (folder.run(learnt.name) / "eval").exists()  # it writes no transcript
    recipe = _prepared(job, study, folder, sampler, prompter)
    assert (recipe.rewards, recipe.gates) == ((RewardChoice(name=f"{LEARNED}{model}"),), ())
    left = {path.name for path in folder.run(job.name).glob("ckpt/*/*")}
    assert "model" in left and not left & {"optim.pt", "critic.pt"}
    (begun,) = (every for every in jobs_after_choice(study, {}) if not every.trains)
    for run in (begun, job):
        _test(run, study, folder, sampler, prompter)
    check_report(study, folder, learnt, job)


def check_report(study: Study, folder: Folder, learnt: Job, job: Job) -> None:
    results = read_results(study, folder.root)
    spent = cost_of(results.metrics[learnt.name])
    assert spent.tokens > 0 and spent.seconds > 0
    curve = results.curves[job.name]
    assert [point.step for point in curve] == [0, 0, 1, 2]
    assert (curve[1].tokens, curve[1].seconds) == spent  # charged before the first step
    assert curve[-1].tokens == spent.tokens + cost_of(results.metrics[job.name]).tokens
    assert results.scorers == {job.name: learnt.name} and results.peaks[job.name] > 0
    assert sorted(results.evaluations[job.name]) == [0, 1, 2]
    env = {"cores": 1, "platform": "here", "date": "today", "packages": {}}
    text = write_study(results, folder.root / "report", packed=b"", env=env, longest_px=112).read_text(encoding="utf-8")
    assert "| reward_model-seed0 |" in text and "rlhf by way of a reward model" in text
    assert "RLHF 1. " in text and "RLHF 6. " in text and "GRPO 4" not in text
