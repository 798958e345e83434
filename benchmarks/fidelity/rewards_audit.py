"""Audit every installed reward by itself, and the mixes that ship: the tables of docs/rewards_audit.md.

    python -m benchmarks.fidelity.rewards_audit [--pages 40] [--seed 0] [--out docs/rewards_audit.md]

Synthetic pages: `mixed` ones (all kinds of full pages) with references and unit tests for single rewards, and the kinds
that a mix is for. The same attacks as `ocr-rl rewards audit`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ocr_rl.config import RewardChoice, load_recipe
from ocr_rl.contract import Page
from ocr_rl.evaluate.attacks import ATTACKS
from ocr_rl.evaluate.audit import RewardAudit, audit
from ocr_rl.evaluate.audit_pages import Case, cases_of, composed_pages
from ocr_rl.evaluate.damage import LEVELS
from ocr_rl.plugins import REWARDS, installed
from ocr_rl.rollout.reward_pool import Choice, RewardPool, weighted
from ocr_rl.run import write_atomically

TESTS_ONLY = load_recipe("nano_grpo").mix
BIG = load_recipe("qwen2_5_vl_7b_grpo").mix
WITH_REFERENCE = (*TESTS_ONLY, RewardChoice(name="cer"))
MIXES: Mapping[str, tuple[str, Sequence[Choice], bool]] = {  # kind of page, its mix, are references shown?
    "tests only, small pages (`nano_grpo`)": ("notice", TESTS_ONLY, False),
    "tests only, ordinary pages": ("mixed", TESTS_ONLY, False),
    "`qwen2_5_vl_7b_grpo`, tests only": ("mixed", BIG, False),
    "`qwen2_5_vl_7b_grpo`, with references": ("mixed", BIG, True),
    "tests and `cer`, with references": ("mixed", WITH_REFERENCE, True),
    "`pass_rate` alone, small pages": ("notice", [RewardChoice(name="pass_rate")], False),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity.rewards_audit")
    parser.add_argument("--pages", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a Markdown file (default: print)")
    args = parser.parse_args(arguments)
    singles = [RewardChoice(name=info.name) for info in installed(REWARDS) if info.package == "ocr-rl"]
    rewards = tried(singles, cases("mixed", args.pages, args.seed, shown=True))[:-1]
    mixes = [
        replace(tried(choices, cases(kind, args.pages, args.seed, shown=shown))[-1], name=name)
        for name, (kind, choices, shown) in MIXES.items()
    ]
    text = document(rewards, mixes, args.pages, args.seed)
    if args.out:
        write_atomically(args.out, text)
    else:
        print(text)
    return 0


def cases(kind: str, n: int, seed: int, *, shown: bool) -> list[Case]:
    """Cases of composed pages; unless `shown`, references are kept back."""
    pages = composed_pages(kind, n, seed)
    made, _ = cases_of(pages, {}, n=n, seed=seed)
    return made if shown else [replace(case, page=_hidden(case.page)) for case in made]


def _hidden(page: Page) -> Page:
    return replace(page, reference=None)


def tried(choices: Sequence[Choice], tries: Sequence[Case]) -> Sequence[RewardAudit]:
    pool = RewardPool(choices=choices, rewards=weighted(choices), workers=2, timeout_s=120)
    with closing(pool):
        return audit(tries, pool.rewards, pool.score_all, []).rewards


def document(rewards: Sequence[RewardAudit], mixes: Sequence[RewardAudit], pages: int, seed: int) -> str:
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    return "\n".join(
        [
            "# What cheats and damage earn\n",
            f"Written by `python -m benchmarks.fidelity.rewards_audit --pages {pages} --seed {seed}`; {pages} composed "
            f"pages of each kind, {os.cpu_count()} CPU cores, {date}. "
            "Mean values; **bold** where a cheat earns at least "
            "as much as honest transcripts (10 % of letters and digits wrong), or damage as much as the reference. "
            "Empty: the reward says nothing about these pages. Under *caption moved* stands what a caption on the "
            "other side of its table adds to the value: both sides are right, so 0 is what a reward should say.\n",
            "## Mixes\n",
            table(mixes, "cheat"),
            table(mixes, "damage"),
            "## Single rewards\n",
            "On `mixed` pages, with references and unit tests, default options.\n",
            table(rewards, "cheat"),
            table(rewards, "damage"),
            "## As damage grows\n",
            f"Mean value at 0 and {', '.join(f'{level:.0%}' for level in LEVELS)} of the damage; **bold** where it "
            "does not fall steadily.\n",
            curves([*mixes, *rewards]),
        ]
    )


def table(judged: Sequence[RewardAudit], kind: str) -> str:
    """A row a reward, a column an attack of this kind; and what it must stay below."""
    names = [attack.name for attack in ATTACKS if attack.kind == kind]
    last = ["caption moved"] if kind == "damage" else []
    rows = [
        ["", "honest" if kind == "cheat" else "reference", *names, *last],
        ["---", *["--:"] * (1 + len(names + last))],
    ]
    for one in judged:
        found = {o.attack: o for o in one.outcomes if o.kind == kind}
        mean = one.honest if kind == "cheat" else one.reference
        cells = ["" if mean is None else f"{mean:.2f}"]
        for name in names:
            o = found.get(name)
            cells.append("" if o is None else f"**{o.value:.2f}**" if o.wins else f"{o.value:.2f}")
        if last:
            cells.append("" if one.tie is None else f"{0.0 - one.tie:+.2f}")
        rows.append([one.name, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def curves(judged: Sequence[RewardAudit]) -> str:
    kinds = list(dict.fromkeys(curve.kind for one in judged for curve in one.curves))
    rows = [["", *kinds], ["---", *["---"] * len(kinds)]]
    for one in judged:
        found = {curve.kind: curve for curve in one.curves}
        shown = [" ".join(f"{value:.2f}" for value in found[kind].values) if kind in found else "" for kind in kinds]
        steady = [kind not in found or found[kind].falls for kind in kinds]
        rows.append([one.name, *(s if good else f"**{s}**" for s, good in zip(shown, steady, strict=True))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
