"""The command behind docs/rewards_audit.md, on two pages a kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fidelity.rewards_audit import MIXES, main
from ocr_rl.plugins import REWARDS, installed

SHOWN = Path(__file__).parents[1] / "docs" / "rewards_audit.md"


@pytest.mark.slow
def test_every_reward_and_every_mix_has_its_row(tmp_path: Path) -> None:
    out = tmp_path / "audit.md"
    assert main(["--pages", "2", "--out", str(out)]) == 0
    lines = out.read_text(encoding="utf-8").splitlines()
    legend, shown = (next(x for x in path.read_text("utf-8").splitlines() if "**bold**" in x) for path in (out, SHOWN))
    assert legend.partition("Mean values")[2] == shown.partition("Mean values")[2]
    assert "*caption moved*" in legend
    names = [info.name for info in installed(REWARDS) if info.package == "ocr-rl"]
    for name in (*MIXES, *names):  # cheats, damage, curves
        assert sum(line.startswith(f"| {name} |") for line in lines) == 3, name
    beaten, holds = (
        next(line for line in lines if line.startswith(f"| {start}"))
        for start in ("`pass_rate` alone", "tests only, small")
    )
    assert "**" in beaten
    assert "**" not in holds
