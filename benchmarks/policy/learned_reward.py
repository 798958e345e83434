"""What a learned reward knows, and what becomes of it when something climbs it.

    python -m benchmarks.policy.learned_reward runs/rm/ckpt/000500/model --out runs/learned
                                               [--runs ppo=runs/rlhf grpo=runs/grpo_rm] [--pages 120] [--samples 16]

First the start's own samples of held-out pages of the kind `notice`: how often the learned score orders two siblings as
the truth does (element score against the reference, share of unit tests that pass), and its rank correlation with
both, within pages and over all; intervals redraw pages. Then the over-optimisation curve (Gao et al. 2023, arXiv
2210.10760): the true element score over the learned one, for best-of-n by the learned score (n from 1 to `--samples`,
exact expectations over those samples), and for the samples of each training run, ten steps a point. Prints Markdown;
`--out` keeps it with learned.json and overoptimisation.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.fidelity.ordering import SAME, Group, Samples, of_policy, read
from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.evaluate.groups import read_groups
from ocr_rl.evaluate.png import as_png
from ocr_rl.evaluate.stats import bootstrap_mean
from ocr_rl.learn.learned_reward import LearnedReward
from ocr_rl.pages.source import open_pages
from ocr_rl.plugins import load_reward
from ocr_rl.run import environment, read_json, read_jsonl, write_atomically
from ocr_rl.text.elements import element_score
from ocr_rl.train.session import open_learned_reward

STEPS = 10  # of a run, to a point of its curve
TRUTHS = {"element score": "elements", "unit tests": "pass_rate"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    label: str
    learned: float  # mean centred score, nats
    truth: float  # mean element score


Table = Sequence[Sequence[float]]  # of every sample, by page


def judged(samples: Samples, reward: LearnedReward) -> tuple[list[list[float]], dict[str, list[list[float]]]]:
    """(learned score, truths by name) of every transcript, by page."""
    learned = [[score.parts["score"] for score in reward(page, group)] for page, group in samples]
    truths = {}
    for name, plugin in TRUTHS.items():
        judge = load_reward(plugin)
        truths[name] = [[score.value or 0.0 for score in judge(page, group)] for page, group in samples]
    return learned, truths


def agreement(learned: Table, truth: Table) -> dict[str, str]:
    """Pair accuracy and rank correlations, each with its interval."""
    pairs_of_scores = zip(learned, truth, strict=True)
    groups = [Group(page=str(i), rewards=a, measures=b) for i, (a, b) in enumerate(pairs_of_scores)]
    groups = [group for group in groups if group.differs]
    pairs = {str(i): right for i, group in enumerate(groups) if (right := _pairs(group))}
    accuracy = bootstrap_mean(pairs, seed=0)
    tau = bootstrap_mean({str(i): [group.tau] for i, group in enumerate(groups)}, seed=0)
    share = sum(g.realised for g in groups) / sum(g.possible for g in groups)
    count = sum(map(len, pairs.values()))
    return {
        "pairs right": f"{accuracy.mean:.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}] of {count}",
        "tau within a page": f"{tau.mean:.2f} [{tau.low:.2f}, {tau.high:.2f}]",
        "rank correlation over all": f"{spearman(np.concatenate(learned), np.concatenate(truth)):.2f}",
        "share of the oracle's gain": f"{share:.0%}",
    }


def _pairs(group: Group) -> list[float]:
    """1 for each pair of siblings that differ in the measure and that the reward orders so, 0.5 for a tie."""
    right = []
    for i, (a, x) in enumerate(zip(group.rewards, group.measures, strict=True)):
        for b, y in list(zip(group.rewards, group.measures, strict=True))[i + 1 :]:
            if abs(x - y) > SAME:
                right.append(0.5 if a == b else float((a > b) == (x > y)))
    return right


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def best_of_n(learned: Table, truth: Table, n: int, *, by: Table) -> Point:
    """The expected best of n of a page's N samples `by` a score, over all ways to draw n without replacement."""
    of_learned, of_truth = [], []
    for scores, measures, judge in zip(learned, truth, by, strict=True):
        order = sorted(range(len(scores)), key=lambda k: judge[k])
        weights = [comb(i, n - 1) / comb(len(scores), n) for i in range(len(scores))]
        of_learned.append(sum(w * scores[k] for w, k in zip(weights, order, strict=True)))
        of_truth.append(sum(w * measures[k] for w, k in zip(weights, order, strict=True)))
    return Point(label=str(n), learned=fmean(of_learned), truth=fmean(of_truth))


