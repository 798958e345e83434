"""Has a `bench` of five candidates the same rows whether it was killed or not?

    python -m benchmarks.robustness.bench_kills --pages 24 --kills 6 --out runs/bench_kills

Candidates: a folder (the true transcripts), a second engine (Tesseract or RapidOCR where it is installed, else a folder
of damaged transcripts), the PDFs' text layer, the embedded policy in this process and the same at `ocr-rl serve nano`,
with a price; policies read each page twice. One bench is left alone, another is killed (SIGKILL) after numbers of lines
that are drawn beforehand, and gone on with. Answers and verdicts must be the same lines but for seconds. Prints one
JSON object with what the report says of cost and speed; exits 1 where something differs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.robustness.ray_nodes import Answers
from benchmarks.speed.transcribing import OCR_RL, Server

REPEATS = 2
PORT = 8793


def dataset(out: Path, pages: int) -> Path:
    data = out / "data"
    if not data.is_dir():
        words = ["pages", "synth", "--kind", "nano", "--n", str(pages), "--seed", "78", "--scan", "0"]
        subprocess.run([*OCR_RL, *words, "--out", str(data)], check=True)
    return data


def folders(data: Path, out: Path) -> dict[str, Path]:
    """The references in the public layout, and once more without every fifth character."""
    for path in sorted((data / "pdfs").glob("*.pdf")):
        text = path.with_suffix(".md").read_text(encoding="utf-8")
        for name, content in (("true", text), ("damaged", "".join(c for k, c in enumerate(text) if k % 5))):
            place = out / name / f"{path.stem}_pg1_repeat1.md"
            place.parent.mkdir(exist_ok=True)
            place.write_text(content, encoding="utf-8")
    return {name: out / name for name in ("true", "damaged")}


def candidates(data: Path, out: Path, url: str) -> list[str]:
    made = folders(data, out)
    words = ["--candidate", f"true={made['true']}"]
    second = "tesseract" if shutil.which("tesseract") else "rapidocr" if find_spec("rapidocr") else ""
    words += ["--engine", second] if second else ["--candidate", f"damaged={made['damaged']}"]
    words += ["--engine", "text_layer", "--model", "policy=nano", "--endpoint", f"served={url},price=0.1/0.4"]
    return words


def bench(data: Path, out: Path, words: list[str]) -> subprocess.Popen[bytes]:
    with out.with_name(out.name + ".log").open("ab") as log:
        given = [*OCR_RL, "bench", str(data), *words, "--repeats", str(REPEATS), "--out", str(out)]
        return subprocess.Popen(given, stdout=log, stderr=log)


def lines(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob("candidates/*/*.jsonl"))


def killed(data: Path, out: Path, words: list[str], kills: int, of: int) -> list[int]:
    """How many lines there were at each kill."""
    at = []
    for place in sorted(random.Random(0).sample(range(of), kills)):
        process = bench(data, out, words)
        while lines(out) < place and process.poll() is None:
            time.sleep(0.05)
        if process.poll() is None:
            process.kill()
            process.wait()
            at.append(lines(out))
    if bench(data, out, words).wait() != 0:
        sys.exit(f"the bench ended: see {out}.log")
    return at


def rows(out: Path) -> dict[str, list[str]]:
    """Answers and verdicts of each candidate in order of their pages, without what a clock says."""
    return {
        path.relative_to(out).as_posix(): sorted(
            json.dumps(_timeless(json.loads(line)), sort_keys=True) for line in path.read_text().splitlines()
        )
        for path in sorted(out.glob("candidates/*/*.jsonl"))
    }


def _timeless(row: Any) -> Any:
    if isinstance(row, dict):
        return {name: _timeless(value) for name, value in row.items() if name != "seconds"}
    return [_timeless(value) for value in row] if isinstance(row, list) else row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=24)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument(
        "--fake", action="store_true", help="a server that knows no policy, for a machine short of memory"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench_kills"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    data = dataset(given.out, given.pages)
    server = Answers(0.05) if given.fake else Server(PORT)
    words = candidates(data, given.out, server.url)
    try:
        if isinstance(server, Server):
            server.wait()
        if bench(data, given.out / "alone", words).wait() != 0:
            sys.exit("the bench that nobody killed ended: see alone.log")
        alone = rows(given.out / "alone")
        shutil.rmtree(given.out / "killed", ignore_errors=True)
        at = killed(data, given.out / "killed", words, given.kills, lines(given.out / "alone"))
    finally:
        if isinstance(server, Server):
            server.kill()
    own = rows(given.out / "killed")
    differing = {name: sum(a != b for a, b in zip(alone[name], own.get(name, []), strict=False)) for name in alone}
    counts = {name: len(own.get(name, [])) for name in alone}
    equal = own == alone
    notes = [
        line
        for line in (given.out / "killed/report.md").read_text().splitlines()
        if "a page:" in line or "pages a second" in line
    ]
    report = {
        "pages": given.pages,
        "repeats": REPEATS,
        "killed after lines": at,
        "rows": counts,
        "rows that differ": {name: count for name, count in differing.items() if count},
        "all the same": equal,
        "of the report": notes,
    }
    print(json.dumps(report, indent=2))
    sys.exit(not equal)


if __name__ == "__main__":
    main()
