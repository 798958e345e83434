"""Are the tests of generated pages true, and do they fail when what they test is changed?

    python -m benchmarks.data.gold --n 5000

For every test of every page: it passes with the page's reference (in both readings; a limit on length only in the
strict one, since the other counts markup), and fails on the reference that is
printed from a source tree in which the tested fact is another one (a cell moved, a symbol replaced, blocks exchanged, a
header kept). Prints shares by type, and the first tests that break the rule. Of `mixed` pages each type of test must be
on one page in ten.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random

from ocr_rl.pages.synth.sheets.make import SHEET_KINDS, make
from ocr_rl.pages.synth.sheets.printers import to_markdown
from ocr_rl.text.checks import load_check, prepare
from ocr_rl.text.prepared import Prepared

# page, type, passes strictly, passes compatibly, fails when wrong, in words
Outcome = tuple[str, str, bool, bool, bool, str]


def examined(job: tuple[str, int, int]) -> list[Outcome]:
    """The tests of the page of one document."""
    kind, seed, index = job
    document = make(kind, Random(f"gold/{kind}/{seed}/{index}"), 1, f"{kind}_{index}.pdf")
    references = [prepare(to_markdown(sheet)) for sheet in document.sheets]
    outcomes: list[Outcome] = []
    for fact in document.facts:
        check = load_check(fact.test)
        right: Prepared = references[check.page - 1]
        wrong = check.run(prepare(to_markdown(fact.wrong())), "strict")
        passed = [check.run(right, "strict")]
        passed.append(passed[0] if "max_length" in fact.test else check.run(right, "compatible"))
        words = f"{fact.test} {[verdict.why for verdict in passed]} wrong passes: {wrong.passed}"
        outcomes.append((check.pdf, check.type, passed[0].passed, passed[1].passed, not wrong.passed, words))
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="pages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=SHEET_KINDS, default="mixed")
    parser.add_argument("--show", type=int, default=8, help="how many broken tests to print")
    args = parser.parse_args()
    totals: Counter[str] = Counter()
    pages: dict[str, set[str]] = {}
    faults: dict[str, Counter[str]] = {name: Counter() for name in ("strict", "compatible", "wrong")}
    shown = 0
    jobs = [(args.kind, args.seed, k) for k in range(args.n)]
    with ProcessPoolExecutor(2) as pool:
        for outcomes in pool.map(examined, jobs, chunksize=4):
            for page, kind, strict, compatible, fails, words in outcomes:
                totals[kind] += 1
                pages.setdefault(kind, set()).add(page)
                faults["strict"][kind] += not strict
                faults["compatible"][kind] += not compatible
                faults["wrong"][kind] += not fails
                if not (strict and compatible and fails) and shown < args.show:
                    shown += 1
                    print(words)
    everything = sum(totals.values())
    print(f"{args.n} pages of kind {args.kind}, seed {args.seed}, {everything} tests ({Path(__file__).stem})")
    print("type       tests  on pages  reference fails (strict, compatible)  changed fact noticed")
    for kind, count in sorted(totals.items()):
        noticed = 1 - faults["wrong"][kind] / count
        bad = f"{faults['strict'][kind]}, {faults['compatible'][kind]}"
        print(f"{kind:9} {count:6} {len(pages[kind]) / args.n:9.1%}  {bad:37} {noticed:.2%}")
    missed = sum(faults["wrong"].values()) / everything
    failed = sum(faults["strict"].values()) + sum(faults["compatible"].values())
    print(f"all       {everything:6}            {failed:<37} {1 - missed:.2%}")
    rarest = min(map(len, pages.values())) / args.n
    good = failed == 0 and missed <= 0.01 and (args.kind != "mixed" or (len(totals) == 8 and rarest >= 0.1))
    print("good" if good else "NOT good")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
