"""Losses, gradients and advantages of this project and of TRL's trainers, on the same numbers.

    python -m benchmarks.peers.losses --peer-python PATH

The peer is a Python with TRL 1.16 in an environment of its own; --answers keeps what it says, and without a peer reads
it again. Log-probabilities, rewards and lengths are random, the
code is each side's own: ours from scored groups over rows, micro-batches and `collate` to the loss; TRL's from rewards
over its windows and micro-batches to `compute_loss`. One JSON line a case with the largest differences: of the loss and
of the advantages as they are, of the gradient with respect to the log-probabilities over its largest component. Where
the two differ on purpose the line names what was made alike first; lines with "equal": false show a difference that no
setting takes away. Exits 1 when any other line is above 1e-6.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from benchmarks.peers.cases import MAX_TOKENS, PAGES, SAMPLES, Case, Numbers, Values, dpo_cases, grpo_cases, numbers
from ocr_rl import config
from ocr_rl.contract import Page, Score, UserError
from ocr_rl.learn.algos.grpo import reweighted, to_rows
from ocr_rl.learn.rows import Batch, collate, micro_batches, packed_length
from ocr_rl.objectives.advantages import EPS
from ocr_rl.objectives.aggregation import AGGREGATIONS
from ocr_rl.objectives.losses import Loss, PolicyGradient, PreferenceLoss, Read
from ocr_rl.pages.raster import ImageRef
from ocr_rl.rollout.compare import has_signal, with_advantages
from ocr_rl.rollout.flow import ComparedGroup, Group, Prompt, Row, Sample
from ocr_rl.rollout.scoring import GroupScores, ScoredGroup
from ocr_rl.run import write_atomically

LIMIT = 1e-6
BUDGET = 3 * MAX_TOKENS  # padded tokens of our micro-batches: a group is cut into several
PROMPT = Prompt(page_id="p", image=ImageRef(pdf=Path("a.pdf"), number=1), token_ids=(5,), expanded_ids=(5,))


def asked_grpo(case: Case, given: Numbers) -> dict[str, Any]:
    return {
        "kind": "grpo",
        "config": dict(case.theirs),
        "samples": SAMPLES,
        "windows": case.windows,
        "accumulate": case.accumulate,
        "logprobs": given.logprobs,
        "old": given.old,
        "ref": given.ref if case.theirs["beta"] else None,
        "sampler": given.sampler if case.sampler else None,
        "ended": given.ended,
        "rewards": given.rewards,
        "reward_weights": list(case.reward_weights),
    }


def asked_dpo(case: Case, given: Numbers) -> dict[str, Any]:
    config = {"beta": 0.1, "loss_type": ["sigmoid"], **case.theirs}
    return {"kind": "dpo", "config": config, "batch": case.batch, "logprobs": given.logprobs, "ref": given.ref}


def compared(case: Case, given: Numbers) -> list[ComparedGroup]:
    """The numbers as scored groups, with advantages; GDPO's scaled over the batch, which ours leave out (`alike`)."""
    scored = []
    for j in range(PAGES):
        ks = range(j * SAMPLES, (j + 1) * SAMPLES)
        samples = [
            Sample(
                token_ids=(1,) * len(given.logprobs[k]),
                logprobs=tuple(given.sampler[k]),
                text="",
                finish="stop" if given.ended[k] else "length",
                policy=0,
            )
            for k in ks
        ]
        page = Page(id=f"p{j}", pdf=Path("a.pdf"), number=1, reference=None, checks=())
        names = [f"reward {i}" for i in range(len(case.reward_weights))]
        scores = GroupScores(
            by_reward={name: tuple(Score(value=given.rewards[k][i]) for k in ks) for i, name in enumerate(names)},
            weights=dict(zip(names, case.reward_weights, strict=True)),
            passes=(True,) * SAMPLES,
            rewards=tuple(
                sum(weight * value for weight, value in zip(case.reward_weights, given.rewards[k], strict=True))
                for k in ks
            ),
        )
        group = Group(page=page, prompt=PROMPT, samples=tuple(samples), temperature=1.0, banned_ids=())
        scored.append(ScoredGroup(group=group, scores=scores))
    groups = with_advantages(scored, case.recipe.get("advantage", "group_std"))
    if case.recipe.get("advantage") != "gdpo":
        return groups
    every = [advantage for group in groups for advantage in group.advantages]
    mean, std = fmean(every), stdev(every) + EPS
    return [
        replace(group, advantages=tuple((advantage - mean) / std for advantage in group.advantages)) for group in groups
    ]