def curve_of(run: Path, name: str) -> list[Point]:
    """A run's own samples, `STEPS` steps a point: what the learned reward said of them and what they were worth."""
    settings = read_json(run / "config.json")
    algorithm = next(settings[key] for key in config.ALGORITHMS if settings.get(key))
    pages = {page.id: page for page in open_pages(config.page_source(algorithm["pages"]), run / "pages")}
    said = {row["step"]: row[f"{name}/score"] for row in read_jsonl(run / "metrics.jsonl") if f"{name}/score" in row}
    if not said:
        raise UserError(f"{run}: no step was scored by {name}; give runs that learnt from this reward.")
    worth = {
        int(file.stem): fmean(
            element_score(pages[group.page_id].reference or "", sample.body)
            for group in read_groups(file)
            for sample in group.samples
        )
        for file in sorted((run / "groups").glob("*.jsonl"))
    }
    steps = sorted(set(said) & set(worth))
    parts = [steps[i : i + STEPS] for i in range(0, len(steps), STEPS)]
    return [
        Point(label=str(part[-1]), learned=fmean(said[s] for s in part), truth=fmean(worth[s] for s in part))
        for part in parts
    ]


def plot(curves: Mapping[str, Sequence[Point]]) -> bytes:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.6, 4.2), dpi=110, layout="constrained")
    for name, points in curves.items():
        axis.plot([p.learned for p in points], [p.truth for p in points], marker="o", markersize=3, label=name)
        for point in points:
            axis.annotate(
                point.label, (point.learned, point.truth), fontsize=6, textcoords="offset points", xytext=(3, 3)
            )
    axis.set_xlabel("learned score of the samples, nats above the start's mean")
    axis.set_ylabel("element score of the same samples")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return as_png(figure)


def to_markdown(table: Mapping[str, Mapping[str, str]], curves: Mapping[str, Sequence[Point]], note: str) -> str:
    columns = list(next(iter(table.values())))
    lines = [note, "", f"| learned score against | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    lines += [f"| {name} | {' | '.join(row.values())} |" for name, row in table.items()]
    lines += ["", "| what climbs | point | learned score | element score |", "|---|--:|--:|--:|"]
    lines += [f"| {name} | {p.label} | {p.learned:+.2f} | {p.truth:.3f} |" for name, ps in curves.items() for p in ps]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy.learned_reward")
    parser.add_argument("reward_model", help="the `model` folder of a [reward_model] run's checkpoint")
    parser.add_argument("--runs", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--backend", default="vllm", choices=("vllm", "transformers"))
    parser.add_argument("--pages", type=int, default=120)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seed", type=int, default=2500)
    args = parser.parse_args(arguments)
    reward = open_learned_reward(args.reward_model, micro_tokens=16384)
    samples = read(
        *of_policy(
            "notice",
            args.out,
            model=args.model,
            backend=args.backend,
            pages=args.pages,
            n=args.samples,
            seed=args.seed,
        )
    )
    learned, truths = judged(samples, reward)
    table = {name: agreement(learned, truth) for name, truth in truths.items()}
    sizes = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= args.samples]
    truth = truths["element score"]
    curves: dict[str, Sequence[Point]] = {
        "best of n": [best_of_n(learned, truth, n, by=learned) for n in sizes],
        "best of n by the truth": [best_of_n(learned, truth, n, by=truth) for n in sizes],
    }
    for given in args.runs:
        name, _, folder = given.partition("=")
        curves[name] = curve_of(Path(folder), config.LEARNED + args.reward_model)
    note = f"{len(samples)} pages of the kind notice (seed {args.seed}), {args.samples} samples of {args.model} each."
    text = to_markdown(table, curves, note)
    print(text)
    kept = {"env": environment(), "table": table, "curves": {n: [asdict(p) for p in ps] for n, ps in curves.items()}}
    write_atomically(args.out / "learned.json", json.dumps(kept, indent=1))
    write_atomically(args.out / "learned.md", text + "\n")
    (args.out / "overoptimisation.png").write_bytes(plot(curves))
    return 0


if __name__ == "__main__":
    sys.exit(main())
