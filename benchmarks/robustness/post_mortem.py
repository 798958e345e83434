"""`ocr-rl look` on a large run and on hostile transcripts, in a real browser.

    python -m benchmarks.robustness.post_mortem --browser chromium
    python -m benchmarks.robustness.post_mortem --browser chromium --steps 20 --hostile-only

A made run (300 steps x 8 pages x 28 samples: references with words changed, as a log has them) is rendered and opened:
the time to render it, its size, the time until the page stands there. Then a run whose transcripts try to leave a mark
on the page, one after the other, and whose names and reasons try the same; the same payloads pasted raw into a page
must leave marks, or the trial proves nothing. Prints one JSON object; exits 1 where something acted or was not shown.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from benchmarks.robustness.injection import MARK, PAYLOADS, marks
from ocr_rl.contract import Page
from ocr_rl.look.post_mortem import look
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.synth.make import make_dataset
from ocr_rl.rollout.token_trace import pack

HOSTILE = 50
WRAPPED = ("{}", "<table><tr><td>{}</td></tr></table>", "```\n{}\n```", "# {}\n\n[x](javascript:{})")
_SHOWN = re.compile(r'data-ms="(\d+)"')


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--kind", default="report")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pages", type=int, default=8, help="a step")
    parser.add_argument("--samples", type=int, default=28)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--hostile-only", action="store_true")
    given = parser.parse_args()
    result: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        place = Path(folder)
        list(make_dataset(given.kind, n=40, seed=4, out=place / "data", pages_per_document=8))
        pages = load_dataset(place / "data")
        if not given.hostile_only:
            result["large"] = large(place / "large", pages, given)
        result["hostile"] = hostile(place / "hostile", pages, given.browser)
    print(json.dumps(result, indent=1))
    if result["hostile"]["acted"] or result["hostile"]["not_shown"] or not result["hostile"]["acted_when_raw"]:
        sys.exit("a transcript acted, was not shown, or the control did not act")


# ---- a large run


def large(run: Path, pages: Sequence[Page], given: argparse.Namespace) -> dict[str, Any]:
    """Figures of a made run: seconds, megabytes, milliseconds until the browser shows it."""
    rng = random.Random(0)
    begin(run, pages[0].pdf.parents[0], given.steps)
    written = {page.id: readings(page, rng) for page in pages}
    for step in range(1, given.steps + 1):
        drawn = rng.sample(list(pages), given.pages)
        rows = [group(page.id, written[page.id], step / given.steps, given.samples, rng) for page in drawn]
        write_step(run, step, rows)
    started = time.perf_counter()
    index = look(run, run / "look", workers=given.workers)
    wall, cpu = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    size = sum(path.stat().st_size for path in index.parent.rglob("*") if path.is_file())
    some = json.loads((run / "groups" / f"{given.steps:06d}.jsonl").open(encoding="utf-8").readline())["page"]
    return {
        "groups": given.steps * given.pages,
        "samples": given.steps * given.pages * given.samples,
        "characters_a_sample": round(sum(len(page.reference or "") for page in pages) / len(pages)),
        "log_mb": round(sum(path.stat().st_size for path in (run / "groups").iterdir()) / 1e6, 1),
        "render_s": round(wall, 1),
        "render_cpu_s_without_workers": round(cpu.ru_utime + cpu.ru_stime, 1),
        "size_mb": round(size / 1e6, 1),
        "index_mb": round(index.stat().st_size / 1e6, 2),
        "run_shown_ms": shown_ms(given.browser, index.as_uri(), tries=3),
        "group_shown_ms": shown_ms(given.browser, f"{index.as_uri()}#{given.steps}/{quote(some, safe='')}", tries=3),
        "browser_alone_ms": shown_ms(given.browser, "about:blank", tries=3, alone=True),
    }


def begin(run: Path, pdfs: Path, steps: int) -> None:
    """The files that a run begins with; `pdfs` lies in the dataset of its pages."""
    dataset = next(folder for folder in (pdfs, *pdfs.parents) if folder.name == "pdfs").parent
    (run / "groups").mkdir(parents=True)
    rewards = [{"name": "pass_degree", "weight": 4.0}, {"name": "budget", "weight": 1.0}]
    recipe = {
        "seed": 0,
        "policy": {"path": "nano"},
        "grpo": {"steps": steps, "pages": {"dir": str(dataset)}},
        "rewards": rewards,
        "gates": [{"name": "repetition", "at_least": 0.7, "holds": None}],
    }
    (run / "config.json").write_text(json.dumps(recipe), encoding="utf-8")


READINGS = 100  # of a page, from the worst to the best; a step draws from some of them
Reading = tuple[str, dict[str, Any]]  # a text and its trace


def readings(page: Page, rng: random.Random) -> list[Reading]:
    """Transcripts of a page, of ever fewer wrong words."""
    shares = (0.3 * (1 - k / READINGS) for k in range(READINGS))
    return [(text, trace(text, rng)) for text in (misread(page.reference or "", share, rng) for share in shares)]


def group(page: str, written: Sequence[Reading], skill: float, n: int, rng: random.Random) -> dict[str, Any]:
    """A row of the log: `n` different transcripts, the better the larger `skill` is."""
    first = round(skill * (len(written) - n - 10))
    chosen = rng.sample(written[first : first + n + 10], n)
    return row(page, chosen, [round(rng.random(), 6) for _ in range(n)])


def row(page: str, written: Sequence[Reading], rewards: Sequence[float]) -> dict[str, Any]:
    n, mean = len(written), sum(rewards) / len(rewards)
    samples = [{"text": text, "finish": "stop", "tokens": kept["n"], "trace": kept} for text, kept in written]
    return {
        "page": page,
        "rewards": rewards,
        "advantages": [round(reward - mean, 6) for reward in rewards],
        "scores": {
            "pass_degree": {"values": rewards, "parts": {"present": rewards, "table": rewards}},
            "budget": {"values": [1.0] * n},
            "repetition": {"values": [1.0] * n},
        },
        "samples": samples,
    }


def trace(text: str, rng: random.Random) -> dict[str, Any]:
    """Tokens of four characters."""
    lengths = [min(4, len(text) - at) for at in range(0, len(text), 4)]
    sampler = [-rng.expovariate(4) for _ in lengths]
    learner = [logprob + rng.gauss(0, 1e-3) for logprob in sampler]
    return pack(lengths=lengths, sampler=sampler, learner=learner, entropy=[-logprob for logprob in sampler])


def misread(text: str, share: float, rng: random.Random) -> str:
    words = re.split(r"(\s+)", text)
    return "".join(word[::-1] if word.isalnum() and rng.random() < share else word for word in words)


def write_step(run: Path, step: int, rows: Sequence[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "groups" / f"{step:06d}.jsonl").write_text(lines, encoding="utf-8")
    mean = sum(map(sum, (row["rewards"] for row in rows))) / sum(len(row["rewards"]) for row in rows)
    figures = {f"figure {k}": random.Random(f"{step}/{k}").random() for k in range(40)}
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        metrics.write(json.dumps({"step": step, "reward": mean, "update_s": 4.0, "generated": 9000, **figures}) + "\n")


# ---- hostile transcripts


def hostile(run: Path, pages: Sequence[Page], browser: str) -> dict[str, Any]:
    """Which of HOSTILE transcripts act when they are shown, one after the other."""
    payloads = [wrap.replace("{}", payload) for wrap in WRAPPED for payload in PAYLOADS][:HOSTILE]
    texts = [payload.format(mark=MARK.format(n=n)) + f"\n\nthe end of {n}" for n, payload in enumerate(payloads)]
    named = run.with_name(f"run {quote(texts[0][:60], safe='<> =()')}")
    begin(named, pages[0].pdf.parents[0], 2)
    rng = random.Random(0)
    rewards = [k / len(texts) for k in range(len(texts))]
    written = [(text, trace(text, rng)) for text in texts]
    bad = row(f"{texts[3]}:p1", written[:2], rewards[:2])  # a page that is not there, with a bad name
    bad["scores"] = {text: {"values": [0.1, 0.2], "parts": {text: [0.1, 0.2]}} for text in texts[:4]}
    bad["samples"][0] |= {"trace": {"n": 1, "keeps": [texts[1]], "data": texts[2]}, "finish": texts[3]}
    bad["best"] = {"text": texts[1], "reward": 0.9, "advantage": 1, "why": dict.fromkeys(texts[:3], texts[4])}
    write_step(named, 1, [row(pages[0].id, written, rewards), bad])
    with (named / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        metrics.write(json.dumps({"step": 2, "reward": 0.5, texts[0]: 1.0, "tripwires": [texts[3], texts[1]]}) + "\n")
        metrics.write(json.dumps({"step": 3, "reward": 0.5, texts[0]: 2.0}) + "\n")
    index = look(named, run / "look", workers=1)
    acted, lost = [], []
    places = [f"#1/{quote(pages[0].id, safe='')}/{k + 1}" for k in range(len(texts))]
    for n, place in enumerate([*places, "", f"#1/{quote(bad['page'], safe='')}/1"]):
        document = browse(browser, index.as_uri() + place, "--virtual-time-budget=6000")
        acted += marks(document)
        state = "run" if not place else "group"
        words = re.sub(r"<[^>]*>", "", document)  # a text stands there token by token
        lost += [] if f'data-state="{state}"' in document and (n >= HOSTILE or f"the end of {n}" in words) else [n]
    raw = run / "raw.html"
    raw.write_text("<!doctype html><title>raw</title>" + "\n".join(texts[:7]), encoding="utf-8")
    control = marks(browse(browser, raw.as_uri(), "--virtual-time-budget=3000"))
    return {"transcripts": len(texts), "acted": acted, "not_shown": lost, "acted_when_raw": control}


def shown_ms(browser: str, url: str, *, tries: int, alone: bool = False) -> dict[str, int]:
    """The least of several: milliseconds of the whole browser, and of the page until it said that it stands there."""
    walls, pages = [], []
    for _ in range(tries):
        started = time.perf_counter()
        document = browse(browser, url, *(() if alone or "#" not in url else ("--virtual-time-budget=2000",)))
        walls.append(round(1000 * (time.perf_counter() - started)))
        pages += [int(ms) for ms in _SHOWN.findall(document)]
    return {"browser": min(walls), **({"page": min(pages)} if pages else {})}


def browse(browser: str, url: str, *how: str) -> str:
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *how, "--dump-dom", url]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout


if __name__ == "__main__":
    main()
