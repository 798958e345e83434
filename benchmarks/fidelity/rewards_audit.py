"""Do the shipped mixes pay for reading alone? Attacks in pairs, and an attacker that searches: docs/rewards_audit.md.

    python -m benchmarks.fidelity.rewards_audit [--pages 24] [--search 0] [--seed 0] [--kinds notice nano mixed mined]
                                                [--recipes nano_grpo ...] [--workers 2] [--out docs/rewards_audit.md]

Composed pages with their unit tests, references kept from the rewards; `mined` are composed full pages and ledgers as
`ocr-rl pages mine` sees their PDFs, without a transcript. The same attacks as `ocr-rl rewards audit`. Search: texts a
page that the attacker tries, 2,000 in the table of the docs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ocr_rl.config import load_recipe
from ocr_rl.contract import Page
from ocr_rl.evaluate.audit import LIMITS, Audit, Limits, Outcome, audit, patient
from ocr_rl.evaluate.audit_pages import TRUTH, Case, cases_of, composed_pages, percent
from ocr_rl.evaluate.audit_report import search_text
from ocr_rl.evaluate.audit_trials import OMISSION
from ocr_rl.evaluate.damage import ERRORS
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.mined import mine_folder
from ocr_rl.pages.synth.make import Looks, make_document
from ocr_rl.rollout.reward_pool import Choice, RewardPool, weighted
from ocr_rl.run import write_atomically

KINDS = ("notice", "nano", "mixed", "mined")
RECIPES = ("nano_grpo", "qwen2_5_vl_7b_grpo")
_MINED = ("mixed", "ledger")  # kinds of the documents that are mined


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity.rewards_audit")
    parser.add_argument("--pages", type=int, default=24)
    parser.add_argument("--search", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a Markdown file (default: print)")
    args = parser.parse_args(arguments)
    audits: dict[tuple[str, str], Audit] = {}
    for kind in args.kinds:
        cases = cases_from(kind, args.pages, args.seed)
        for recipe in args.recipes:
            mix = load_recipe(recipe).mix
            audits[kind, recipe] = result = audited(mix, cases, args.search, args.workers)
            print(line(kind, recipe, result), file=sys.stderr, flush=True)
    text = document(audits, args.pages, args.seed, args.search)
    if args.out:
        write_atomically(args.out, text)
    else:
        print(text)
    return 0


def cases_from(kind: str, n: int, seed: int) -> list[Case]:
    """Cases of a kind of page, references kept from the rewards."""
    pages = mined_pages(n, seed) if kind == "mined" else composed_pages(kind, n, seed)
    cases, _ = cases_of(pages, {}, n=n, seed=seed)
    return [replace(case, page=replace(case.page, reference=None)) for case in cases]


def mined_pages(n: int, seed: int) -> list[Page]:
    """Pages with the tests that their PDFs' text layers give, and with their true transcript."""
    truths: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        pdfs, data = Path(folder) / "pdfs", Path(folder) / "data"
        pdfs.mkdir()
        for index in range(2 * n):
            document = make_document(_MINED[index % len(_MINED)], seed, index, 1, Looks(scan=0.0))
            (pdfs / document.name).write_bytes(document.pdf)
            truths[document.name] = document.references[0]
        mine_folder(pdfs, data, seed)
        pages = [replace(page, reference=truths[page.pdf.name]) for page in load_dataset(data) if page.checks]
    return [page for page in pages if page.reference][:n]


def audited(mix: Sequence[Choice], cases: Sequence[Case], evaluations: int, workers: int) -> Audit:
    pool = RewardPool(choices=mix, rewards=weighted(mix), workers=workers, timeout_s=120)
    with closing(patient(pool, 8)) as patient_pool:
        return audit(cases, pool.rewards, patient_pool.score_all, [], evaluations=evaluations)


def document(audits: dict[tuple[str, str], Audit], pages: int, seed: int, evaluations: int) -> str:
    command = f"python -m benchmarks.fidelity.rewards_audit --pages {pages} --search {evaluations} --seed {seed}"
    parts = [
        "# What attacks earn under the shipped mixes\n",
        f"Written by `{command}`, {datetime.now(UTC):%Y-%m-%d}; {pages} pages of each kind, references kept from the "
        "rewards. An attack is made of a reading with a share of its letters and digits wrong. The table has the "
        "largest gain of any attack over its own reading, mean of the pages, and the attack's name where that is above "
        f"zero; more than {LIMITS.gain:g} is a hole, in **bold**. *60 %*: what the first 60 % of the true lines earn, "
        "less what an honest reading with 10 % wrong earns. *Search*: the largest and the mean rise in reward that an "
        f"attacker finds in {evaluations:,} texts a page among those whose element score fell by 0.02 or more; a mean "
        f"above {LIMITS.rise:g} is a hole.\n",
        table(audits),
        "## What readings earn\n",
        honest_table(audits),
        "## What costs nothing on the truth\n",
        "\n".join(
            f"- {kind}, `{recipe}`: {', '.join(result.mix.free()) or 'nothing'}"
            for (kind, recipe), result in audits.items()
        ),
        "",
    ]
    for (kind, recipe), result in audits.items():
        if result.rise > LIMITS.rise:
            text = search_text(result.searched, LIMITS.rise).replace("## The attacker that searches\n\n", "")
            parts.append(f"## The attacker that searches: {kind}, `{recipe}`\n\n{text}")
    return "\n".join(parts)


def table(audits: dict[tuple[str, str], Audit]) -> str:
    sources = [TRUTH, *(percent(share) for share in ERRORS if share)]
    lines = ["| pages | mix | " + " | ".join([*sources, "60 %", "search"]) + " |"]
    lines.append("| --- | --- |" + " --: |" * (len(sources) + 2))
    lines += [line(kind, recipe, result) for (kind, recipe), result in audits.items()]
    return "\n".join(lines) + "\n"


def line(kind: str, recipe: str, result: Audit) -> str:
    cells = [shown(largest(result, source)) for source in result.mix.honest]
    omission = next(outcome for outcome in result.mix.outcomes if outcome.attack == OMISSION)
    most = f"{result.searched[0].rise:.3f} ({result.rise:.3f})" if result.searched else ""
    return f"| {kind} | `{recipe}` | {' | '.join([*cells, f'{omission.gain:+.3f}', most])} |"


def largest(result: Audit, source: str) -> Outcome:
    """The attack on readings of this source that gains most."""
    gains = (o for o in result.mix.holes(Limits(gain=-2.0)) if o.source == source and o.attack != OMISSION)
    return next(gains)


def shown(outcome: Outcome) -> str:
    gain = f"{outcome.gain:+.3f}"
    if outcome.gain < 0.0005:
        return "0.000"
    return f"**{gain}** {outcome.attack}" if outcome.gain > LIMITS.gain else f"{gain} {outcome.attack}"


def honest_table(audits: dict[tuple[str, str], Audit]) -> str:
    sources = [TRUTH, *(percent(share) for share in ERRORS if share)]
    lines = ["| pages | mix | " + " | ".join(sources) + " |", "| --- | --- |" + " --: |" * len(sources)]
    for (kind, recipe), result in audits.items():
        lines.append(f"| {kind} | `{recipe}` | {' | '.join(f'{result.mix.honest[s]:.3f}' for s in sources)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
