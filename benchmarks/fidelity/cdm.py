"""How near is the KaTeX-based formula figure to OmniDocBench's CDM (arXiv 2409.03643), and what do the two cost?

    python -m benchmarks.fidelity.cdm make RECOGNITION OUT [--seed 0]    # OUT/pairs.json
    python -m benchmarks.fidelity.cdm ours OUT                           # OUT/ours.json
    python benchmarks/fidelity/cdm.py theirs CLONE OUT [--font NAME]     # OUT/theirs.json, in its own environment
    python -m benchmarks.fidelity.cdm compare OUT

RECOGNITION is `demo_data/recognition/OmniDocBench_demo_formula.json` of CLONE, OmniDocBench's repository: formulas,
each with what a model read. Each is damaged too, `--each` times, by one to eight edits of its tokens. CDM needs
xelatex, node, ImageMagick's `magick` and a Chinese typeface; `--font` names another one than Source Han Sans, its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

Pair = Mapping[str, str]  # kind, reference, candidate
TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\s+|.", re.S)
LETTER = re.compile(r"[a-zA-Z0-9]|\\(?:alpha|beta|gamma|delta|mu|nu|pi|sigma|phi|psi|omega|Delta|Sigma|Pi|Omega)$")
OTHERS = ("x", "n", "7", "\\alpha", "\\Omega", "R")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=("make", "ours", "theirs", "compare"))
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--font", default="Source Han Sans SC")
    args = parser.parse_args(arguments)
    out = args.paths[-1].resolve()
    if args.step == "make":
        out.mkdir(parents=True, exist_ok=True)
        pairs = make(json.loads(args.paths[0].read_text()), Random(args.seed), args.each)
        (out / "pairs.json").write_text(json.dumps(pairs, ensure_ascii=False, indent=1))
        print(f"{len(pairs)} pairs")
    elif args.step == "compare":
        compare(*(json.loads((out / f"{name}.json").read_text()) for name in ("pairs", "ours", "theirs")))
    else:
        score = ours() if args.step == "ours" else theirs(args.paths[0].resolve(), out, args.font)
        pairs = json.loads((out / "pairs.json").read_text())
        score(pairs[0])  # loads what it needs
        began = _seconds()
        values = [score(pair) for pair in pairs]
        spent = _seconds() - began
        (out / f"{args.step}.json").write_text(json.dumps({"cpu_s": spent, "values": values}))
        print(f"{len(values)} pairs, {spent:.1f} s of processor time, mean {100 * fmean(values):.1f}")
    return 0


def make(pages: Sequence[Mapping[str, Any]], rng: Random, each: int) -> list[Pair]:
    items = [item for page in pages for item in page["layout_dets"] if item.get("category_type") == "equation_isolated"]
    read = [(bare(item["latex"]), bare(item["pred"])) for item in items if item.get("latex") and item.get("pred")]
    damaged = [(truth, damage(truth, rng, rng.randint(1, 8))) for truth, _ in read for _ in range(each)]
    return [
        {"kind": kind, "reference": truth, "candidate": candidate}
        for kind, pairs in (("a model's", read), ("damaged", damaged))
        for truth, candidate in pairs
    ]


def bare(tex: str) -> str:
    return tex.strip().removeprefix("\\[").removesuffix("\\]").strip().strip("$").strip()


def damage(tex: str, rng: Random, edits: int) -> str:
    """Letters exchanged and lost, a script put on the other side; braces stay balanced."""
    tokens = TOKEN.findall(tex)
    for _ in range(edits):
        letters = [k for k, token in enumerate(tokens) if LETTER.match(token)]
        scripts = [k for k, token in enumerate(tokens) if token in "^_"]
        how = rng.random()
        if scripts and how < 0.2:
            k = rng.choice(scripts)
            tokens[k] = "^" if tokens[k] == "_" else "_"
        elif letters:
            tokens[rng.choice(letters)] = "{}" if how < 0.5 else f"{rng.choice(OTHERS)} "
    return "".join(tokens)


def ours() -> Callable[[Pair], float]:
    from ocr_rl.text.formulas import likeness

    return lambda pair: likeness(pair["reference"], pair["candidate"])


def theirs(clone: Path, out: Path, font: str) -> Callable[[Pair], float]:
    """OmniDocBench's own class, from a clone of its repository, with the typeface exchanged."""
    import types

    package = types.ModuleType("metrics")  # its own __init__ asks for every metric's packages
    package.__path__ = [str(clone / "metrics")]
    sys.modules["metrics"] = package
    sys.path.insert(0, str(clone))
    from metrics.cdm.modules import latex2bbox_color  # pyright: ignore[reportMissingImports]
    from metrics.cdm_metric import CDM  # pyright: ignore[reportMissingImports]

    template = latex2bbox_color.formular_template.replace("Source Han Sans SC", font)
    latex2bbox_color.formular_template = template
    os.chdir(out)
    cdm, count = CDM(output_root="cdm"), iter(range(10**6))
    return lambda pair: cdm.evaluate(pair["reference"], pair["candidate"], f"formula{next(count)}")["F1_score"]


def _seconds() -> float:
    """Of processor time, in processes that it began too."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def compare(pairs: Sequence[Pair], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    import numpy as np

    from benchmarks.policy.learned_reward import spearman

    for kind in dict.fromkeys(pair["kind"] for pair in pairs):
        both = [
            (mine, cdm)
            for pair, mine, cdm in zip(pairs, ours["values"], theirs["values"], strict=True)
            if pair["kind"] == kind
        ]
        mine, cdm = zip(*both, strict=True)
        one = sum((a == 1) == (b == 1) for a, b in both)
        print(
            f"{kind}: {len(both)} pairs, mean {100 * fmean(mine):.1f} here, CDM {100 * fmean(cdm):.1f}; rank "
            f"correlation {spearman(np.array(mine), np.array(cdm)):.2f}; {one} agree in whether the formula is right"
        )
    print(f"seconds a pair: {ours['cpu_s'] / len(pairs):.4f} here, CDM {theirs['cpu_s'] / len(pairs):.2f}")


if __name__ == "__main__":
    sys.exit(main())
