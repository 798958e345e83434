"""How well the embedded policy reads: held-out pages, other looks, against other engines on the same images.

    python -m benchmarks.policy.reading --model nano --engines tesseract rapidocr --out runs/reading

Held-out pages are of the kind that the policy was trained on, four to ten lines each, from documents it never saw. The
other sets change one thing each: typefaces it never saw, a scanner of three strengths, the image at another size.
Engines get the same PDFs at the size they ask for; they write plain text, so table tests are
not for them. Prints Markdown, writes reading.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from typing import Any

from ocr_rl import config
from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.engines import open_engine, read_pages
from ocr_rl.evaluate.figures import summary
from ocr_rl.evaluate.results import PageResult, judge_page
from ocr_rl.evaluate.tables import summary_table, to_markdown_table, type_table
from ocr_rl.learn.algos.sft import reference_rows, target_text
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.probe import looks
from ocr_rl.models.load import model_folder
from ocr_rl.pages.source import open_pages
from ocr_rl.pages.text_layer import layers
from ocr_rl.pages.workers import Refusal
from ocr_rl.policy import open_origin, open_policy
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.run import environment, write_atomically
from ocr_rl.train import evaluate_policy

HELD_OUT = config.Typeset(synth="nano", n=400, seed=3000, pages_per_document=1)
LOOKS: dict[str, dict[str, Any]] = {
    "typefaces never seen": {"fonts": "unseen"},
    "words never seen (Latin)": {"words": "latin"},
    "scanner, strength 0.5": {"scan": 0.5},
    "scanner, strength 1": {"scan": 1.0},
    "scanner, strength 2": {"scan": 2.0},
}
NUM_LINES = range(4, 11)
WORDS_ALONE = ("present", "order", "table", "math")  # what a page that is not read cannot pass
SAME_LINE_PT = 6.0  # type is 14 pt and more
OTHER_SIZES_PX = (252, 308)  # the policy's own is 280
PAGE_TYPES: dict[str, Callable[[str], bool]] = {
    "prose alone": lambda text: not any(mark in text for mark in ("<table>", "# ", r"\[")),
    "with a heading": lambda text: "# " in text,
    "with a table": lambda text: "<table>" in text,
    "with a formula": lambda text: r"\[" in text,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--engines", nargs="*", default=["tesseract", "rapidocr"])
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs/reading"))
    args = parser.parse_args()
    try:
        print("engines:", ", ".join(open_engine(engine).version() for engine in args.engines) or "none")
    except UserError as missing:
        sys.exit(str(missing))
    held_out = held_out_pages(HELD_OUT, args.pages, args.out)
    started = time.perf_counter()
    rows = {args.model: read(args.model, held_out)}
    seconds = time.perf_counter() - started
    for engine in args.engines:
        rows[engine] = engine_rows(engine, held_out)
    other = {
        name: read(args.model, held_out_pages(HELD_OUT.model_copy(update=look), args.pages, args.out))
        for name, look in LOOKS.items()
    }
    for px in OTHER_SIZES_PX:
        other[f"image at {px} px"] = read(args.model, held_out, longest_px=px)
    by_type = {
        name: [row for row, page in zip(rows[args.model], held_out, strict=True) if belongs(page.reference or "")]
        for name, belongs in PAGE_TYPES.items()
    }
    words = {name: [of_types(row, WORDS_ALONE) for row in read_rows] for name, read_rows in rows.items()}
    found = {
        "env": environment(),
        "pages": len(held_out),
        "seconds": seconds,
        "held_out": {name: _figures(read_rows) for name, read_rows in rows.items()},
        "words_alone": {name: _figures(read_rows) for name, read_rows in words.items()},
        "by_page": {name: _figures(read_rows) for name, read_rows in by_type.items()},
        "looks": {name: _figures(read_rows) for name, read_rows in other.items()},
        "probe": probe(args.model, held_out),
        "pace": pace(args.model, held_out),
        "finished": sum(row.finish == "stop" for row in rows[args.model]) / len(held_out),
    }
    write_atomically(args.out / "reading.json", json.dumps(found, indent=1))
    print(f"{len(held_out)} held-out pages, strict reading, greedy, {found['env']['date']}\n")
    print(summary_table({name: summary(read_rows) for name, read_rows in rows.items()}))
    print(type_table({name: summary(read_rows) for name, read_rows in rows.items()}))
    for name, read_rows in words.items():
        print(f"{name}, {', '.join(WORDS_ALONE)} tests alone: {summary(read_rows).metrics['tests']} passed")
    print()
    print(summary_table({name: summary(read_rows) for name, read_rows in by_type.items()}))
    print(summary_table({"as trained": summary(rows[args.model])} | {k: summary(v) for k, v in other.items()}))
    print(to_markdown_table(["loss, nats a token", "value"], [[k, f"{v:.3f}"] for k, v in found["probe"].items()]))
    print("{pages} pages sampled together, {tokens} tokens: {seconds:.1f} s".format(**found["pace"]))
    print(f"transcripts that end: {found['finished']:.1%}")


def read(model: str, pages: Sequence[Page], *, longest_px: int | None = None) -> list[PageResult]:
    with open_policy(model, longest_px=longest_px) as policy:
        return evaluate_policy(policy.sampler, policy.prompter, pages, max_tokens=policy.settings.max_tokens)


def of_types(row: PageResult, types: Collection[str]) -> PageResult:
    """The same transcript, judged by the tests of these types alone."""
    return replace(row, checks=tuple(check for check in row.checks if check.type in types))


def engine_rows(spec: str, pages: Sequence[Page]) -> list[PageResult]:
    rows = []
    for page, text in read_pages(spec, pages, workers=2):
        body = "" if isinstance(text, Refusal) else text
        if isinstance(text, Refusal):
            print(f"{spec}, page {page.id}: counted as empty: {text}")
        rows.append(judge_page(page, Transcript(raw=body, body=body, finish="stop", num_tokens=0), "strict"))
    return rows


def probe(model: str, pages: Sequence[Page]) -> dict[str, float]:
    """Loss on the references with the page, a blank page and another page."""
    path = model_folder(model)
    policy = config.Policy(path=path)
    origin = open_origin(policy, path)
    learner = Learner(origin, policy, config.Optim(), steps=1, reference=False)
    prompted = [(page, origin.prompter.prompt(page)) for page in pages if page.reference]
    return looks(learner, reference_rows(prompted, origin.prompter, front_matter=True))


def pace(model: str, pages: Sequence[Page], count: int = 8, tokens: int = 250) -> dict[str, float]:
    """Seconds for one sample each of the pages whose references are nearest to that many tokens, asked together."""
    with open_policy(model) as policy:
        prompter = policy.prompter
        lengths = {page.id: len(prompter.encode(target_text(page, front_matter=True))) for page in pages}
        chosen = sorted(pages, key=lambda page: abs(lengths[page.id] - tokens))[:count]
        asked = [(page, prompter.prompt(page)) for page in chosen]
        how = Sampling(n=1, temperature=1.0, max_tokens=policy.settings.max_tokens)
        list(policy.sampler.sample(asked[:1], how))  # the first one warms the engine up
        started = time.perf_counter()
        groups = list(policy.sampler.sample(asked, how))
        seconds = time.perf_counter() - started
    written = sum(len(sample.token_ids) for group in groups for sample in group.samples)
    return {"pages": len(groups), "tokens": written, "seconds": seconds}


def held_out_pages(source: config.Typeset, count: int, out: Path) -> list[Page]:
    """The first `count` pages of four to ten lines: the same documents for every look of `HELD_OUT`.

    Lines are counted in the text layer of the pages as they were typeset, before any scanner.
    """
    pages = open_pages(source, out / "pages")
    typeset = open_pages(HELD_OUT.model_copy(update={"scan": 0.0}), out / "pages")
    return [page for page, twin in zip(pages, typeset, strict=True) if num_lines(twin) in NUM_LINES][:count]


def num_lines(page: Page) -> int:
    """Lines of text by their height on the page, running header and page number included; 0 without a text layer."""
    lines = layers(page.pdf)[page.number - 1].lines
    middles = sorted((line.bottom + line.top) / 2 for line in lines)
    return sum(b - a > SAME_LINE_PT for a, b in zip([-inf, *middles], middles, strict=False))


def _figures(rows: Sequence[PageResult]) -> Mapping[str, Any]:
    found = summary(rows)
    return {
        "metrics": {name: asdict(interval) for name, interval in found.metrics.items()},
        "by_type": {name: asdict(interval) for name, interval in found.by_type.items()},
    }


if __name__ == "__main__":
    main()
