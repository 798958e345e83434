"""Two processes that take steps in turn, so that what else the machine does costs both: a pair is a step of each.

A side gets its work as one JSON line on stdin, then a line for each step that it shall take; it answers each with a
JSON line, and waits in between. `ask` is for a side that answers once. It knows nothing about what a step is.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from statistics import median, quantiles
from typing import Any

from ocr_rl.contract import UserError

Answer = dict[str, Any]


class Side(AbstractContextManager["Side"]):
    """One of them. UserError with its last words where it fails."""

    def __init__(self, command: Sequence[str], work: Answer, *, threads: int) -> None:
        self._command = command
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  `__exit__` closes it
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        environment = {**os.environ, **counts, "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, env=environment
            )
        except OSError as error:
            self._words.close()
            raise _unstarted(command, error) from None
        self._say(json.dumps(work))

    def step(self) -> Answer:
        """What its next step was like."""
        self._say("step")
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            raise self._failure()
        return json.loads(line)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._words.close()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None

    def _failure(self) -> UserError:
        self._process.wait()
        self._words.seek(0)
        return _failed(self._command, self._words.read())


def ask(command: Sequence[str], work: Answer) -> Answer:
    """The one answer of a side. UserError with its last words if it fails."""
    try:
        done = subprocess.run(command, input=json.dumps(work).encode(), capture_output=True)
    except OSError as error:
        raise _unstarted(command, error) from None
    if done.returncode:
        raise _failed(command, done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _unstarted(command: Sequence[str], error: OSError) -> UserError:
    return UserError(f"{command[0]} cannot be started ({error.strerror}); name a Python that has TRL 1.16.")


def _failed(command: Sequence[str], words: bytes) -> UserError:
    lines = words.decode(errors="replace").strip().splitlines()
    return UserError(f"{' '.join(command)} failed: {lines[-1] if lines else 'it said nothing'}")


def pairs(sides: Mapping[str, Side], n: int) -> Iterator[dict[str, Answer]]:
    """A step of each side, `n` times; who begins takes turns too. A first pair warms up and is left out."""
    for number in range(n + 1):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        answers = {name: sides[name].step() for name in order}
        if number:
            yield {name: answers[name] for name in sides}


def compared(rows: Sequence[Mapping[str, Answer]], name: str) -> Answer:
    """Medians of a figure on both sides, and of the second side's over the first's of each pair, with their spread."""
    first, second = rows[0]
    ratios = [row[second][name] / row[first][name] for row in rows if row[first][name]]
    line: Answer = {side: round(median(row[side][name] for row in rows), 4) for side in (first, second)}
    if len(ratios) > 1:
        low, middle, high = quantiles(ratios, n=4, method="inclusive")
        line |= {"ratio": round(middle, 2), "half_of_pairs": [round(low, 2), round(high, 2)]}
        line["all_pairs"] = [round(min(ratios), 2), round(max(ratios), 2)]
    return line
