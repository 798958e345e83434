"""This project's losses, gradients and advantages against TRL 1.16's, on its recorded answers.

`trl_answers.json` is what `python -m benchmarks.peers.losses --peer-python PATH --answers FILE --case ...` wrote on
2026-11-25, and with `--ppo-python PATH` on 2026-11-29 for the reward model and PPO (TRL 1.12, the last that had it).
The command itself compares many more cases.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from statistics import fmean, pstdev

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.peers import losses, own_step, peer_step, rlhf, step
from benchmarks.peers.sides import Side, compared, pairs
from ocr_rl.contract import UserError
from ocr_rl.objectives import advantages, returns
from ocr_rl.objectives import losses as ours
from ocr_rl.objectives.scalar_losses import BradleyTerry, ValueLoss

ANSWERS = Path(__file__).with_name("trl_answers.json")


def lines(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_recorded_answers_are_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert losses.main(["--answers", str(ANSWERS)]) == 0
    *cases, summary = lines(capsys.readouterr().out)
    assert summary["cases"] == len(cases) == 16
    assert summary["versions"]["trl"] == "1.16.0"
    assert summary["versions"]["trl with ppo"] == "1.12.0"


@pytest.mark.parametrize("part", ["loss", "gradient", "advantages"])
def test_a_small_difference_is_seen(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(ANSWERS.read_text(encoding="utf-8"))
    answer = found["answers"]["dapo, all of these"]
    if part == "loss":
        answer["windows"][0]["loss"] += 2e-6
    elif part == "gradient":
        largest = max(abs(each) for row in answer["gradient"] for each in row)
        answer["gradient"][0][0] += 2e-6 * largest
    else:
        answer["advantages"][0] += 2e-6
    (tmp_path / "answers.json").write_text(json.dumps(found), encoding="utf-8")
    assert losses.main(["--answers", str(tmp_path / "answers.json")]) == 1
    unequal = [line["case"] for line in lines(capsys.readouterr().out)[:-1] if not line["equal"]]
    assert unequal == ["dapo, all of these"]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(("ppo, 2 minibatches", part) for part in ("rewards", "returns", "advantages", "loss", "gradient")),
        *(("critic, 2 minibatches", part) for part in ("loss", "gradient")),
        *(("reward model, margins, label smoothing", part) for part in ("loss", "gradient", "accuracy")),
    ],
)
def test_a_small_difference_is_seen_in_rlhf(
    name: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(ANSWERS.read_text(encoding="utf-8"))
    found["answers"] = {name: found["answers"][name]}
    changed(found["answers"][name], part)
    (tmp_path / "answers.json").write_text(json.dumps(found), encoding="utf-8")
    assert losses.main(["--answers", str(tmp_path / "answers.json")]) == 1
    line = lines(capsys.readouterr().out)[0]
    gaps = {gap for gap, value in line.items() if isinstance(value, float) and value > losses.LIMIT}
    assert gaps == {part}


def changed(answer: dict, part: str) -> None:
    """By twice the limit: a part's first number, a gradient in the measure of its largest component."""
    values = answer[part] if part in answer else answer["windows"]
    if not isinstance(values, list):
        answer[part] += 2e-6
    elif isinstance(values[0], dict):
        values[0][part] += 2e-6
    else:
        rows = values if isinstance(values[0], list) else [values]
        largest = max(abs(value) for row in rows for value in row) if part == "gradient" else 1.0
        target = values[0] if isinstance(values[0], list) else values
        target[0] += 2e-6 * largest


