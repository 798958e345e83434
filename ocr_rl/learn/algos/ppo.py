"""PPO: sample transcripts, score them, learn from how each token's outcome compares with what a critic expected there.

Schulman et al. 2017 (arXiv 1707.06347), for language models as in RLHF (Ouyang et al. 2022, arXiv 2203.02155). Beside
`grpo`: a critic stands where the siblings of a group stand, so one sample a page is enough; the loss is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any

from ocr_rl import config
from ocr_rl.learn.algos.rollouts import Tally, loss_of, reweighted, split_by_group, to_rows
from ocr_rl.learn.algos.setting import PpoSetting
from ocr_rl.learn.algos.stream import Stream
from ocr_rl.learn.step import Step
from ocr_rl.learn.undrawn import lost_pages, without_undrawn
from ocr_rl.objectives.losses import Loss
from ocr_rl.objectives.returns import explained_variance, gae, token_rewards, whitened
from ocr_rl.objectives.scalar_losses import ValueLoss, WithCritic
from ocr_rl.rollout.asking import with_left_out
from ocr_rl.rollout.collect import Turns, timed
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.sampler.base import seed_for


def ppo(cfg: config.Ppo, setting: PpoSetting, state: Mapping[str, Any]) -> Iterator[Step]:
    """Steps from `state` (a step's own `state`, or empty) to `cfg.steps` optimiser updates."""
    learner, critic = setting.learner, setting.critic
    turns = Turns(pages=setting.pages, seed=setting.seed, drawn=int(state.get("drawn", 0)))
    asking = setting.asking(cfg, partial(seed_for, setting.seed), ahead=cfg.pages_per_step)
    stream, tally = Stream(cfg, setting, asking, turns), Tally("ppo")
    with closing(stream.rollouts()) as arriving:
        for got in arriving:
            tally.add(got)
            # What a whole sample is worth; what its tokens are worth is for the critic to say.
            rows = to_rows([replace(g, advantages=g.rewards) for g in got.groups], cfg, setting.sampling.max_tokens)
            if len({row.advantage for row in rows}) < 2:
                tally.require_signal(setting.score)
                continue
            with timed(tally.clock, "annotate_s"):
                old = cfg.updates > 1 or cfg.beta_of_reward > 0
                annotated = learner.annotate(rows, old=old, reference=cfg.beta > 0)
                left, values = without_undrawn(annotated, critic.values)
                figures = {**got.figures, **stream.figures(got), "pages_drawn": got.after["drawn"]}
                figures = with_left_out(figures, lost_pages(rows, left))
                rows, judged = with_critic(left, values, cfg)
                figures |= judged
            parts = split_by_group(rows, cfg.minibatches) * cfg.epochs
            for i, part in enumerate(parts):
                last = i == len(parts) - 1 or learner.policy + 1 == cfg.steps
                loss, critic_loss = losses_of(cfg, warm=learner.policy < cfg.critic.warmup)
                yield Step(
                    rows=reweighted(part, rows, cfg.aggregation),
                    loss=loss,
                    critic_loss=critic_loss,
                    metrics={**figures, **tally.clock, **(tally.counts if i == 0 else {})},
                    groups=got.groups if last else (),
                    state=got.after if last else None,
                )
                if learner.policy >= cfg.steps:
                    return
            tally = Tally("ppo")


def losses_of(cfg: config.Ppo, *, warm: bool) -> tuple[Loss | None, Loss | None]:
    """(the policy's, the critic's own); in the warm-up nothing moves the policy."""
    policy, critic = None if warm else loss_of(cfg), ValueLoss(clip=cfg.critic.clip)
    if cfg.critic.kind == "head":
        return WithCritic(policy=policy, critic=critic, weight=cfg.critic.weight), None
    return policy, critic


def with_critic(
    rows: Sequence[Row], values: Sequence[tuple[float, ...]], cfg: config.Ppo
) -> tuple[list[Row], dict[str, float]]:
    """Rows whose advantage is a sample's reward, with advantages and returns of each token; and figures about them."""
    judged: list[Row] = []
    for row, value in zip(rows, values, strict=True):
        assert isinstance(row.advantage, float)
        beta = cfg.beta_of_reward
        rewards = token_rewards(row.advantage, drift_of(row) if beta else (0.0,) * len(value), beta)
        advantages, returns = gae(rewards, value, gamma=cfg.gamma, lam=cfg.gae_lambda)
        judged.append(replace(row, advantage=advantages, values=value, returns=returns))
    told = [v for value in values for v in value]
    came = [outcome for row in judged for outcome in row.returns or ()]
    figures = {"explained_variance": explained_variance(told, came), "returns": fmean(came)}
    if cfg.whiten:
        white = whitened([row.advantage for row in judged if isinstance(row.advantage, tuple)])
        judged = [replace(row, advantage=advantage) for row, advantage in zip(judged, white, strict=True)]
    return judged, figures


def drift_of(row: Row) -> tuple[float, ...]:
    """log pi - log ref of each token, of the policy as the rollout's updates begin: its writer, or the next one."""
    assert row.old_logprobs is not None and row.ref_logprobs is not None
    return tuple(old - ref for old, ref in zip(row.old_logprobs, row.ref_logprobs, strict=True))
