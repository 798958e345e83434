"""Do ParseBench's rules give here what its own code gives? Agreement by rule type on made pages, and the time of both.

    python -m benchmarks.fidelity.parsebench make DATASET OUT            # OUT/suite as published, OUT/answers
    python -m benchmarks.fidelity.parsebench ours OUT                    # OUT/ours.json
    python benchmarks/fidelity/parsebench.py theirs OUT                  # OUT/theirs.json, in parse_bench's environment
    python -m benchmarks.fidelity.parsebench compare OUT

The rules are written from the references of a dataset (`ocr-rl pages synth --kind mixed`), cut into sentences and words
as the benchmark's own tool does it. The answers are those references, damaged by a seed: lines lost, moved and doubled,
letters changed, marks added and taken away, entities and escapes written, tables as Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

MOST = 90  # sentences, words and pairs in order that a page is asked for: some 280 rules, as on a published page
MOST_MARKS = 30  # rules on formatting; published pages have some 13
STYLES = {"bold": ("**", "**"), "italic": ("*", "*"), "underline": ("<u>", "</u>"), "strikeout": ("~~", "~~")} | {
    tag: (f"<{tag}>", f"</{tag}>") for tag in ("mark", "sup", "sub")
}
FOREIGN = (
    "検査結果は陽性です。再検査が必要",
    "Größe & Maß: naïve café",
    "“Quoted” – it’s 5 ½ µm…",
    "北京市 2024年 报告",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=("make", "ours", "theirs", "compare"))
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    out = args.folders[-1]
    if args.step == "make":
        make(args.folders[0], out, Random(args.seed))
    elif args.step == "compare":
        compare(*(json.loads((out / f"{who}.json").read_text()) for who in ("ours", "theirs")))
    else:
        started = time.process_time()
        pages = {"ours": ours, "theirs": theirs}[args.step](out)
        took = time.process_time() - started
        (out / f"{args.step}.json").write_text(json.dumps({"cpu_s": took, "pages": pages}))
        print(f"{len(pages)} pages, {took:.1f} s of processor time")
    return 0


# --- made pages -------------------------------------------------------------------------------------------------------


def make(dataset: Path, out: Path, rng: Random) -> None:
    from ocr_rl.pages.dataset import load_dataset

    parts = (contents, formats, charts)
    (out / "suite").mkdir(parents=True)
    (out / "answers/text").mkdir(parents=True)
    rows: dict[str, list[str]] = defaultdict(list)
    for k, page in enumerate(load_dataset(dataset)):
        text = spiced(page.reference or "", rng)
        made = [rule for part in parts for rule in part(text, rng)]
        for n, (part, kind, rule) in enumerate(made):
            row = {"pdf": f"docs/text/p{k}.pdf", "category": part, "id": f"p{k}_{n}", "type": kind}
            rows[part].append(json.dumps({**row, "rule": json.dumps(rule), "expected_markdown": None, "tags": []}))
        (out / f"answers/text/p{k}.md").write_text(damaged(text, rng) if k % 20 else "" if k % 40 else text)
    for part, lines in rows.items():
        (out / f"suite/{part}.jsonl").write_text("\n".join(lines) + "\n")


def spiced(text: str, rng: Random) -> str:
    """With marks of every kind, headings, a formula, code, other scripts, the page's header and footer."""
    lines = []
    for line in text.split("\n"):
        words = line.split(" ")
        if len(words) > 4 and "<" not in line and "|" not in line and rng.random() < 0.6:
            at, (opening, closing) = rng.randrange(len(words) - 2), rng.choice(list(STYLES.values()))
            length = rng.randint(1, 3)
            words[at : at + length] = [f"{opening}{' '.join(words[at : at + length])}{closing}"]
        lines.append(" ".join(words))
    extra = [rng.choice(FOREIGN), "$$E = mc^{2}$$", f"Cost: $15.00 and $x_{{{rng.randint(0, 9)}}}+1$ of it"]
    extra += ["```python\nfor k in range(3):\n    print(k)\n```", "<page_header>Annual report 2024</page_header>"]
    extra += [f"| Region | Q1 2024 |\n|---|---|\n| North | {rng.randint(1, 9)}.{rng.randint(10, 99)}m |"]
    extra += ["<page_footer>Page 3 – 12</page_footer>", "**A line that is bold**", "H₂O and 10⁵ Pa"]
    for piece in rng.sample(extra, 5):
        lines.insert(rng.randrange(len(lines) + 1), f"\n{piece}\n")
    return "\n".join(lines)