def population_whitened(batch: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    every = [advantage for row in batch for advantage in row]
    return [tuple((advantage - fmean(every)) / pstdev(every) for advantage in row) for row in batch]


def bootstrapped(rewards: Sequence[float], values: Sequence[float], *, gamma: float, lam: float) -> tuple:
    """As if a sample went on after its end, where the critic expects what it did before the last token."""
    return returns.gae([*rewards[:-1], rewards[-1] + gamma * values[-1]], values, gamma=gamma, lam=lam)


def reward_at_the_first(reward: float, drift: Sequence[float], beta: float) -> tuple[float, ...]:
    penalties = [-beta * nats for nats in drift]
    return (penalties[0] + reward, *penalties[1:])


def without_margins(label_smoothing: float) -> Callable:
    loss = BradleyTerry(label_smoothing=label_smoothing)
    return lambda read, batch: loss(read, replace(batch, rows=tuple(replace(row, margin=0.0) for row in batch.rows)))


PPO = "ocr_rl.learn.algos.ppo"
POLICY = {"ppo, equal lengths, missing EOS", "ppo, 2 minibatches", "ppo, gamma and lambda 1"}
REWARD_MODEL = {"reward model, margins, label smoothing"}
CRITIC = {"critic, equal lengths", "critic, 2 minibatches"}


@pytest.mark.parametrize(
    ("module", "name", "formula", "seen"),
    [
        (PPO, "whitened", population_whitened, POLICY - {"ppo, 2 minibatches"}),
        (returns.__name__, "whitened", population_whitened, {"ppo, 2 minibatches"}),  # whitened after the cut
        (PPO, "gae", bootstrapped, POLICY | CRITIC),
        (PPO, "token_rewards", reward_at_the_first, POLICY | CRITIC),
        (PPO, "drift_of", lambda row: (0.0,) * len(row.completion_ids), POLICY | CRITIC),
        (PPO, "ValueLoss", lambda clip: ValueLoss(clip=None), CRITIC),
        (rlhf.__name__, "BradleyTerry", lambda label_smoothing: BradleyTerry(label_smoothing=0.0), REWARD_MODEL),
        (rlhf.__name__, "BradleyTerry", without_margins, REWARD_MODEL),
    ],
)
def test_another_formula_of_rlhf_is_seen(
    module: str,
    name: str,
    formula: Callable,
    seen: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(import_module(module), name, formula)
    assert losses.main(["--answers", str(ANSWERS)]) == 1
    assert {line["case"] for line in lines(capsys.readouterr().out)[:-1] if not line["equal"]} == seen


def test_another_loss_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(advantages, "EPS", 2e-4)
    monkeypatch.setitem(ours.KL, "k3", ours.kl_k2)
    assert losses.main(["--answers", str(ANSWERS)]) == 1
    unequal = {line["case"] for line in lines(capsys.readouterr().out)[:-1] if not line["equal"]}
    assert unequal == {
        "grpo",
        "grpo, 2 updates a rollout",
        "dapo, all of these",
        "dapo, a group without signal",
        "dr_grpo, k3",
        "two rewards, gdpo",
    }


def test_a_peer_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert losses.main(["--peer-python", "/no/python"]) == 2
    assert "name a Python that has TRL 1.16" in capsys.readouterr().err
    assert losses.main([]) == 2
    assert "--peer-python" in capsys.readouterr().err
    assert losses.main(["--peer-python", "/no/python", "--case", "gropo"]) == 2
    assert "no case 'gropo'" in capsys.readouterr().err
    assert losses.main(["--peer-python", "/no/python", "--case", "critic"]) == 2
    assert "'critic' needs a Python that has TRL 1.12" in capsys.readouterr().err
    assert losses.main(["--ppo-python", "/no/python", "--case", "critic"]) == 2
    assert "name a Python that has TRL 1.12" in capsys.readouterr().err


def test_a_step_needs_a_peer_and_two_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        ([], "--peer-python"),
        (["--peer-python", "python3", "--sampler", "vllm"], "add --lengths natural"),
        (["--peer-python", "python3", "--pairs", "1"], "at least 2"),
    ):
        assert step.main(arguments) == 2
        assert said in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_the_peak_is_that_since_it_was_reset() -> None:
    held = b"x" * (64 << 20)
    whole = peer_step.resident_mb("VmHWM")
    del held
    peer_step.reset_peak()
    assert peer_step.resident_mb("VmHWM") < whole - 32


@pytest.mark.slow
def test_ours_takes_a_step_of_fixed_lengths(tmp_path: Path) -> None:
    sizes = {"pages": 1, "samples": 2, "max-tokens": 3, "pairs": 1, "beta": 0}
    asked = step.work(step.parsed([f"--{name}={value}" for name, value in sizes.items()]), tmp_path)
    assert all(Path(image).is_file() for image in asked["images"])
    answers = list(own_step.steps(asked))
    assert [figures["tokens"] for figures in answers] == [6, 6]
    assert [len(figures["prompt_ids"]) for figures in answers] == [1, 1]


ECHO = """
import json, sys
work = json.loads(sys.stdin.readline())
for number, _ in enumerate(sys.stdin):
    if number == work["fails_at"]:
        raise SystemExit("it fell over")
    with open(work["log"], "r+") as log:
        after = log.read()
        log.write(work["name"])
    print(json.dumps({"step_s": work["seconds"] * (number + 1), "after": after}), flush=True)
"""


def echo(tmp_path: Path, name: str, seconds: float, fails_at: int = -1) -> Side:
    log = tmp_path / "log"
    log.touch()
    work = {"name": name, "seconds": seconds, "log": str(log), "fails_at": fails_at}
    return Side([sys.executable, "-c", ECHO], work, threads=1)


def test_sides_take_turns_in_beginning_and_one_works_at_a_time(tmp_path: Path) -> None:
    with echo(tmp_path, "a", 1.0) as a, echo(tmp_path, "b", 3.0) as b:
        rows = list(pairs({"a": a, "b": b}, 3))
    assert [row["a"]["after"] for row in rows] == ["abb", "abba", "abbaabb"]
    assert [row["b"]["after"] for row in rows] == ["ab", "abbaa", "abbaab"]
    ratio = compared(rows, "step_s")
    assert ratio == {"a": 3.0, "b": 9.0, "ratio": 3.0, "half_of_pairs": [3.0, 3.0], "all_pairs": [3.0, 3.0]}


def test_a_ratio_is_that_of_pairs_not_of_medians() -> None:
    rows = [{"a": {"s": a}, "b": {"s": b}} for a, b in ((1, 4), (10, 20), (100, 300))]
    assert compared(rows, "s") == {"a": 10, "b": 20, "ratio": 3.0, "half_of_pairs": [2.5, 3.5], "all_pairs": [2.0, 4.0]}


def test_a_side_that_fails_says_its_last_words(tmp_path: Path) -> None:
    with echo(tmp_path, "a", 1.0, fails_at=1) as side:
        side.step()
        with pytest.raises(UserError, match="it fell over"):
            side.step()
