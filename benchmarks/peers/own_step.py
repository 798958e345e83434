"""Our half of `benchmarks.peers.step`: GRPO's own generator and the learner, a step for each line on stdin."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.peers.peer_step import private_stdout, reset_peak, resident_mb
from benchmarks.peers.sides import Answer
from ocr_rl import config
from ocr_rl.learn.algos.grpo import grpo
from ocr_rl.learn.algos.setting import SamplingSetting
from ocr_rl.learn.learner import Learner
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_origin, open_sampler
from ocr_rl.rollout.flow import Group
from ocr_rl.rollout.prompt import Origin
from ocr_rl.rollout.scoring import GroupScores, ScoredGroup


def main() -> None:
    answers = private_stdout()
    with closing(steps(json.loads(sys.stdin.readline()))) as figures:  # type: ignore[type-var]
        for _ in sys.stdin:
            print(json.dumps(next(figures)), file=answers, flush=True)


def steps(work: Answer) -> Iterator[Answer]:
    """The figures of each step; a step is all that lies between two of them."""
    policy, origin = opened(work)
    cfg = config.Grpo.model_validate(
        {
            "pages": work["source"],
            "steps": work["steps"],
            "pages_per_step": work["pages_per_step"],
            "samples_per_page": work["samples"],
            "beta": work["beta"],
        }
    )
    optim = config.Optim.model_validate({"lr": work["lr"], "micro_tokens": 10**9})
    learner = Learner(origin, policy, optim, steps=cfg.steps, reference=cfg.needs_reference)
    setting = setting_of(work, cfg, learner, origin, policy)
    before_mb = resident_mb()
    started, cpu = time.perf_counter(), time.process_time()
    for step in grpo(cfg, setting, {}):
        reset_peak()
        update_from, update_cpu = time.perf_counter(), time.process_time()
        assert step.loss is not None
        learner.update(step.rows, step.loss)
        end, cpu_end, peak = time.perf_counter(), time.process_time(), resident_mb("VmHWM")
        yield {
            "step_s": end - started,
            "step_cpu_s": cpu_end - cpu,
            "sample_s": step.metrics["rollout_s"],
            "reference_s": step.metrics["annotate_s"],
            "update_s": end - update_from,
            "update_cpu_s": cpu_end - update_cpu,
            "tokens": sum(len(row.completion_ids) for row in step.rows),
            "peak_mb": peak,
            "extra_mb": peak - before_mb,
            "prompt_ids": [list(compared.group.prompt.expanded_ids) for compared in step.groups],
        }
        started, cpu = time.perf_counter(), time.process_time()
    setting.sampler.close()


def setting_of(
    work: Answer, cfg: config.Grpo, learner: Learner, origin: Origin, policy: config.Policy
) -> SamplingSetting:
    sampling = config.Sampling.model_validate(
        {"engine": work["sampler"], "max_tokens": work["max_tokens"], "max_model_len": 2048}
    )
    folder = Path(work["root"])
    sources = partial(open_pages, root=folder)
    return SamplingSetting(
        seed=0,
        learner=learner,
        open_pages=sources,
        folder=folder,
        pages=sources(cfg.pages),
        sampler=open_sampler(sampling, origin, policy),
        score=score,
        sampling=sampling,
    )


def opened(work: Answer) -> tuple[config.Policy, Origin]:
    policy = config.Policy.model_validate({"path": work["model"], "longest_px": work["longest_px"]})
    origin = open_origin(policy, work["model"])
    prompter = replace(origin.prompter, max_prompt_tokens=None)
    if work["fixed"]:
        prompter = replace(prompter, banned_ids=(*prompter.banned_ids, prompter.eos_id))
    return policy, replace(origin, prompter=prompter)


def score(groups: Sequence[Group]) -> list[ScoredGroup]:
    """Sample k of G gets k / G: nothing to compute, and every group has a signal."""
    scored = []
    for group in groups:
        rewards = tuple(k / len(group.samples) for k in range(len(group.samples)))
        scores = GroupScores(by_reward={}, weights={}, passes=(True,) * len(rewards), rewards=rewards)
        scored.append(ScoredGroup(group=group, scores=scores))
    return scored


if __name__ == "__main__":
    main()