Made = tuple[str, str, Mapping[str, Any]]  # file, type, rule


def _bare(text: str) -> str:
    return re.sub(r"<[^>]+>|[*~`|]|^#+ ", " ", text, flags=re.MULTILINE)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)?", _bare(text))


def contents(text: str, rng: Random) -> Iterator[Made]:
    bare, words = _bare(text), _words(text)
    sentences = [s.strip() for s in re.split(r"\n+|(?<!\d)[.!?](?!\d)|[。、]", bare) if len(s.strip()) >= 7]
    bags = {"sentence": Counter(sentences), "word": Counter(words)}
    for unit, bag in bags.items():
        for kind in (f"missing_{unit}_percent", f"unexpected_{unit}_percent", f"too_many_{unit}_occurence_percent"):
            yield "text_content", kind, {f"bag_of_{unit}": bag}
    yield "text_content", "bag_of_digit_percent", {"bag_of_digit": Counter(re.findall("[0-9]", bare))}
    for one in rng.choices(sentences, k=MOST):
        yield "text_content", "missing_specific_sentence", {"sentence": one}
        other = rng.choice(sentences)
        yield "text_content", "order", {"before": one, "after": other, "max_diffs": rng.choice((0, 0, 2))}
        yield "text_content", "missing_specific_word", {"word": rng.choice(words)}
    for kind, section in (("is_header", "Annual report 2024"), ("is_footer", "Page 3 - 12")):
        yield "text_content", kind, {"text": section}


def formats(text: str, rng: Random) -> list[Made]:
    words, found = _words(text), []
    for style, (opening, closing) in STYLES.items():
        marked = re.findall(rf"{re.escape(opening)}([^*<~]+){re.escape(closing)}", text)
        for one in [*marked, *rng.sample(words, min(3, len(words)))]:
            found += [(f"is_{style}", {"text": one}), (f"is_not_{style}", {"text": one})]
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    found += [("is_title", {"text": one, "level": None}) for one in (*titles, "A line that is bold", rng.choice(words))]
    if titles:
        found.append(("title_hierarchy_percent", {"title_hierarchy": {titles[0]: {t: {} for t in titles[1:]}}}))
    found += [("is_latex", {"formula": f"${formula}$"}) for formula in re.findall(r"\$([^$\n]+)\$", text)[:3]]
    found.append(("is_code_block", {"language": "python", "code": "for k in range(3):\n    print(k)"}))
    return [("text_formatting", *rule) for rule in rng.sample(found, min(MOST_MARKS, len(found)))]


def charts(text: str, rng: Random) -> Iterator[Made]:
    for point in data_points(text, rng):
        yield "chart", "chart_data_point", point


def data_points(text: str, rng: Random) -> Iterator[Mapping[str, Any]]:
    for table in re.findall(r"<table>.*?</table>|(?:^\|.*\n?)+", text, flags=re.DOTALL | re.MULTILINE)[:3]:
        lines = table.split("</tr>") if "<table" in table else table.split("\n")
        cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>|\|([^|\n]+)", line, flags=re.DOTALL) for line in lines]
        grid = [[(a or b).strip() for a, b in row] for row in cells if row]
        for _ in range(4):
            row = rng.choice(grid)
            col = rng.randrange(len(row))
            labels = [row[0], grid[0][min(col, len(grid[0]) - 1)]]
            yield {"value": row[col], "labels": labels, "max_diffs": rng.choice((0, 0, 1)), "normalize_numbers": True}


def damaged(text: str, rng: Random) -> str:
    lines = [line for line in text.split("\n") if rng.random() > 0.05]
    if lines and rng.random() < 0.3:
        k = rng.randrange(len(lines))
        lines.insert(rng.randrange(len(lines)), lines.pop(k) if rng.random() < 0.5 else lines[k])
    lines = [_damaged(line, rng) for line in lines]
    text = "\n".join(lines)
    return re.sub(r"<table>.*?</table>", _as_markdown, text, flags=re.DOTALL) if rng.random() < 0.3 else text


