"""Is every page there once, with its own text, whatever is killed while `transcribe --endpoint` reads?

    python -m benchmarks.robustness.transcribe_kills --pages 1000 --kills 10 --server-kills 3

`ocr-rl serve nano` reads typeset pages; after numbers of rows that are drawn beforehand the client or the server is
killed (SIGKILL) and started again. The texts are compared with those that `--beside` holds, rows of a job that nobody
killed (the folder of `speed.transcribing` with its slices, or of a `transcribe`); without it, with those of a job at
the same server. Prints one JSON object. Stopped itself, the same command goes on with the kills that are left.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.speed.transcribing import OCR_RL, Server, rows, typeset

PORT = 8792


def transcribe(pdfs: Path, out: Path, url: str) -> subprocess.Popen[bytes]:
    words = [*OCR_RL, "transcribe", str(pdfs), "--out", str(out), "--endpoint", url]
    with out.with_name(out.name + ".log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log)


def kills(pages: int, clients: int, servers: int) -> list[tuple[int, str]]:
    """After how many rows who is killed: the same for the same numbers."""
    draw = random.Random(0)
    at = sorted(draw.sample(range(1, pages), clients + servers))
    of_server = set(draw.sample(at, servers))
    return [(place, "server" if place in of_server else "client") for place in at]


def killed(pdfs: Path, out: Path, server: Server, todo: list[tuple[int, str]]) -> Iterator[tuple[str, int]]:
    """Read all pages; who was killed, and how many rows there were then."""
    process = transcribe(pdfs, out, server.url)
    for place, who in todo:
        if _lines(out) >= place:  # of an earlier call
            continue
        while _lines(out) < place and process.poll() is None:
            time.sleep(0.1)
        if process.poll() is not None:
            sys.exit(f"the job ended with {process.returncode}: see {out}.log")
        yield who, _lines(out)
        if who == "server":
            server.kill()
            server.start()
        else:
            process.kill()
            process.wait()
            server.wait()  # it may be starting; a client that finds none ends with a sentence
            process = transcribe(pdfs, out, server.url)
    if process.wait() != 0:
        sys.exit(f"the job ended with {process.returncode}: see {out}.log")


def _lines(out: Path) -> int:
    path = out / "pages.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def texts(place: Path) -> dict[tuple[str, int], str]:
    """Of every row below a folder."""
    files = sorted(place.rglob("pages.jsonl"))
    return {(Path(row["pdf"]).name, row["page"]): row["text"] for path in files for row in rows(path)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--kind", default="nano")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--server-kills", type=int, default=3)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/transcribe_kills"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    report = run(given)
    print(json.dumps(report, indent=2))
    sys.exit(not report["all there once with their own text"])


def run(given: argparse.Namespace) -> dict[str, Any]:
    pdfs = typeset(given.out, given.pages, given.kind)
    out, start = given.out / "killed", time.perf_counter()
    server = Server(PORT)
    try:
        server.wait()
        with (given.out / "kills.jsonl").open("a") as log:
            todo = kills(given.pages, given.kills, given.server_kills)
            for who, count in killed(pdfs[0].parent, out, server, todo):
                print(json.dumps({"killed": who, "rows": count}), file=log, flush=True)
        if given.beside is None and transcribe(pdfs[0].parent, given.out / "alone", server.url).wait() != 0:
            sys.exit("the job that nobody killed ended: see alone.log")
    finally:
        server.kill()
    whole, beside = rows(out), texts(given.beside or given.out / "alone")
    keys = [(Path(row["pdf"]).name, row["page"]) for row in whole]
    same = sum(beside.get(key) == row["text"] for key, row in zip(keys, whole, strict=True))
    log = [json.loads(line) for line in (given.out / "kills.jsonl").read_text().splitlines()]
    return {
        "pages": len(pdfs),
        "kills of the client": sum(row["killed"] == "client" for row in log),
        "kills of the server": sum(row["killed"] == "server" for row in log),
        "rows": len(whole),
        "pages with a row": len(set(keys)),
        "files of Markdown": len(list(out.glob("*.md"))),
        "texts as in a job that nobody killed": same,
        "all there once with their own text": len(whole) == len(set(keys)) == same == len(pdfs),
        "seconds": round(time.perf_counter() - start),
    }


if __name__ == "__main__":
    main()
