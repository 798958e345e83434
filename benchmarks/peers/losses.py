"""Losses, gradients and advantages of this project and of TRL's trainers, on the same numbers.

    python -m benchmarks.peers.losses --peer-python PATH --ppo-python PATH

The peer is a Python with TRL 1.16 in an environment of its own; PPO, which TRL dropped after 1.12, needs one with
that. --answers keeps what they say, and without a peer reads it again. Log-probabilities, values, rewards and lengths
are random, the code is each side's own: ours from scored groups over rows, micro-batches and `collate` to the loss;
TRL's from rewards over its windows and micro-batches to `compute_loss`, or PPO's whole `train`. One JSON line a case
with the largest differences: of a gradient over its largest component, of all else as it is. Where the two differ on
purpose the line names what was made alike first; lines with "equal": false show a difference that no setting takes
away. Exits 1 when any other line is above 1e-6.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from benchmarks.peers.cases import MAX_TOKENS, PAGES, SAMPLES, Case, Numbers, Values, dpo_cases, grpo_cases, numbers
from benchmarks.peers.rlhf import asked_pairs, asked_rollout, compare_critic, compare_pairs, compare_policy
from benchmarks.peers.rlhf_cases import PairCase, RolloutCase, pair_cases, pair_numbers, rollout_cases, rollout_numbers
from benchmarks.peers.slopes import PROMPT, loss_and_gradient, relative
from ocr_rl import config
from ocr_rl.contract import Page, Score, UserError
from ocr_rl.learn.algos.rollouts import reweighted, to_rows
from ocr_rl.objectives.advantages import EPS
from ocr_rl.objectives.aggregation import AGGREGATIONS
from ocr_rl.objectives.losses import PolicyGradient, PreferenceLoss
from ocr_rl.rollout.compare import has_signal, with_advantages
from ocr_rl.rollout.flow import ComparedGroup, Group, Row, Sample
from ocr_rl.rollout.scoring import GroupScores, ScoredGroup
from ocr_rl.run import write_atomically

LIMIT = 1e-6
AnyCase = Case | PairCase | RolloutCase


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
        value, slopes, _ = loss_and_gradient(loss, part, [given.logprobs[k] for k, _ in chosen], dtype)
        factor = _factor(case, part, rows, groups)
        gap = max(gap, abs(factor * value - window["loss"]))
        for (k, _), row in zip(chosen, slopes, strict=True):
            gradient[k] = [factor * slope for slope in row]
    advantages = [advantage for group in groups for advantage in group.advantages]
    return {
        "loss": gap,
        "gradient": relative(gradient, answer["gradient"]),
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
    value, gradient, _ = loss_and_gradient(PreferenceLoss(beta=0.1, **case.loss), rows, given.logprobs, dtype)
    return {"loss": abs(value - answer["loss"]), "gradient": relative(gradient, answer["gradient"])}


def ask(python: str, script: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """A peer's answers. UserError with its last words if it fails."""
    try:
        done = subprocess.run(
            [python, str(Path(__file__).with_name(script))], input=json.dumps(asked).encode(), capture_output=True
        )
    except OSError as error:
        raise UserError(
            f"{python} cannot be started ({error.strerror}); name a Python that has {NEEDS[script]}."
        ) from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(f"{python} {script} failed: {words[-1] if words else 'it said nothing'}")
    return json.loads(done.stdout)


def answers(args: argparse.Namespace) -> dict[str, Any]:
    """From the peers, or from an earlier run's file: seed, dtype, versions, answers by case. UserError without both."""
    pythons = {"peer_losses.py": args.peer_python, "peer_ppo.py": args.ppo_python}
    if not any(pythons.values()):
        if not (args.answers and args.answers.is_file()):
            raise UserError(
                "Name a Python that has TRL 1.16 with --peer-python, or a file of its answers with --answers."
            )
        return json.loads(args.answers.read_text(encoding="utf-8"))
    names = args.case or [name for name, case in CASES.items() if pythons[KINDS[case.kind].script]]
    if unknown := [name for name in names if name not in CASES]:
        raise UserError(f"--case: there is no case {unknown[0]!r}; without --case all are shown.")
    whole: dict[str, Any] = {"versions": {}, "answers": {}, "seed": args.seed, "dtype": args.dtype}
    for script, python in pythons.items():
        cases = {name: CASES[name] for name in names if KINDS[CASES[name].kind].script == script}
        if cases and not python:
            option = "--ppo-python" if script == "peer_ppo.py" else "--peer-python"
            raise UserError(f"--case: {next(iter(cases))!r} needs a Python that has {NEEDS[script]}: {option}.")
        if cases:
            asked = {name: asking(case, args.seed) for name, case in cases.items()}
            answer = ask(python, script, {"dtype": args.dtype, "cases": asked})
            whole["versions"] |= answer["versions"]
            whole["answers"] |= answer["answers"]
    if args.answers:
        write_atomically(args.answers, json.dumps(whole) + "\n")
    return whole


def asking(case: AnyCase, seed: int) -> dict[str, Any]:
    kind = KINDS[case.kind]
    return kind.asked(case, kind.numbers(seed, case))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", help="a Python that has TRL 1.16")
    parser.add_argument("--ppo-python", help="a Python that has TRL 1.12, the last version with PPO")
    parser.add_argument("--answers", type=Path, help="a file for the peers' answers")
    parser.add_argument("--case", nargs="+", help="only these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="of both sides")
    args = parser.parse_args(arguments)
    try:
        whole = answers(args)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    judged = []
    for name, answer in whole["answers"].items():
        case = CASES[name]
        kind = KINDS[case.kind]
        gaps = kind.compare(case, kind.numbers(whole["seed"], case), answer, getattr(torch, whole["dtype"]))
        largest = max(gaps.values())
        shown = {"case": name} | {gap: float(f"{value:.2g}") for gap, value in gaps.items()}
        print(json.dumps(shown | {"equal": largest <= LIMIT} | ({"alike": case.alike} if case.alike else {})))
        judged += [largest] if case.equal else []
    rest = {name: value for name, value in whole.items() if name != "answers"}
    largest = max(judged, default=0.0)
    print(json.dumps({"cases": len(judged), "largest": float(f"{largest:.2g}"), "limit": LIMIT, **rest}))
    return int(not largest <= LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a kind of case is given, what its peer is asked, and how our side compares with the answer."""

    numbers: Callable[[int, Any], Any]
    asked: Callable[[Any, Any], dict[str, Any]]
    compare: Callable[[Any, Any, Mapping[str, Any], torch.dtype], dict[str, float]]
    script: str = "peer_losses.py"


NEEDS = {"peer_losses.py": "TRL 1.16", "peer_ppo.py": "TRL 1.12, the last version with PPO"}
KINDS = {
    "grpo": Kind(numbers=numbers, asked=asked_grpo, compare=compare_grpo),
    "dpo": Kind(numbers=numbers, asked=asked_dpo, compare=compare_dpo),
    "reward_model": Kind(numbers=pair_numbers, asked=asked_pairs, compare=compare_pairs),
    "ppo": Kind(numbers=rollout_numbers, asked=asked_rollout, compare=compare_policy, script="peer_ppo.py"),
    "critic": Kind(numbers=rollout_numbers, asked=asked_rollout, compare=compare_critic, script="peer_ppo.py"),
}
CASES: dict[str, AnyCase] = {case.name: case for case in (*grpo_cases(), *dpo_cases(), *pair_cases(), *rollout_cases())}

if __name__ == "__main__":
    sys.exit(main())