def _damaged(line: str, rng: Random) -> str:
    steps = [
        lambda s: s.replace("**", ""),
        lambda s: re.sub(r"^#+ (.*)$", r"**\1**", s),
        lambda s: re.sub(r"^#+ (.*)$", r"<h2>\1</h2>", s),
        lambda s: s.replace("&", "&amp;").replace("–", "-"),
        lambda s: re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", s),
        lambda s: re.sub(r"([~*#.])", r"\\\1", s),
        lambda s: re.sub(r"</?(?:sup|sub|mark|u)>", "", s),
        lambda s: s.replace(". ", ".\n"),
        lambda s: f"- {s}" if s and "<" not in s and "|" not in s else s,
        lambda s: s.upper() if "<" not in s else s,
    ]
    if rng.random() < 0.4:
        line = rng.choice(steps)(line)
    signs = list(line)
    for k, sign in enumerate(signs):
        if rng.random() < 0.003 and sign.isalnum():
            signs[k] = rng.choice(("", "x", "é", sign * 2))
    return "".join(signs)


def _as_markdown(table: re.Match[str]) -> str:
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, flags=re.DOTALL) for row in table[0].split("</tr>")]
    lines = [f"| {' | '.join(cells)} |" for cells in rows if cells]
    return "\n".join(lines[:1] + ["|---|"] + lines[1:])


# --- both judges ------------------------------------------------------------------------------------------------------


def ours(out: Path) -> Mapping[str, Any]:
    from ocr_rl.evaluate.suites import parsebench

    suite = parsebench.load(out / "suite")
    answers = suite.read(out / "answers")
    return {page: dict(suite.score(page, answers.get(page))) for page in suite.pages}


def theirs(out: Path) -> Mapping[str, Any]:
    """A document's rules by type, in order, and the headline figures, by the benchmark's own evaluator."""
    from parse_bench.evaluation.evaluators.parse import (  # pyright: ignore[reportMissingImports]
        ParseEvaluator,
        RuleBasedMetric,
    )
    from parse_bench.schemas.parse_output import ParseOutput  # pyright: ignore[reportMissingImports]
    from parse_bench.schemas.pipeline_io import InferenceRequest, InferenceResult  # pyright: ignore[reportMissingImports]
    from parse_bench.schemas.product import ProductType  # pyright: ignore[reportMissingImports]
    from parse_bench.test_cases.loader import load_test_cases  # pyright: ignore[reportMissingImports]

    evaluator, kept = ParseEvaluator(), {}
    compute = RuleBasedMetric.compute

    def keeping(self: Any, *args: Any, **kwargs: Any) -> Any:
        kept["value"] = compute(self, *args, **kwargs)
        return kept["value"]

    RuleBasedMetric.compute = keeping
    names = {"content_faithfulness": "faithfulness", "semantic_formatting": "formatting"}
    names["rule_chart_data_point_pass_rate"] = "charts"
    wanted = {"text_content": ["faithfulness"], "text_formatting": ["formatting"], "chart": ["charts"]}
    pages: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for case in load_test_cases(out / "suite"):
        name = f"text/{case.file_path.stem}"
        text = (out / f"answers/{name}.md").read_text()
        request = InferenceRequest(
            example_id=case.test_id, source_file_path=str(case.file_path), product_type=ProductType.PARSE
        )
        output = ParseOutput(
            task_type="parse", example_id=case.test_id, pipeline_name="p", pages=[], layout_pages=[], markdown=text
        )
        result = InferenceResult(
            request=request,
            pipeline_name="p",
            product_type=ProductType.PARSE,
            raw_output={},
            output=output,
            started_at="2026-01-01T00:00:00",
            completed_at="2026-01-01T00:00:00",
            latency_in_ms=0,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            metrics = evaluator.evaluate(result, case).metrics
        for rule in kept["value"].metadata["rule_results"]:
            pages[name].setdefault(rule["type"], []).append(rule["score"])
        for metric in metrics:
            if names.get(metric.metric_name) in wanted[case.group]:
                pages[name][names[metric.metric_name]] = [metric.value]
    return pages


def compare(mine: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    kinds: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    for page, scores in other["pages"].items():
        for kind, values in scores.items():
            got = mine["pages"][page].get(kind, [])
            kinds[kind] += [(page, a, b) for a, b in zip(got, values, strict=True)]
    print("| type | rules | agree to 1e-9 | their mean | farthest |\n| :-- | --: | --: | --: | --: |")
    for kind, rows in sorted(kinds.items()):
        agree = sum(abs(a - b) < 1e-9 for _, a, b in rows)
        far = max(rows, key=lambda row: abs(row[1] - row[2]))
        mean = sum(b for _, _, b in rows) / len(rows)
        print(f"| {kind} | {len(rows)} | {agree} | {mean:.3f} | {far[0]} {far[1] - far[2]:+.3f} |")
    print(f"processor time: {mine['cpu_s']:.1f} s here, {other['cpu_s']:.1f} s by its own code")


if __name__ == "__main__":
    sys.exit(main())
