"""This project's losses, gradients and advantages against TRL 1.16's, on its recorded answers.

`trl_answers.json` is what `python -m benchmarks.peers.losses --peer-python PATH --answers FILE --case ...` wrote on
2026-11-25. The command itself compares many more cases.
"""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.peers import losses, peer_step, step
from ocr_rl.objectives import advantages
from ocr_rl.objectives import losses as ours

ANSWERS = Path(__file__).with_name("trl_answers.json")


def lines(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_recorded_answers_are_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert losses.main(["--answers", str(ANSWERS)]) == 0
    *cases, summary = lines(capsys.readouterr().out)
    assert summary["cases"] == len(cases) == 9
    assert summary["versions"]["trl"] == "1.16.0"


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


def test_a_step_needs_a_peer_and_a_step_after_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        ([], "--peer-python"),
        (["--peer-python", "python3", "--sampler", "vllm"], "add --lengths natural"),
        (["--peer-python", "python3", "--steps", "1"], "at least 2"),
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
    sizes = {"pages": 1, "samples": 2, "max-tokens": 3, "steps": 2, "beta": 0}
    asked = step.work(step.parsed([f"--{name}={value}" for name, value in sizes.items()]), tmp_path)
    assert all(Path(image).is_file() for image in asked["images"])
    answer = step.ours(asked)
    assert [one["tokens"] for one in answer["steps"]] == [6, 6]
    assert len(answer["prompt_ids"]) == 2
