"""`ocr-rl pages rank --by suspect`: how many tests that were made wrong on purpose are among the most suspect?

    ocr-rl sample DATA --pages 150 --n 8 --out groups.jsonl
    python -m benchmarks.fidelity.suspects DATA --samples groups.jsonl
    python -m benchmarks.fidelity.suspects DATA --errors 0.01 0.05 0.1      readers that damage the pages' references
    python -m benchmarks.fidelity.suspects OLMOCR_BENCH --published FOLDER  name_pg1_repeat1.md, as the public benchmark

5 % of the tests are made wrong, seed by seed, and each wrong one must fail on the page's own reference, where there is
one. Prints a row a reader: the share of the wrong tests among the 10 % most suspect, then the same by kind of error.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from ocr_rl.contract import Page, Transcript
from ocr_rl.evaluate.damage import with_wrong_characters
from ocr_rl.evaluate.groups import read_groups
from ocr_rl.evaluate.ranking import samples_of
from ocr_rl.evaluate.suspects import Suspicion, look_at, suspicions
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.text.checks import PageCheck, judge, load_check
from ocr_rl.text.front_matter import split_front_matter

Fields = dict[str, Any]
Readers = Mapping[str, Sequence[Transcript]]  # by page id
RELATIONS = ("up", "down", "left", "right", "top_heading", "left_heading")
TRIES = 20  # for one test


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--samples", type=Path, action="append", default=[])
    parser.add_argument("--published", type=Path, help="a folder of transcripts, one or several a page")
    parser.add_argument("--errors", type=float, nargs="*", default=[], help="shares of wrong letters")
    parser.add_argument("--pages", type=int, help="only so many, the first ones")
    parser.add_argument("--n", type=int, default=8, help="samples of a page, at most")
    parser.add_argument("--wrong", type=float, default=0.05)
    parser.add_argument("--top", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    pages = load_dataset(given.data)[: given.pages]
    readers: dict[str, Readers] = {}
    for file in given.samples:
        readers[file.stem] = {
            page.id: group[: given.n] for page, group in samples_of(read_groups(file), pages, given.data)
        }
    if given.published:
        readers["published"] = {p.id: texts for p in pages if (texts := published(p, given.data, given.published))}
    for share in given.errors:
        readers[f"{share:.1%} of letters wrong"] = {p.id: damaged(p, share, given.n) for p in pages if p.reference}
    rows = []
    for name, texts in readers.items():
        read = [page for page in pages if page.id in texts]
        counts: Counter[str] = Counter()
        caught: Counter[str] = Counter()
        for seed in range(given.seeds):
            spoiled, wrong = spoil(read, given.wrong, Random(f"{seed}/spoil"))
            ranked = sorted(suspects(spoiled, texts), key=lambda row: (-row.value, row.id))
            top = {row.id for row in ranked[: round(given.top * len(ranked))]}
            counts.update(wrong.values())
            caught.update(kind for id_, kind in wrong.items() if id_ in top)
        tests = sum(len(page.checks) for page in read)
        passing = standing(read, texts)
        every = f"{caught.total() / counts.total():.0%} of {counts.total()}"
        by_kind = [f"{caught[kind]}/{counts[kind]}" if counts[kind] else "" for kind in KINDS]
        rows.append([name, f"{passing:.0%}", str(tests), every, *by_kind])
        print(rows[-1], flush=True)
    print(to_markdown_table(["reader", "passes", "tests", f"wrong ones in the top {given.top:.0%}", *KINDS], rows))


def suspects(pages: Sequence[Page], readers: Readers) -> Iterator[Suspicion]:
    for page in pages:
        yield from suspicions([check.id for check in page.checks], look_at(page.checks, readers[page.id]))


def standing(pages: Sequence[Page], readers: Readers) -> float:
    """Share of the tests, as they were, that the samples pass."""
    verdicts = [v.passed for page in pages for one in readers[page.id] for v in judge(page.checks, one.body, "strict")]
    return sum(verdicts) / max(1, len(verdicts))


# ---- readers


def damaged(page: Page, share: float, n: int) -> list[Transcript]:
    """Readings of a page whose errors are independent of one another, which those of a real policy are not."""
    texts = [with_wrong_characters(page.reference or "", share, Random(f"{page.id}/{share}/{k}")) for k in range(n)]
    return [_transcript(text) for text in texts]


def published(page: Page, data: Path, folder: Path) -> list[Transcript]:
    stem = page.pdf.relative_to(data / "pdfs").with_suffix("")
    name = re.compile(re.escape(f"{stem.name}_pg{page.number}") + r"_repeat\d+\.md")
    files = sorted(file for file in (folder / stem.parent).glob("*.md") if name.fullmatch(file.name))
    return [_transcript(file.read_text(encoding="utf-8")) for file in files]


def _transcript(text: str) -> Transcript:
    return Transcript(raw=text, body=split_front_matter(text)[1], finish="stop", num_tokens=len(text) // 3)


# ---- errors


def spoil(pages: Sequence[Page], share: float, rng: Random) -> tuple[list[Page], dict[str, str]]:
    """The pages with that share of their tests made wrong, and the kind of error by the test's id."""
    tests: list[tuple[int, Fields]] = [
        (k, check.to_json()) for k, page in enumerate(pages) for check in page.checks if isinstance(check, PageCheck)
    ]
    wrong: dict[str, Fields] = {}
    kinds: dict[str, str] = {}
    for k, fields in rng.sample(tests, len(tests)):
        if len(wrong) == round(share * len(tests)):
            break
        if made := _wrong(fields, pages[k], [other for _, other in tests], rng):
            kinds[fields["id"]], wrong[fields["id"]] = made
    spoiled = [
        replace(page, checks=tuple(load_check(wrong[c.id]) if c.id in wrong else c for c in page.checks))
        for page in pages
    ]
    return spoiled, kinds


