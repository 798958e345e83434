"""How fast is `transcribe --endpoint` beside the engine in process, and is every page there once after kills?

    python -m benchmarks.speed.transcribing --pages 200

Typesets pages and has them transcribed: by an engine in process, at `ocr-rl serve nano`, and once more there with the
client and the server killed on the way. Prints wall and processor seconds, the client's peak memory, and what became of
the pages.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

OCR_RL = [sys.executable, "-m", "ocr_rl.cli"]
PORT = 8791
URL = f"http://127.0.0.1:{PORT}/v1"


class Server:
    """vLLM's server in a process group of its own."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*OCR_RL, "serve", "nano", "--port", str(PORT)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> None:
        while True:
            try:
                urllib.request.urlopen(f"{URL}/models", timeout=5).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    sys.exit("the server ended; try `ocr-rl serve nano` by hand")
                time.sleep(0.5)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def processor_s(self) -> float:
        """Of the group so far, as Linux counts it."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == self.process.pid:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def transcribe(pdfs: Path, out: Path, *how: str) -> subprocess.Popen[bytes]:
    words = [*OCR_RL, "transcribe", str(pdfs), "--out", str(out), *how]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rows(out: Path) -> list[dict]:
    path = out / "pages.jsonl"
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def timed(process: subprocess.Popen[bytes]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak memory in MB of a child and its own."""
    start = time.perf_counter()
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def killed(pdfs: Path, out: Path, server: Server, count: int, clients: int, servers: int) -> None:
    """The same job with kills at random places, spread over the pages."""
    draw = random.Random(0)
    at = sorted(draw.sample(range(1, count), clients + servers))
    of_server = set(draw.sample(at, servers))
    process = transcribe(pdfs, out, "--endpoint", URL)
    for place in at:
        while len(rows(out)) < place and process.poll() is None:
            time.sleep(0.1)
        if place in of_server:
            server.kill()
            server.start()
        else:
            process.kill()
            process.wait()
            server.wait()
            process = transcribe(pdfs, out, "--endpoint", URL)
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--kind", default="nano")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--server-kills", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=["endpoint", "in process", "kills"])
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        made = [
            "pages",
            "synth",
            "--kind",
            given.kind,
            "--n",
            str(given.pages),
            "--seed",
            "77",
            "--out",
            place / "data",
        ]
        subprocess.run([*OCR_RL, *map(str, made)], check=True)
        run(given, place / "data" / "pdfs", place)


def run(given: argparse.Namespace, pdfs: Path, place: Path) -> None:
    texts: dict[str, dict[str, str]] = {}
    if "in process" in given.parts:
        wall, processor, memory = timed(transcribe(pdfs, place / "process"))
        print(f"in process: {given.pages / wall:.2f} pages/s, {processor:.0f} processor s, {memory:.0f} MB", flush=True)
        texts["in process"] = {row["id"]: row["text"] for row in rows(place / "process")}
    server = Server()
    try:
        server.wait()
        before = server.processor_s()
        wall, processor, memory = timed(transcribe(pdfs, place / "endpoint", "--endpoint", URL))
        used = server.processor_s() - before
        print(
            f"endpoint: {given.pages / wall:.2f} pages/s, {processor:.0f} + {used:.0f} processor s, {memory:.0f} MB "
            "(client)",
            flush=True,
        )
        texts["endpoint"] = {row["id"]: row["text"] for row in rows(place / "endpoint")}
        if "kills" in given.parts:
            killed(pdfs, place / "kills", server, given.pages, given.kills, given.server_kills)
            ids = [row["id"] for row in rows(place / "kills")]
            print(f"kills: {len(ids)} rows of {len(set(ids))} pages", flush=True)
            texts["kills"] = {row["id"]: row["text"] for row in rows(place / "kills")}
    finally:
        server.kill()
    own = texts["endpoint"]
    for name, others in texts.items():
        print(f"same text as at the endpoint, {name}: {sum(own[id] == text for id, text in others.items())}")
    print(f"peak memory of this program: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
