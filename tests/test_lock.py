"""One lock for everything that make sets up, and it keeps to the ranges that the package states."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STATED = [
    *PROJECT["dependencies"],
    *(
        line
        for name in ("math", "synth", "hub", "train", "cpu", "dev")
        for line in PROJECT["optional-dependencies"][name]
    ),
]


@pytest.mark.parametrize("line", [line for line in STATED if not line.startswith("ocr-rl")])
def test_trap_18_what_is_locked_is_within_the_stated_range(line: str) -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = (each.split("#")[0].strip().split("==") for each in lines if "==" in each and not each.startswith("#"))
    locked = {canonicalize_name(name): version for name, version in pins}
    stated = Requirement(line)
    assert stated.specifier.contains(locked[canonicalize_name(stated.name)], prereleases=True)
    assert stated.specifier, "a range says what is known to work"