def compare_grpo(case: Case, given: Numbers, answer: Mapping[str, Any], dtype: torch.dtype) -> dict[str, float]:
    groups = compared(case, given)
    live = [group for group in groups if has_signal(group)]
    cfg = config.Grpo.model_validate({"pages": {"synth": "report", "n": 1}, "steps": 1, **case.recipe})
    # Which row of the numbers each of ours is: the j-th group's rows come in the order of its samples.
    index = [
        j * SAMPLES + k
        for j, group in enumerate(groups)
        if has_signal(group)
        for k in range(SAMPLES)
        if given.ended[j * SAMPLES + k] or not cfg.mask_unfinished
    ]
    rows = [
        replace(
            row,
            old_logprobs=tuple(given.old[k]),
            ref_logprobs=tuple(given.ref[k]) if case.loss.get("beta") else None,
            sampler_logprobs=row.sampler_logprobs if case.sampler else None,
        )
        for k, row in zip(index, to_rows(live, cfg, MAX_TOKENS), strict=True)
    ]
    loss = PolicyGradient(**case.loss)
    gradient: Values = [[0.0] * len(row) for row in given.logprobs]
    gap = 0.0
    for window in answer["windows"]:
        chosen = [(k, row) for k, row in zip(index, rows, strict=True) if k in set(window["rows"])]
        part = reweighted([row for _, row in chosen], rows, cfg.aggregation)
        value, slopes = loss_and_gradient(loss, part, [given.logprobs[k] for k, _ in chosen], dtype)
        factor = _factor(case, part, rows, groups)
        gap = max(gap, abs(factor * value - window["loss"]))
        for (k, _), row in zip(chosen, slopes, strict=True):
            gradient[k] = [factor * slope for slope in row]
    advantages = [advantage for group in groups for advantage in group.advantages]
    return {
        "loss": gap,
        "gradient": _relative(gradient, answer["gradient"]),
        "advantages": max(abs(a - b) for a, b in zip(advantages, answer["advantages"], strict=True)),
    }


def _factor(case: Case, part: Sequence[Row], rows: Sequence[Row], groups: Sequence[ComparedGroup]) -> float:
    """From our normaliser to TRL's, where they are not the same: see `alike`."""
    by_tokens = AGGREGATIONS[case.recipe["aggregation"]].by_tokens
    tokens = sum(len(row.completion_ids) for row in rows)
    if case.flat and by_tokens:
        return tokens / sum(len(sample.token_ids) for group in groups for sample in group.group.samples)
    if case.flat:
        return len({row.group_id for row in rows}) / len(groups)
    if case.windows > 1 and by_tokens:
        return case.windows * sum(len(row.completion_ids) for row in part) / tokens
    return 1.0


def compare_dpo(case: Case, given: Numbers, answer: Mapping[str, Any], dtype: torch.dtype) -> dict[str, float]:
    pairs = len(given.logprobs) // 2
    rows = [
        Row(
            prompt=PROMPT,
            completion_ids=(1,) * len(given.logprobs[k]),
            group_id=k // 2,
            weight=1 / pairs,
            advantage=1.0 if k % 2 == 0 else -1.0,
            ref_logprobs=tuple(given.ref[k]),
        )
        for k in range(2 * pairs)
    ]
    value, gradient = loss_and_gradient(PreferenceLoss(beta=0.1, **case.loss), rows, given.logprobs, dtype)
    return {"loss": abs(value - answer["loss"]), "gradient": _relative(gradient, answer["gradient"])}


