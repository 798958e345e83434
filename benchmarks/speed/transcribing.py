"""How many pages a second does `transcribe --endpoint` read at `ocr-rl serve nano`, beside the engine in process?

    python -m benchmarks.speed.transcribing --pages 200 --out runs/transcribing

Both sides are started once, which is counted apart, and read the same slices of pages in turn (process, endpoint;
endpoint, process; …), each slice as a job of its own with 64 pages at once, its rows and Markdown written. So what else
the machine does befalls both alike; the ratio is the median over pairs of slices. What an `--endpoint` job starts for
itself (its client, the process that draws pages) is within its slices. Processor seconds are of all processes of a
side, the server's among them. A slice is a line of OUT/slices.jsonl: the same command goes on where it was stopped.
`--real FOLDER` reads the PDFs there too, after the typeset ones.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

OCR_RL = [sys.executable, "-m", "ocr_rl.cli"]
PORT = 8791
SIDES = ("process", "endpoint")


class Server:
    """vLLM's server in a process group of its own."""

    def __init__(self, port: int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}/v1"
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else the server would stay behind
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*OCR_RL, "serve", "nano", "--port", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> None:
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/models", timeout=5).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    sys.exit("the server ended; try `ocr-rl serve nano` by hand")
                time.sleep(0.5)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def rows(out: Path) -> list[dict[str, Any]]:
    """The whole rows of a job, or of this program."""
    path = out / "pages.jsonl" if out.is_dir() else out
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.is_file() else []


def typeset(out: Path, pages: int, kind: str) -> list[Path]:
    """PDFs of a page each, the same for the same number."""
    data = out / "data"
    if not data.is_dir():
        words = ["pages", "synth", "--kind", kind, "--n", str(pages), "--seed", "77"]
        subprocess.run([*OCR_RL, *words, "--pages-per-document", "1", "--out", str(data)], check=True)
    return sorted((data / "pdfs").glob("*.pdf"))


def processor_s(*pids: int) -> float:
    """Of processes and all that they started, as Linux counts it."""
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(stat.parent.name)
        ticks[pid] = sum(map(int, fields[11:15]))  # its own, and of children that have ended
        children.setdefault(int(fields[1]), []).append(pid)
    todo, total = list(pids), 0
    while todo:
        pid = todo.pop()
        total += ticks.get(pid, 0)
        todo += children.get(pid, [])
    return total / os.sysconf("SC_CLK_TCK")


# --- a side: a process of its own that reads slices -------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A reader whose engine stays open from job to job."""

    reader: Any
    ask: Any

    @property
    def model(self) -> str:
        return self.reader.model

    @property
    def settings(self) -> Any:
        return self.reader.settings

    def bound(self) -> Any:
        return self.reader.bound()

    @contextmanager
    def opened(self) -> Iterator[Any]:
        yield self.ask


def read_slices(side: str) -> None:
    """The life of a side: a line names a slice's files and folder, a line answers when it is read."""
    from ocr_rl.evaluate.readers import Asking, InProcess, at_endpoint
    from ocr_rl.transcription.job import transcribe_files

    answers, sys.stdout = sys.stdout, sys.stderr  # engines print too
    reader: Any = InProcess(model="nano", backend="vllm", asking=Asking())
    if side == "endpoint":
        reader = at_endpoint(f"http://127.0.0.1:{PORT}", model=None)
    with reader.opened() as ask:
        print("ready", file=answers, flush=True)
        for line in sys.stdin:
            pdfs, out = json.loads(line)
            start = time.perf_counter()
            failed = transcribe_files([Path(pdf) for pdf in pdfs], Kept(reader, ask), Path(out))
            print(json.dumps([time.perf_counter() - start, len(failed)]), file=answers, flush=True)


