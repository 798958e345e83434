"""What samples one update old say of the gradient, term by term, beside fresh ones: is `ahead` right, and where not?

    python -m benchmarks.policy.stale [--recipe nano_grpo] [--seed 1] [--steps 8] [--pages 32]

After some steps of the recipe, pages are sampled; one update on other pages moves the policy; the same pages are
sampled twice more. Gradients of the surrogate and of the KL at the moved weights: of fresh samples, of fresh ones
again (how much is noise), of the old ones as the trainer weighs them, and of the old ones without weights. Prints their
norms, their cosine with fresh ones, and how far they reach along these, where fresh ones reach 1. Nothing is clipped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ocr_rl import config
from ocr_rl.config import load_recipe
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.learn.algos.rollouts import loss_of, to_rows
from ocr_rl.learn.algos.setting import SamplingSetting
from ocr_rl.learn.learner import Learner
from ocr_rl.rollout.collect import Rollout, Turns, collect
from ocr_rl.run import Run
from ocr_rl.train.session import open_session

TERMS = ("surrogate", "KL")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="nano_grpo")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8, help="updates before the one that is looked at")
    parser.add_argument("--pages", type=int, default=32)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args(arguments)
    recipe = load_recipe(args.recipe, [*args.set, f"seed={args.seed}", "optim.max_grad_norm=1e9"])
    with (
        tempfile.TemporaryDirectory() as name,
        open_session(recipe, Run(Path(name)), go_on=False, until=None, lent=None) as session,
    ):
        setting, cfg = session.setting, recipe.algorithm
        assert isinstance(setting, SamplingSetting) and isinstance(cfg, config.Grpo)
        for _, step in zip(range(args.steps), session.steps({}), strict=False):
            assert step.loss is not None
            setting.learner.update(step.rows, step.loss)
        old = drawn(setting, cfg, args.pages, seed=0)
        move(setting, cfg)
        fresh = [drawn(setting, cfg, args.pages, seed=seed) for seed in (1, 2)]
        print(table(setting, cfg, old, fresh))
    return 0


def drawn(setting: SamplingSetting, cfg: config.Grpo, pages: int, seed: int, after: int = 0) -> Rollout:
    """The same pages each time but for `after`, how many were drawn before them; by the weights of now."""
    setting.sampler.load(setting.learner.weights(), setting.learner.policy)
    asking = setting.asking(cfg, lambda drawn: 10_000 * (seed + 1) + drawn)
    return collect(asking, Turns(pages=setting.pages, seed=99, drawn=after), pages)


def move(setting: SamplingSetting, cfg: config.Grpo) -> None:
    got = drawn(setting, cfg, cfg.pages_per_step, seed=3, after=len(setting.pages) // 2)
    rows = to_rows(got.live, cfg, setting.sampling.max_tokens)
    setting.learner.update(setting.learner.annotate(rows, old=False, reference=cfg.beta > 0), loss_of(cfg))


def table(setting: SamplingSetting, cfg: config.Grpo, old: Rollout, fresh: Sequence[Rollout]) -> str:
    rows = []
    for term in TERMS:
        first, second = (gradient(setting, cfg, got, term) for got in fresh)
        fresh_sum = first + second
        others = {
            "fresh": first,
            "fresh again": second,
            "old, as weighed": gradient(setting, cfg, old, term, weighed=True),
            "old, without weights": gradient(setting, cfg, old, term),
        }
        reach = float(first @ second)
        for name, own in others.items():
            beside = second if own is first else first if own is second else fresh_sum / 2
            rows.append(
                [
                    term,
                    name,
                    f"{float(own.norm()):.3f}",
                    f"{float(own @ beside / (own.norm() * beside.norm())):.2f}",
                    f"{float(own @ beside) / reach:.2f}",
                ]
            )
    return to_markdown_table(["term", "samples", "norm", "cosine with fresh ones", "reach"], rows)


def gradient(setting: SamplingSetting, cfg: config.Grpo, got: Rollout, term: str, *, weighed: bool = False) -> Tensor:
    """Of all weights that learn, on one line; nothing moves. weighed: samples count as older ones do in training."""
    learner: Learner = setting.learner
    rows = to_rows(got.live, cfg, setting.sampling.max_tokens)
    if term == "KL":
        rows = [replace(row, advantage=0.0) for row in rows]
    rows = learner.annotate(rows, old=False, reference=term == "KL")
    if not weighed:
        rows = [replace(row, sampler_logprobs=None) for row in rows]
    learner.prepare(
        rows, replace(loss_of(cfg), beta=cfg.beta if term == "KL" else 0.0, stale=weighed, weigh_kl=weighed)
    )
    flat = [weight.grad.flatten().clone() for weight in learner.masters.by_name.values() if weight.grad is not None]
    learner.drop()
    return torch.cat(flat)


if __name__ == "__main__":
    sys.exit(main())
