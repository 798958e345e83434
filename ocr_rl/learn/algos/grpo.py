"""GRPO: sample G transcripts of each page, score them, learn from how a sample compares with its siblings.

Shao et al. 2024 (arXiv 2402.03300). A generator of steps: it resumes only after the learner's update, so sampling is
on-policy by shape, but for the one rollout that `ahead` asks for (`stream`). Weights are those of the whole step, so
micro-batches cannot change the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from tqdm import tqdm

from ocr_rl import config
from ocr_rl.learn.algos.rollouts import Tally, loss_of, reweighted, split_by_group, to_rows
from ocr_rl.learn.algos.setting import SamplingSetting
from ocr_rl.learn.algos.stream import Stream
from ocr_rl.learn.step import Step
from ocr_rl.learn.undrawn import lost_pages
from ocr_rl.pages.epochs import Rests
from ocr_rl.rollout.asking import with_left_out
from ocr_rl.rollout.collect import Turns, timed
from ocr_rl.rollout.compare import upside_down
from ocr_rl.rollout.describe import describe_shares
from ocr_rl.rollout.sampler.base import seed_for


def grpo(cfg: config.Grpo, setting: SamplingSetting, state: Mapping[str, Any]) -> Iterator[Step]:
    """Steps from `state` (a step's own `state`, or empty) to `cfg.steps` optimiser updates."""
    learner, loss = setting.learner, loss_of(cfg)
    rests = Rests(cfg.rest, state.get("rests", {}))
    turns = Turns(pages=setting.pages, seed=setting.seed, drawn=int(state.get("drawn", 0)), rests=rests)
    asking = setting.asking(cfg, partial(seed_for, setting.seed), refills=cfg.refills, ahead=cfg.pages_per_step)
    stream, tally = Stream(cfg, setting, asking, turns), Tally("grpo")
    with closing(stream.rollouts()) as arriving:
        for got in arriving:
            tally.add(got)
            if learner.policy == 0 and got.groups:
                tqdm.write(describe_shares(got.scored, cfg.advantage))
            drawn = got.after["drawn"]
            live, figures = got.live, {**got.figures, "pages_drawn": drawn}
            if setting.credit is not None:
                with timed(tally.clock, "credit_s"):
                    live = setting.credit(got.live_with_scores)
                figures["uncredited"] = sum(group.token_advantages is None for group in live)
            live = [upside_down(group, cfg.flip, f"{setting.seed}/{drawn}") for group in live]
            rows = to_rows(live, cfg, setting.sampling.max_tokens)  # none too when every sample was cut off and masked
            if not rows:
                tally.require_signal(setting.score)
                continue
            with timed(tally.clock, "annotate_s"):
                # One update a rollout: the old policy is the one that is updated, and the pass through it its own.
                annotated = learner.annotate(rows, old=cfg.minibatches > 1, reference=cfg.beta > 0)
                figures = with_left_out({**figures, **stream.figures(got)}, lost_pages(rows, annotated))
                rows = annotated
            parts = split_by_group(rows, cfg.minibatches)
            for i, part in enumerate(parts):
                last = i == len(parts) - 1 or learner.policy + 1 == cfg.steps
                yield Step(
                    rows=reweighted(part, rows, cfg.aggregation),
                    loss=loss,
                    metrics={**figures, **tally.clock, **(tally.counts if i == 0 else {})},
                    groups=live if last else (),
                    state=got.after if last else None,
                )
                if learner.policy >= cfg.steps:
                    return
            tally = Tally("grpo")
