"""The whole river on a random-weight policy: real PDFs, PDFium, transformers, vLLM; and a run gone on from a kill."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.models.load import load_model
from ocr_rl.objectives.losses import NegativeLogLikelihood
from ocr_rl.train import session

SMALL = [
    "policy.longest_px=112",
    'policy.instruction=""',
    "policy.max_tokens=24",
    "sampling.max_tokens=24",
    "sampling.max_model_len=128",
    "sampling.max_num_seqs=32",
    "grpo.steps=3",
    "grpo.pages_per_step=2",
    "grpo.samples_per_page=4",
    'grpo.pages={synth="nano", n=6, seed=1}',
    # A random policy passes no test; how much of the reference it hits differs from sample to sample.
    'rewards=[{name="diff_ratio"}, {name="eos", weight=0.1}]',
    "gates=[]",
    "grpo.beta=0.01",
    'evaluation.sets={new={synth="nano", n=3, seed=2}}',
    "evaluation.max_tokens=24",
    "save_every=1",
    "keep=2",
    "optim.lr=1e-3",
    "optim.warmup=0",
    'tripwires.page_gain.then="warn"',  # a random policy hardly looks at the page
]


def command(nano_dir: Path, out: Path, *settings: str) -> list[str]:
    every = (*SMALL, f"policy.path={nano_dir}", *settings)
    return ["train", "nano_grpo", "--out", str(out), *(part for one in every for part in ("--set", one))]


def run(nano_dir: Path, out: Path, *more: str) -> list[dict]:
    assert main([*command(nano_dir, out), *more]) == 0
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(nano_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(nano_dir, out)
    return out


def test_a_step_learns_and_the_engines_agree(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(row["gap_max"] <= 1e-4 for row in rows)  # vLLM against the learner, float32, nats
    assert all(row["grad_norm"] > 0 for row in rows)
    assert rows[-1]["kl"] > 0  # it has moved away from the reference


def test_trap_3_the_first_step_of_a_run_says_what_the_page_is_worth(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert all("page_gain" in row for row in rows)  # saved at every step


@pytest.fixture
def asked_by_a_run(
    nano_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], bool]:
    """Whether a run asks that check of `train`, and does not begin where it refuses."""

    def asked(check: str) -> bool:
        def refuse(*_: object) -> None:
            raise UserError("refused by this check")

        monkeypatch.setattr(session, check, refuse)
        code = main(command(nano_dir, tmp_path / "run", "sampling.engine=transformers"))
        said = capsys.readouterr().err
        return code == 2 and "refused by this check" in said and not (tmp_path / "run" / "config.json").exists()

    return asked


def test_trap_2_a_run_asks_whether_the_engine_sees_before_it_begins(asked_by_a_run: Callable[[str], bool]) -> None:
    assert asked_by_a_run("require_eyes")


def test_trap_13_a_run_asks_for_its_memory_before_it_begins(asked_by_a_run: Callable[[str], bool]) -> None:
    assert asked_by_a_run("require_memory")


def test_trap_3_a_page_that_is_too_long_is_refused_before_the_first_step(
    nano_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(nano_dir, tmp_path / "run", "policy.max_prompt_tokens=12")) == 2
    said = capsys.readouterr().err
    assert "max_prompt_tokens is 12" in said and "(6 of 6 pages)" in said


def test_reports_and_groups_are_there_to_read(trained: Path) -> None:
    assert {path.name for path in (trained / "report" / "new").iterdir()} >= {"report.html", "report.md", "report.json"}
    shown = json.loads((trained / "groups" / "000001.jsonl").read_text().splitlines()[0])
    assert shown["best"]["reward"] >= shown["worst"]["reward"]


def test_the_checkpoint_is_an_ordinary_folder(trained: Path) -> None:
    folder = sorted((trained / "ckpt").iterdir())[-1] / "model"
    model = load_model(str(folder))
    start = load_model(str(json.loads((trained / "config.json").read_text())["policy"]["path"]))
    moved = [float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), start.parameters(), strict=True)]
    assert max(moved) > 0
    assert json.loads((folder / "ocr_rl.json").read_text())["longest_px"] == 112


def test_the_trained_policy_transcribes_a_pdf(trained: Path, tmp_path: Path) -> None:
    """With what its folder says of image size and lengths, and a file that is no PDF named and skipped."""
    pdf = next((trained / "pages").rglob("*.pdf"))
    broken = tmp_path / "broken.pdf"
    broken.write_text("no PDF")
    model = sorted((trained / "ckpt").iterdir())[-1] / "model"
    assert main(["transcribe", str(pdf), str(broken), "--model", str(model), "--out", str(tmp_path / "md")]) == 1
    assert [path.name for path in (tmp_path / "md").glob("*.md")] == [f"{pdf.stem}.md"]


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(trained: Path, nano_dir: Path, tmp_path: Path) -> None:
    """Killed when step 3 was learnt but not saved, and gone on: the same pages, samples and figures."""
    out = tmp_path / "killed"
    shutil.copytree(trained, out)
    shutil.rmtree(out / "ckpt" / "000003")
    whole = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    again = run(nano_dir, out, "--resume")
    assert [row["step"] for row in again] == [1, 2, 3]
    assert again[:2] == whole[:2]
    for figure in ("reward", "length", "loss", "kl", "grad_norm"):
        assert again[2][figure] == pytest.approx(whole[2][figure], rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_a_run_stopped_on_the_way_leaves_a_weaker_policy_and_goes_on_as_the_same_run(
    trained: Path, nano_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "stopped"
    assert [row["step"] for row in run(nano_dir, out, "--until", "2")] == [1, 2]
    assert (out / "ckpt" / "000002" / "model" / "model.safetensors").exists()
    assert not (out / "report").exists()
    for until, said in (("2", "is at step 2 already"), ("3", "before the last one"), ("0", "before the last one")):
        assert main([*command(nano_dir, out), "--resume", "--until", until]) == 2
        assert said in capsys.readouterr().err
    whole = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    for row, other in zip(run(nano_dir, out, "--resume"), whole, strict=True):
        for figure in ("reward", "length", "loss", "kl", "lr", "grad_norm"):
            assert row[figure] == pytest.approx(other[figure], rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_one_rollout_ahead_a_run_pauses_where_it_saves(nano_dir: Path, tmp_path: Path, capsys) -> None:
    settings = ("grpo.ahead=1", "grpo.steps=4", "save_every=2", "scoring.audit=false", 'sampling.engine="transformers"')
    begun = command(nano_dir, tmp_path / "run", *settings)
    assert main([*begun, "--until", "3"]) == 2
    assert "give a multiple of save_every (2)" in capsys.readouterr().err
    assert main([*begun, "--until", "2"]) == main([*begun, "--resume"]) == 0
    assert 'grpo.ahead = 1 gains no time with sampling.engine = "transformers"' in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["behind"] for row in rows] == [0, 1, 0, 1]
    assert [row.get("gap_max", 1.0) < 1e-4 for row in rows] == [True, False] * 2  # nothing is loaded before a pause


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_pages_or_another_reward(
    nano_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, reward, out = tmp_path / "data", tmp_path / "mine.py", tmp_path / "run"
    assert main(["pages", "synth", "--kind", "nano", "--n", "3", "--pages-per-document", "1", "--out", str(data)]) == 0
    reward.write_text(
        "from dataclasses import dataclass\nfrom ocr_rl.contract import Score, per_transcript\n\n\n"
        "@dataclass(frozen=True)\nclass Mine:\n    @per_transcript\n    def __call__(self, page, transcript):\n"
        "        return Score(value=min(1.0, len(transcript.raw) / 99))\n",
        encoding="utf-8",
    )
    begun = [
        *(f"grpo.pages.dir={data}", f'rewards=[{{name="{reward}:Mine"}}]', "grpo.pages_per_step=4"),
        *("scoring.audit=false", 'sampling.engine="transformers"', "evaluation.sets={test={dir='" + str(data) + "'}}"),
    ]
    assert main([*command(nano_dir, out, *begun), "--until", "1"]) == 0
    assert "grpo: a step takes all 3 pages, not pages_per_step = 4" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in (reward, next(data.glob("*.jsonl")))}
    for path, says in zip(before, ("the file changed", "the tests of nano_0_00002.pdf changed"), strict=True):
        text = before[path].decode()
        path.write_text(text.replace("99", "98") if path == reward else text[: text[:-1].rindex("\n") + 1])
        assert main([*command(nano_dir, out, *begun), "--resume"]) == 2
        assert f"since {out} began, {says}; put back what was there" in capsys.readouterr().err
        path.write_bytes(before[path])
    (out / "pages.json").unlink()  # as a run of an earlier version has it
    assert main([*command(nano_dir, out, *begun), "--resume", "--until", "2"]) == 0
    assert "began before its pages were written down" in capsys.readouterr().out and (out / "pages.json").exists()


def test_a_run_is_not_written_over(trained: Path, nano_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(nano_dir, trained)) == 2
    assert "--resume" in capsys.readouterr().err


def test_seven_frames_lead_from_the_verb_to_the_loss(
    nano_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[list[str]] = []
    compute = NegativeLogLikelihood.__call__

    def watched(self, read, batch):
        stack = [frame for frame in traceback.extract_stack() if "ocr_rl" in Path(frame.filename).parts]
        frames.append([f"{Path(frame.filename).stem}.{frame.name}" for frame in stack])
        return compute(self, read, batch)

    monkeypatch.setattr(NegativeLogLikelihood, "__call__", watched)
    stage = '{steps=2, pages_per_step=2, front_matter=false, pages={synth="chars", n=4, seed=1}}'
    settings = [f"sft.stages=[{stage}]", 'evaluation.sets={nano={synth="nano", n=2, seed=3}}', "optim.schedule=[]"]
    argv = ["train", "nano_sft", "--out", str(tmp_path / "run"), "--until", "1"]
    assert main([*argv, *(part for setting in settings for part in ("--set", setting))]) == 0
    verb = frames[0].index("train.train")
    # the loss is the seventh; an update is prepared, then applied, so that two learners move together or not at all
    update = ["fit._learn", "learner.update_together", "learner.prepare"]
    assert frames[0][verb:] == ["train.train", "__init__.train", "fit.fit", *update]