def loss_and_gradient(loss: Loss, rows: Sequence[Row], logprobs: Values, dtype: torch.dtype) -> tuple[float, Values]:
    """Summed over our micro-batches, as the learner does; the gradient by row, then by token."""
    place = {id(row): k for k, row in enumerate(rows)}
    gradient: Values = [[] for _ in rows]
    total = 0.0
    for groups in micro_batches(rows, max(BUDGET, 2 * max(map(packed_length, ([row] for row in rows))))):
        pixels = torch.zeros(0), torch.zeros(len(groups), 3)
        batch = _as(collate(groups, pixels, lambda row, grid: torch.zeros(3, 1, dtype=torch.long)), dtype)
        values = [logprobs[place[id(row)]] for row in batch.rows]
        logprob_N = torch.tensor([value for row in values for value in row], dtype=dtype, requires_grad=True)
        value, _ = loss(Read(logprob_N=logprob_N, entropy_N=torch.zeros_like(logprob_N)), batch)
        (slope_N,) = torch.autograd.grad(value, logprob_N)
        total += float(value.detach())
        for row, piece in zip(batch.rows, slope_N.split([len(row) for row in values]), strict=True):
            gradient[place[id(row)]] = piece.tolist()
    return total, gradient


def _as(batch: Batch, dtype: torch.dtype) -> Batch:
    names = ("weight_N", "advantage_N", "sampler_N", "old_N", "ref_N")
    found = {name: getattr(batch, name) for name in names}
    return replace(batch, **{name: None if value is None else value.to(dtype) for name, value in found.items()})


def _relative(ours: Values, theirs: Values) -> float:
    pairs = [(a, b) for mine, other in zip(ours, theirs, strict=True) for a, b in zip(mine, other, strict=True)]
    return max(abs(a - b) for a, b in pairs) / max(abs(b) for _, b in pairs)


def ask(python: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The peer's answers. UserError with its last words if it fails."""
    script = Path(__file__).with_name("peer_losses.py")
    try:
        done = subprocess.run([python, str(script)], input=json.dumps(asked).encode(), capture_output=True)
    except OSError as error:
        raise UserError(f"{python} cannot be started ({error.strerror}); name a Python that has TRL 1.16.") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(f"{python} {script.name} failed: {said[-1] if said else 'it said nothing'}")
    return json.loads(done.stdout)


def answers(args: argparse.Namespace) -> dict[str, Any]:
    """From the peer, or from an earlier run's file: seed, dtype, versions, answers by case. UserError without both."""
    if not args.peer_python:
        if not (args.answers and args.answers.is_file()):
            raise UserError(
                "Name a Python that has TRL 1.16 with --peer-python, or a file of its answers with --answers."
            )
        return json.loads(args.answers.read_text(encoding="utf-8"))
    names = args.case or list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        raise UserError(f"--case: there is no case {unknown[0]!r}; without --case all are shown.")
    asked = {name: ASKED[CASES[name].kind](CASES[name], numbers(args.seed, CASES[name])) for name in names}
    found = ask(args.peer_python, {"dtype": args.dtype, "cases": asked}) | {"seed": args.seed, "dtype": args.dtype}
    if args.answers:
        write_atomically(args.answers, json.dumps(found) + "\n")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", help="a Python that has TRL 1.16")
    parser.add_argument("--answers", type=Path, help="a file for the peer's answers")
    parser.add_argument("--case", nargs="+", help="only these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="of both sides")
    args = parser.parse_args(arguments)
    try:
        found = answers(args)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    judged = []
    for name, answer in found["answers"].items():
        case = CASES[name]
        gaps = COMPARE[case.kind](case, numbers(found["seed"], case), answer, getattr(torch, found["dtype"]))
        largest = max(gaps.values())
        shown = {"case": name} | {gap: float(f"{value:.2g}") for gap, value in gaps.items()}
        print(json.dumps(shown | {"equal": largest <= LIMIT} | ({"alike": case.alike} if case.alike else {})))
        judged += [largest] if case.equal else []
    rest = {name: value for name, value in found.items() if name != "answers"}
    largest = max(judged, default=0.0)
    print(json.dumps({"cases": len(judged), "largest": float(f"{largest:.2g}"), "limit": LIMIT, **rest}))
    return int(not largest <= LIMIT)


CASES = {case.name: case for case in (*grpo_cases(), *dpo_cases())}
ASKED = {"grpo": asked_grpo, "dpo": asked_dpo}
COMPARE = {"grpo": compare_grpo, "dpo": compare_dpo}

if __name__ == "__main__":
    sys.exit(main())