class Side:
    def __init__(self, name: str, log: Path) -> None:
        start = time.perf_counter()
        words = [sys.executable, "-m", "benchmarks.speed.transcribing", "--side", name]
        with log.open("ab") as lines:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=lines)
        self._line()
        self.start_s = time.perf_counter() - start

    def read(self, pdfs: Sequence[Path], out: Path) -> tuple[float, int]:
        """Wall seconds, and how many pages have no text."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps([list(map(str, pdfs)), str(out)]).encode() + b"\n")
        self.process.stdin.flush()
        seconds, failed = json.loads(self._line())
        return seconds, failed

    def _line(self) -> bytes:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return line or sys.exit("a side ended; see log")  # type: ignore[func-returns-value]


# --- both in turn -----------------------------------------------------------------------------------------------------


def compare(out: Path, pdfs: Sequence[Path], size: int) -> None:
    slices = [pdfs[start : start + size] for start in range(0, len(pdfs), size)]
    done = {(row["side"], row["slice"]) for row in rows(out / "slices.jsonl")}
    todo = [
        (number, side)
        for number in range(len(slices))
        for side in (SIDES if number % 2 == 0 else SIDES[::-1])
        if not done.issuperset((side, number) for side in SIDES)  # half a pair is read anew: its time is another
    ]
    if todo:
        _read(out, pdfs[:2], slices, todo)
    print(json.dumps(summary(out), indent=2))


def _read(out: Path, warm: Sequence[Path], slices: Sequence[Sequence[Path]], todo: Sequence[tuple[int, str]]) -> None:
    start = time.perf_counter()
    server = Server(PORT)
    try:
        server.wait()
        server_s = time.perf_counter() - start
        sides = {name: Side(name, out / "log") for name in SIDES}
        for name, side in sides.items():
            shutil.rmtree(out / "warm", ignore_errors=True)
            side.read(warm, out / "warm")
            print(f"{name}: started in {side.start_s + server_s * (name == 'endpoint'):.0f} s", flush=True)
        for number, name in todo:
            place, side = out / name / f"{number:04}", sides[name]
            shutil.rmtree(place, ignore_errors=True)  # half a slice says nothing
            pids = (side.process.pid, server.process.pid)[: 1 + (name == "endpoint")]
            before = processor_s(*pids)
            wall_s, failed = side.read(slices[number], place)
            used, of_slice = processor_s(*pids) - before, rows(place)
            line = {"side": name, "slice": number, "pages": len(of_slice), "failed": failed}
            line |= {"tokens": sum(row["tokens"] for row in of_slice), "wall_s": wall_s, "processor_s": used}
            with (out / "slices.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
        for side in sides.values():
            side.process.kill()
            side.process.wait()
    finally:
        server.kill()


def summary(out: Path) -> dict[str, Any]:
    """Ratios are the endpoint's over the process's, medians over pairs of slices."""
    of = {side: {row["slice"]: row for row in rows(out / "slices.jsonl") if row["side"] == side} for side in SIDES}
    pairs = sorted(of["process"].keys() & of["endpoint"].keys())
    texts = [_texts(out, side, pairs) for side in SIDES]
    seconds = {name: [of["process"][k][name] / of["endpoint"][k][name] for k in pairs] for name in _SECONDS}
    return {
        "pages": {side: len(_texts(out, side, pairs)) for side in SIDES},
        "same texts": sum(texts[1].get(key) == text for key, text in texts[0].items()),
        "slices": len(pairs),
        "pages a second": {
            side: round(sum(of[side][k]["pages"] for k in pairs) / sum(of[side][k]["wall_s"] for k in pairs), 3)
            for side in SIDES
        },
        "processor ms a page": {
            side: round(
                1e3 * sum(of[side][k]["processor_s"] for k in pairs) / sum(of[side][k]["pages"] for k in pairs), 1
            )
            for side in SIDES
        },
        "ratio of pages a second": [round(value, 3) for value in _spread(seconds["wall_s"])],
        "ratio of pages a processor second": [round(value, 3) for value in _spread(seconds["processor_s"])],
        "spread": "median, least, most",
    }


_SECONDS = ("wall_s", "processor_s")


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


def _texts(out: Path, side: str, slices: Sequence[int]) -> dict[tuple[str, int], str]:
    return {(row["pdf"], row["page"]): row["text"] for k in slices for row in rows(out / side / f"{k:04}")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--slice", type=int, default=128, help="pages, two of the batches in process")
    parser.add_argument("--kind", default="nano")
    parser.add_argument("--real", type=Path, help="a folder of PDFs of one page")
    parser.add_argument("--out", type=Path, default=Path("runs/transcribing"))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        read_slices(given.side)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    real = sorted(given.real.rglob("*.pdf")) if given.real else []
    compare(given.out, [*typeset(given.out, given.pages, given.kind), *real], given.slice)


if __name__ == "__main__":
    main()
