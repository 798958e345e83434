"""`ocr-rl rewards audit`: shipped mixes, samples, and wrong input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest

from ocr_rl.cli import main
from ocr_rl.evaluate.damage import with_wrong_characters
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.synth.make import make_dataset
from ocr_rl.rollout.reward_pool import as_json
from tests.evaluate.simple_rewards import sample


@pytest.fixture(scope="module")
def notices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "notice"
    assert list(make_dataset("notice", n=32, seed=5, out=folder, pages_per_document=32))
    return folder


MIX = 'rewards=[{name="pass_degree",weight=4},{name="budget"}]'
GATES = 'gates=[{name="repetition",at_least=0.7},{name="distinct",at_least=0.7}]'
ALONE = ("--set", 'rewards=[{name="pass_rate"}]', "--set", "gates=[]")


def test_no_attack_pays_under_a_mix_that_holds(
    notices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["rewards", "audit", "nano_grpo", "--data", str(notices), "--set", MIX, "--set", GATES, "--pages", "8"]
    assert main([*argv, "--search", "40", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "No attack pays" in text and "## The attacker that searches" in text
    saved = json.loads((tmp_path / "audit.json").read_text())
    assert saved["holes"] == [] and saved["holds"] and len(saved["searched"]) == 8


def test_pass_rate_alone_is_beaten_and_the_paying_attack_printed(
    notices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rewards", "audit", "nano_grpo", "--data", str(notices), *ALONE, "--pages", "8"]) == 1
    text = capsys.readouterr().out
    assert "## Pays: first 60 % of the true lines" in text
    assert "## The attacker that searches" not in text


SLOW = """
import time
from dataclasses import dataclass
from ocr_rl.contract import Score

@dataclass(frozen=True)
class Slow:
    def __call__(self, page, group):
        time.sleep(0.005 * len(group))
        return [Score(value=float(one.body == page.reference)) for one in group]
"""


def test_an_audit_takes_as_much_longer_as_its_groups_are_larger(
    notices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """About 140 transcripts need 0.7 s; a group of eight may take 0.2 s."""
    (tmp_path / "slow.py").write_text(SLOW)
    slow = f'rewards=[{{name="{tmp_path / "slow.py"}:Slow"}}]'
    argv = ["rewards", "audit", "nano_grpo", "--data", str(notices), "--pages", "1", "--set", slow, "--set", "gates=[]"]
    assert main([*argv, "--set", "scoring.timeout_s=0.2", "--set", "grpo.samples_per_page=8"]) == 1  # blind
    assert "# Audit of rewards" in capsys.readouterr().out


LONGER = """
from dataclasses import dataclass
from ocr_rl.contract import Score

@dataclass(frozen=True)
class Longer:
    def __call__(self, page, group):
        return [Score(value=min(1.0, len(one.body) / 200000)) for one in group]
"""


def test_the_recipes_advantage_decides(notices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Length tells little apart, until gdpo makes that as much as what `cer` does."""
    (tmp_path / "longer.py").write_text(LONGER)
    rewards = f'rewards=[{{name="cer"}},{{name="{tmp_path / "longer.py"}:Longer",weight=1.2}}]'
    argv = ["rewards", "audit", "nano_grpo", "--data", str(notices), "--pages", "6", "--set", rewards]
    assert main([*argv, "--set", "gates=[]", "--set", 'grpo.advantage="batch_std"']) == 0
    assert main([*argv, "--set", "gates=[]", "--set", 'grpo.advantage="gdpo"']) == 1
    assert 'trains on advantage "gdpo"' in capsys.readouterr().out


def test_samples_are_audited_where_there_are_tests_alone(
    notices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, groups = tmp_path / "data", tmp_path / "groups.jsonl"
    references = {page.id: page.reference or "" for page in load_dataset(notices)}
    shutil.copytree(notices, data, ignore=shutil.ignore_patterns("*.md"))
    rng = Random(0)
    texts = {page: [with_wrong_characters(text, 0.05, rng) for _ in range(3)] for page, text in references.items()}
    rows = [{"page": page, "samples": [as_json(sample(text)) for text in of_page]} for page, of_page in texts.items()]
    groups.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    argv = ["rewards", "audit", "nano_grpo", "--data", str(data), "--samples", str(groups)]
    assert main([*argv, "--out", str(tmp_path), "--pages", "6", "--set", MIX, "--set", GATES]) == 0
    assert "on 6 pages without reference real samples are attacked" in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text())["samples"] == 18
    assert main([*argv, *ALONE, "--pages", "6"]) == 1
    assert " pays at sample: " in capsys.readouterr().out


def test_a_place_for_the_report_is_looked_at_first(
    notices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("")
    argv = ["rewards", "audit", "nano_grpo", "--data", str(notices), "--out", str(tmp_path / "taken")]
    assert main(argv) == 2
    assert "taken: is a file, and a folder would be written there" in capsys.readouterr().err


def test_samples_of_another_dataset_are_refused(
    notices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = tmp_path / "groups.jsonl"
    groups.write_text('{"page": "ffffffff:p1", "samples": [{"text": "a", "finish": "stop", "tokens": 1}]}\n')
    argv = ["rewards", "audit", "nano_grpo", "--data", str(notices), "--samples", str(groups)]
    assert main(argv) == 2
    assert "none of its groups is of a page of" in capsys.readouterr().err
    groups.write_text('{"page": "ffffffff:p1"}\n')
    assert main(argv) == 2
    assert f"{groups}:1:" in capsys.readouterr().err