def _wrong(fields: Fields, page: Page, others: Sequence[Fields], rng: Random) -> tuple[str, Fields] | None:
    """The test with an error of some kind that fits it, and that its page's reference fails; None after some tries."""
    kinds = [kind for kind, (types, _) in KINDS.items() if fields["type"] in types]
    for _ in range(TRIES if kinds else 0):
        kind = rng.choice(kinds)
        changed = KINDS[kind][1](fields, others, rng)
        if changed is None or changed == fields:
            continue
        try:
            check = load_check(changed)
        except ValueError:
            continue
        if page.reference is None or not judge([check], page.reference, "strict")[0].passed:
            return kind, changed
    return None


def other_page(fields: Fields, others: Sequence[Fields], rng: Random) -> Fields | None:
    texts = [o["text"] for o in others if o["type"] == fields["type"] and not _same_page(o, fields)]
    return {**fields, "text": rng.choice(texts)} if texts else None


def digit(fields: Fields, others: Sequence[Fields], rng: Random) -> Fields | None:
    """As many digits (or, where there are none, letters) side by side as the test does not forgive."""
    name = "math" if fields["type"] == "math" else "text"
    chars = list(fields[name])
    places = [k for k, char in enumerate(chars) if char.isdigit()] or [k for k, c in enumerate(chars) if c.isalpha()]
    if not places:
        return None
    first = rng.choice(places)
    letters = sorted((k for k, char in enumerate(chars) if char.isalnum()), key=lambda k: abs(k - first))
    for k in letters[: fields.get("max_diffs", 0) + 1]:
        choices = "0123456789" if chars[k].isdigit() else "abcdefghijklmnopqrstuvwxyz"
        chars[k] = rng.choice(choices.replace(chars[k].lower(), ""))
    return {**fields, name: "".join(chars)}


def word(fields: Fields, others: Sequence[Fields], rng: Random) -> Fields | None:
    """One word exchanged for another one of the dataset."""
    words = fields["text"].split()
    pool = [word for o in rng.sample(others, min(20, len(others))) for word in str(o.get("text", "")).split()]
    if len(words) < 2 or not pool:
        return None
    words[rng.randrange(len(words))] = rng.choice(pool)
    return {**fields, "text": " ".join(words)}


def turned(fields: Fields, others: Sequence[Fields], rng: Random) -> Fields | None:
    return {**fields, "before": fields["after"], "after": fields["before"]}


def neighbour(fields: Fields, others: Sequence[Fields], rng: Random) -> Fields | None:
    """One neighbour or heading exchanged for a cell of the dataset, of the same page where there is one."""
    names = [name for name in RELATIONS if fields.get(name)]
    cells = [o["cell"] for o in others if o["type"] == "table" and o["cell"] and _same_page(o, fields)]
    if not names or not cells:
        return None
    return {**fields, rng.choice(names): rng.choice(cells)}


def kept(fields: Fields, others: Sequence[Fields], rng: Random) -> Fields | None:
    """A text that stands on the page must be absent."""
    texts = [o["text"] for o in others if o["type"] == "present" and _same_page(o, fields)]
    return {**fields, "text": " ".join(rng.choice(texts).split()[:5])} if texts else None


def _same_page(one: Fields, other: Fields) -> bool:
    return (one["pdf"], one["page"]) == (other["pdf"], other["page"])


Spoil = Callable[[Fields, Sequence[Fields], Random], Fields | None]
KINDS: Mapping[str, tuple[tuple[str, ...], Spoil]] = {
    "text of another page": (("present", "format"), other_page),
    "digit or letter": (("present", "format", "math"), digit),
    "word": (("present", "format"), word),
    "order turned": (("order",), turned),
    "neighbour": (("table",), neighbour),
    "absent, and there": (("absent",), kept),
}


if __name__ == "__main__":
    main()
