"""The examples of docs/interop.md run, but for those that say what else they need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[2] / "docs/interop.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", [code for code in EXAMPLES if not code.startswith("# needs: ")])
def test_an_example_runs(code: str) -> None:
    exec(compile(code, "docs/interop.md", "exec"), {})


def test_there_is_an_example_for_each_trainer() -> None:
    assert all(f"ocr_rl.interop.{name} import" in TEXT for name in ("trl", "verl", "verifiers"))
    assert len(EXAMPLES) >= 4
