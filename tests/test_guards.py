"""The table of guards and docs/pitfalls.md: each pitfall has guards that can be taken out, and tests of its name.

Whether these tests notice takes an hour: `python -m benchmarks.robustness.guards`.
"""

from __future__ import annotations

import re

import pytest

from benchmarks.robustness.guards import ROOT, Guard, read_guards, without

GUARDS = read_guards()
PITFALLS = {int(n) for n in re.findall(r"^\| (\d+) \|", (ROOT / "docs/pitfalls.md").read_text(encoding="utf-8"), re.M)}


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.trap}-{guard.what}")
def test_a_guard_stands_once_in_its_file_which_stays_python_without_it(guard: Guard) -> None:
    left = without(guard, (ROOT / guard.file).read_text(encoding="utf-8"))
    if guard.file.endswith(".py"):
        compile(left, guard.file, "exec")


def test_a_guard_that_was_rewritten_is_named() -> None:
    with pytest.raises(SystemExit, match=re.escape(f"{GUARDS[0].file}: {GUARDS[0].text!r} stands there 0 times")):
        without(GUARDS[0], "if seen:\n    pass\n")


def test_every_pitfall_has_guards_and_tests_of_its_name() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert {guard.trap for guard in GUARDS} == PITFALLS
    assert {int(n) for n in re.findall(r"def test_trap_(\d+)_", tests)} == PITFALLS
