"""Everything that only a GPU can show, by one command that goes on where it was cut off.

    python -m benchmarks.gpu [PART ...] [--out FOLDER] [--work FOLDER] [--again]     # make gpu
    python -m benchmarks.gpu --dry-run                                               # all parts, tiny, on a CPU

Each part runs in a process of its own, for at most eight minutes, and leaves PART.json in FOLDER; one that is there, of
this very device, and stands is skipped. After each, docs/gpu.md is written from what is there. Exits 1 where a part
failed, or what it asks does not hold (a test, a bound of parity). It needs torch, transformers and what the project
needs; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu.page import TEXTS, is_done, read_results, stands, write_page
from ocr_rl.run import environment, write_atomically

LIMIT_S = 480
RESULTS = Path(__file__).parent / "results"
NAMES = tuple(TEXTS)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="*", help=f"{', '.join(NAMES)}; by default all")
    parser.add_argument("--out", type=Path, help=f"where results go; by default {RESULTS.name}, beside this file")
    parser.add_argument("--work", type=Path, default=Path("runs/gpu"), help="for runs and made policies")
    parser.add_argument("--again", action="store_true", help="also parts that are there")
    parser.add_argument("--dry-run", action="store_true", help="all in this process, at the sizes of a test")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if unknown := sorted(set(args.part) - set(NAMES)):
        parser.error(f"there is no part {unknown[0]!r}; name {', '.join(NAMES)}")
    parts = [name for name in NAMES if name in (args.part or NAMES)]
    if args.dry_run:
        if args.out and args.out.resolve() == RESULTS.resolve():
            parser.error("--dry-run would write over what a GPU has measured; name another --out")
        with tempfile.TemporaryDirectory() as folder:
            return _run_all(parts, args.out or Path(folder) / "results", Path(folder), again=True, dry_run=True)
    import torch

    if not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; --dry-run goes through all parts on a CPU")
    out = args.out or RESULTS
    if args.here:
        (name,) = parts
        _keep(out, name, run_part(name, args.work / name, dry_run=False))
        return 0
    return _run_all(parts, out, args.work, again=args.again, dry_run=False)


def run_part(name: str, work: Path, *, dry_run: bool) -> dict[str, Any]:
    """A part's figures, in this process, with what it ran on."""
    from benchmarks.gpu.parts import DRY, PARTS, Sizes
    from benchmarks.gpu.update import device_name

    work.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    result = PARTS[name](DRY if dry_run else Sizes(), work)
    seconds = round(time.perf_counter() - started, 1)
    return {"part": name, "device": device_name(), "took_s": seconds, "environment": environment(), "result": result}


def _run_all(parts: Sequence[str], out: Path, work: Path, *, again: bool, dry_run: bool) -> int:
    from benchmarks.gpu.update import device_name

    failed = 0
    for name in parts:
        known = read_results(out, device=device_name()).get(name)
        if known and is_done(known) and not again:
            print(f"{name}: done on {known['environment']['date']}, skipped", flush=True)
            continue
        print(f"{name} ...", flush=True)
        if dry_run:
            _keep(out, name, run_part(name, work / name, dry_run=True))
        else:
            _run_apart(name, out, work)
            write_page(out)
        answer = read_results(out).get(name)
        failed += answer is None or not stands(answer)
        said = "its figures cannot be shown" if answer is None else json.dumps(answer.get("result") or "failed")
        print(f"{name}: {said}", flush=True)
    return 1 if failed else 0


def _run_apart(name: str, out: Path, work: Path) -> None:
    """Run a part in a process of its own; where it failed, its file says so."""
    command = [sys.executable, "-m", "benchmarks.gpu", name, "--here", "--out", str(out), "--work", str(work)]
    work.mkdir(parents=True, exist_ok=True)
    with (work / f"{name}.log").open("w") as log:
        run = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = run.wait(timeout=LIMIT_S)
            why = f"ended with {code}"
        except subprocess.TimeoutExpired:
            code, why = 1, f"took over {LIMIT_S} seconds"
        finally:  # at Ctrl-C too
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)  # what it started too: a server would keep the GPU's memory
            run.wait()
    if code:
        last = [line for line in (work / f"{name}.log").read_text(errors="replace").splitlines() if line.strip()][-1:]
        _keep(out, name, {"part": name, "failed": ": ".join([why, *last])[:500], "environment": environment()})


def _keep(out: Path, name: str, answer: dict[str, Any]) -> None:
    write_atomically(out / f"{name}.json", json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
