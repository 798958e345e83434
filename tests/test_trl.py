"""This project's losses, gradients and advantages against TRL 1.16's, on its recorded answers.

`trl_answers.json` is what `python -m benchmarks.trl.losses --peer-python PATH --answers FILE --case ...` wrote on
2026-11-25. The command itself compares many more cases.
"""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.trl import losses
from ocr_rl.learn import losses as ours
from ocr_rl.rollout import advantage

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
    monkeypatch.setattr(advantage, "EPS", 2e-4)
    monkeypatch.setattr(ours, "kl_k3", lambda logprob_N, ref_N: 0.5 * (logprob_N - ref_N) ** 2)  # k2
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
