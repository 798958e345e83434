"""What `train` refuses before an engine starts, and what it does not ask for."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.run import Run
from ocr_rl.train.checks import checked_pages, require_lengths, require_whole_steps
from ocr_rl.train.evaluation import held_out_pages
from ocr_rl.train.session import _start_model, bound_sources, hold_weights, open_pool, open_session, with_folders

SYNTH = {"synth": "nano"}


def recipe(**sections) -> config.Recipe:
    return config.Recipe.model_validate({"policy": {"path": "nano"}} | sections)


def test_one_ahead_a_run_ends_early_only_where_no_rollout_is_on_its_way(capsys: pytest.CaptureFixture[str]) -> None:
    sections = {
        "grpo": {"pages": SYNTH, "steps": 40, "ahead": 1},
        "rewards": [{"name": "eos"}],
        "sampling": {"engine": "vllm_server", "url": "http://127.0.0.1:8000"},
        "evaluation": {"sets": {"new": SYNTH}, "every": 15},
        "save_every": 10,
    }
    for until in (10, 15, 30, None):
        require_whole_steps(recipe(**sections), until)
    with pytest.raises(UserError, match=r"--until: with grpo.ahead = 1 .* multiple of save_every \(10\)"):
        require_whole_steps(recipe(**sections), 7)
    assert not capsys.readouterr().out
    require_whole_steps(recipe(**sections | {"grpo": {"pages": SYNTH, "steps": 40}}), 7)


def test_one_ahead_in_one_process_says_that_it_gains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    sections = {"grpo": {"pages": SYNTH, "steps": 4, "ahead": 1}, "rewards": [{"name": "eos"}]}
    require_whole_steps(recipe(**sections), None)
    (line,) = capsys.readouterr().out.splitlines()
    assert 'grpo.ahead = 1 gains no time with sampling.engine = "vllm"' in line


def test_no_reward_is_asked_where_somebody_has_judged(
    tiny_pages: list[Page], prompter: Prompter, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"pdf": "tiny.pdf", "page": 1, "chosen": "a", "rejected": "b"}), encoding="utf-8")
    dpo = {"pages": SYNTH, "steps": 1}
    rewards = [{"name": "pass_rate"}]  # of tests, and the pages have none
    sampled, judged = recipe(dpo=dpo, rewards=rewards), recipe(dpo=dpo | {"preferences": str(path)}, rewards=rewards)
    with closing(open_pool(sampled, Run(tmp_path))) as pool, pytest.raises(UserError, match="none of the rewards"):
        checked_pages(sampled, lambda source: tiny_pages, prompter, pool)
    with closing(open_pool(judged, Run(tmp_path))) as pool:
        assert pool.rewards == []
        assert checked_pages(judged, lambda source: tiny_pages, prompter, pool) == tiny_pages


def test_preferences_of_ones_own_need_no_engine(
    tiny_pages: list[Page], nano_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = tmp_path / "pages", tmp_path / "pairs.jsonl"
    (folder / "pdfs").mkdir(parents=True)
    (folder / "pdfs" / "tiny.pdf").write_bytes(tiny_pages[0].pdf.read_bytes())
    test = {"pdf": "tiny.pdf", "page": 1, "id": "t", "type": "present", "text": "Page 1", "max_diffs": 0}
    (folder / "tests.jsonl").write_text(json.dumps(test), encoding="utf-8")
    path.write_text(json.dumps({"pdf": "tiny.pdf", "page": 1, "chosen": "a", "rejected": "b"}), encoding="utf-8")
    dpo = {"pages": {"dir": str(folder)}, "steps": 1, "preferences": str(path)}
    judged = recipe(dpo=dpo, policy={"path": str(nano_dir), "longest_px": 112})
    assert not judged.needs_sampler
    held_out = {"sets": {"new": SYNTH}}
    assert recipe(dpo=dpo, evaluation=held_out).needs_sampler
    assert recipe(dpo=dpo | {"preferences": None}, rewards=[{"name": "eos"}]).needs_sampler

    def opened(*_: object) -> None:
        raise AssertionError("an engine was opened")

    monkeypatch.setattr("ocr_rl.train.session.open_sampler", opened)
    with open_session(judged, Run(tmp_path / "run"), go_on=False, until=None, lent=None) as session:
        assert session.plan.evaluate is None
        assert len(next(session.steps({})).rows) == 2


def test_training_refuses_a_mix_that_a_cheat_beats_unless_told_otherwise(
    tiny_pages: list[Page], prompter: Prompter, tmp_path: Path
) -> None:
    """`eos` pays for ending, whatever was said: an empty transcript earns as much as an honest one."""
    sections = {"grpo": {"pages": SYNTH, "steps": 1}, "rewards": [{"name": "eos"}]}
    audited = recipe(**sections)
    with closing(open_pool(audited, Run(tmp_path))) as pool:
        with pytest.raises(UserError, match=r"rewards: '.*' earns as much as honest readings .*scoring\.audit=false"):
            checked_pages(audited, lambda source: tiny_pages, prompter, pool)
        trusted = recipe(**sections, scoring={"audit": False})
        assert checked_pages(trusted, lambda source: tiny_pages, prompter, pool) == tiny_pages


def test_a_reward_that_applies_to_no_page_is_named_before_the_run(
    tiny_pages: list[Page], prompter: Prompter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mix = {"rewards": [{"name": "eos"}, {"name": "pass_rate"}], "gates": [{"name": "outline", "at_least": 0.25}]}
    sections = recipe(grpo={"pages": SYNTH, "steps": 1, "pages_per_step": 4}, scoring={"audit": False}, **mix)
    with closing(open_pool(sections, Run(tmp_path))) as pool:
        checked_pages(sections, lambda source: tiny_pages, prompter, pool)
    printed = capsys.readouterr().out.splitlines()
    pages = f"applies to none of the {len(tiny_pages)} training pages"
    named = [f"! The reward pass_rate {pages}", f"! The gate outline {pages}"]
    assert [line.split(" (")[0] for line in printed] == named
    assert "the page has no tests" in printed[0] and "stands open" in printed[1]


def test_sft_is_probed_on_pages_with_a_reference(tiny_pages: list[Page]) -> None:
    sft = {"stages": [{"pages": SYNTH, "steps": 1, "pages_per_step": 1}]}
    probed = recipe(sft=sft, evaluation={"sets": {"new": SYNTH}})
    blind = replace(tiny_pages[0], reference=None)
    assert held_out_pages(probed, lambda source: [blind, tiny_pages[1]]) == {"new": [tiny_pages[1]]}
    with pytest.raises(UserError, match=r"evaluation\.sets\.new: no page has a reference"):
        held_out_pages(probed, lambda source: [blind])


@pytest.mark.parametrize(("less", "evaluated", "wrong"), [(0, 24, ""), (1, 24, "sampling"), (0, 25, "evaluation")])
def test_lengths_that_do_not_go_together(prompter: Prompter, less: int, evaluated: int, wrong: str) -> None:
    prompt = len(prompter.token_ids) - 1 + 16  # a square of 112 px is 16 image tokens
    long = recipe(
        grpo={"pages": SYNTH, "steps": 1},
        rewards=[{"name": "eos"}],
        sampling={"max_tokens": 24, "max_model_len": prompt + 24 - less},
        evaluation={"sets": {"new": SYNTH}, "max_tokens": evaluated},
    )
    if not wrong:
        return require_lengths(long, prompter)
    with pytest.raises(UserError, match=rf"{wrong}\.max_tokens.*max_model_len"):
        require_lengths(long, prompter)


def test_a_half_written_start_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def new_policy(folder: Path, seed: int, shape: str) -> None:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        seeds.append(seed)
        if len(seeds) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("ocr_rl.models.fresh.new_policy", new_policy)
    sft = {"stages": [{"pages": SYNTH, "steps": 1, "pages_per_step": 1}]}
    start = lambda seed: _start_model(recipe(policy={"fresh": "nano"}, sft=sft, seed=seed), Run(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        start(3)
    assert start(3) == start(3) != start(4)
    assert seeds == [3, 3, 4]


def test_a_run_goes_on_from_the_commit_of_the_hub_that_it_began_with(
    nano_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start of an adapter and a reference are in no checkpoint: another commit would be another run."""
    newest = "aaa"

    def snapshot(name: str, *, revision: str | None, **_: object) -> str:
        folder = tmp_path / f"models--{name.replace('/', '--')}" / "snapshots" / (revision or newest)
        if not folder.exists():
            shutil.copytree(nano_dir, folder)
        return str(folder)

    monkeypatch.setattr("ocr_rl.models.load.snapshot_download", snapshot)
    run, of_hub = Run(tmp_path / "run"), {"path": "some/start", "reference": "some/reference"}
    ppo = {"pages": SYNTH, "steps": 1, "samples_per_page": 1, "kl_in": "loss", "beta": 0.1}
    ppo["critic"] = {"path": "some/critic"}
    asked = recipe(policy=of_hub, ppo=ppo, rewards=[{"name": "eos"}])

    def commits(go_on: bool) -> list[str]:
        sources = bound_sources(asked, run, None, go_on=go_on)
        found = with_folders(asked, sources)
        assert isinstance(found.algorithm, config.Ppo)
        sources.keep()
        run.start(asked.model_dump(mode="json"), resume=go_on)
        return [Path(str(p)).name for p in (found.policy.path, found.policy.reference, found.algorithm.critic.path)]

    assert commits(go_on=False) == ["aaa"] * 3
    newest = "bbb"
    assert commits(go_on=True) == ["aaa"] * 3
    assert asked.policy.path == "some/start"  # the recipe itself goes on with names
    with_folders(asked, bound_sources(asked, Run(tmp_path / "other"), None, go_on=False))
    assert (of_bbb := tmp_path / "models--some--start/snapshots/bbb").exists()
    by_folder = bound_sources(asked, Run(tmp_path / "third"), None, go_on=False)
    with_folders(
        recipe(policy={"path": str(of_bbb)}, grpo={"pages": SYNTH, "steps": 1}, rewards=asked.rewards), by_folder
    )
    assert by_folder.commits == {}  # names of a hub only


def test_a_run_does_not_go_on_from_other_weights(nano_dir: Path, tmp_path: Path) -> None:
    start, run = shutil.copytree(nano_dir, tmp_path / "start"), Run(tmp_path / "run")
    asked = recipe(policy={"path": str(start)}, grpo={"pages": SYNTH, "steps": 1}, rewards=[{"name": "eos"}])
    sources = bound_sources(asked, run, None, go_on=False)
    hold_weights(with_folders(asked, sources), sources)
    sources.keep()
    run.start(asked.model_dump(mode="json"), resume=False)
    again = bound_sources(asked, run, None, go_on=True)
    hold_weights(with_folders(asked, again), again)
    weights = start / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"model.safetensors: since .*run began, the file changed; put back"):
        hold_weights(with_folders(asked, again), again)
