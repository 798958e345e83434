"""`ocr-rl rewards new` writes a package whose own tests pass, and which keeps the contract once it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ocr_rl.cli import main
from tests.packages import install

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    assert main(["rewards", "new", "my_reward", "--out", str(folder)]) == 0
    return folder / "my-reward"


def run_tests(folder: Path, *more: str, path: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *more]
    env = {**os.environ, "PYTHONPATH": path, "CI": ""}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_its_own_tests_pass(package: Path) -> None:
    result = run_tests(package, path=".")
    assert result.returncode == 0, result.stdout
    assert "3 passed" in result.stdout


def test_installed_it_is_found_and_keeps_the_contract(package: Path, tmp_path: Path) -> None:
    """Laid out as an installer would: the module, and beside it the metadata that its pyproject.toml stands for."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    shutil.copy(package / "my_reward.py", tmp_path)
    install(tmp_path, project["name"], project["entry-points"]["ocr_rl.rewards"], project["version"])
    result = run_tests(ROOT, "tests/contracts/test_rewards.py", "-k", "my_reward or none_is", "-rA", path=str(tmp_path))
    assert result.returncode == 0, result.stdout
    for test in ("test_gold_is_at_the_maximum[my_reward]", "sees_scores_lower[my_reward-empty]", "test_none_is_for"):
        assert test in result.stdout


@pytest.mark.parametrize(
    "name",
    ["My", "1st", "class", "../x", "a-b", "a_", "pass_rate", "page", "none", "json", "class_var", "path", "p_a_g_e"],
)
def test_a_name_that_cannot_be_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewards", "new", name, "--out", str(tmp_path)]) == 2
    assert repr(name) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewards", "new", "my_reward", "--out", str(package.parent)]) == 2
    assert "exists already" in capsys.readouterr().err
