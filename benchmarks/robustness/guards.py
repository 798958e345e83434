"""Each guard against a pitfall taken out in turn: does the test that is named after the pitfall fail?

    python -m benchmarks.robustness.guards [--only 7 13]

A copy of the checkout has one guard taken out of its text, then `pytest -k trap_<N>_` runs there, which must fail. A
test that hangs without its guard has failed too. Beforehand all of these tests must pass as they are. Prints one line
a guard, a table at the end, and exits 1 where a test did not notice. Needs a checkout of the repository with git.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ocr_rl.evaluate.tables import to_markdown_table

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_suffix(".toml")
TIMEOUT_S = 240
_NOTHING_RAN = 5  # pytest's exit code


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What stands in the way of a pitfall: `text` in `file`, which becomes `without`."""

    trap: int  # its number in docs/pitfalls.md
    what: str
    file: str
    text: str
    without: str


def read_guards() -> list[Guard]:
    """The table beside this file: a guard for each number of each row."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))["guards"]
    return [Guard(trap=trap, **row) for row in rows for trap in row.pop("traps")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=int, nargs="+", help="numbers of pitfalls")
    args = parser.parse_args()
    chosen = [guard for guard in read_guards() if not args.only or guard.trap in args.only]
    with tempfile.TemporaryDirectory() as folder:
        if said := tests_fail(copied(Path(folder) / "whole"), sorted({guard.trap for guard in chosen})):
            sys.exit(f"The tests fail as they are, before anything is taken out: {said}")
        rows, unnoticed = [], 0
        for number, guard in enumerate(tqdm(chosen, unit="guard")):
            root = copied(Path(folder) / str(number))
            take_out(guard, root)
            said = tests_fail(root, [guard.trap])
            unnoticed += not said
            rows.append([str(guard.trap), guard.what, guard.file, said or "NOTICED NOTHING"])
            tqdm.write("  ".join(rows[-1]))
            shutil.rmtree(root)
    print(to_markdown_table(["pitfall", "guard taken out", "of", "its tests"], rows))
    sys.exit(bool(unnoticed))


def copied(folder: Path) -> Path:
    """A copy of the checkout's own files, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():  # a link to a folder is no file
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def take_out(guard: Guard, root: Path) -> None:
    path = root / guard.file
    path.write_text(without(guard, path.read_text(encoding="utf-8")), encoding="utf-8")


def without(guard: Guard, text: str) -> str:
    """The file's text with the guard taken out. SystemExit where it does not stand there once."""
    if text.count(guard.text) != 1:
        sys.exit(f"{guard.file}: {guard.text!r} stands there {text.count(guard.text)} times; mend {TABLE.name}.")
    return text.replace(guard.text, guard.without)


def tests_fail(root: Path, traps: list[int]) -> str:
    """What became of the tests named after those pitfalls; "" where all passed."""
    names = " or ".join(f"trap_{trap}_" for trap in traps)
    files = sorted({str(path) for path in (root / "tests").rglob("test_*.py") for trap in traps if _has(path, trap)})
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", names, *files],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=TIMEOUT_S * (1 if len(traps) == 1 else 4))
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)  # its own session: what the tests started ends too
        run.wait()
        return f"hang for {TIMEOUT_S} s"
    if run.returncode == _NOTHING_RAN or (run.returncode and b"error" in said.splitlines()[-1]):
        sys.exit(f"{names}: the tests could not be run:\n{said.decode(errors='replace')[-2000:]}")
    failed = [line.split("::")[-1].split(" - ")[0] for line in said.decode().splitlines() if line.startswith("FAILED")]
    return f"fail: {failed[0]}" if run.returncode else ""


def _has(path: Path, trap: int) -> bool:
    return f"test_trap_{trap}_" in path.read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
