"""Where GRPO and PPO get their rollouts from: sampled when they are asked for, or one ahead of the learner."""

from __future__ import annotations

from collections.abc import Generator

from ocr_rl import config
from ocr_rl.learn.algos.setting import SamplingSetting
from ocr_rl.learn.probe import Canary
from ocr_rl.rollout.ahead import rollouts
from ocr_rl.rollout.collect import Asking, Rollout, Turns, collect


class Stream:
    """Rollouts for a learner, until it has done its steps; and figures about how old they are.

    With `ahead` none is on its way where the loop saves or evaluates (`pauses`): the next one is sampled afterwards, by
    the weights that were saved. So a checkpoint needs no rollout in it, and a run gone on with is the same to the bit;
    what a kill finds on its way is thrown away.
    """

    def __init__(self, cfg: config.OnPolicy, setting: SamplingSetting, asking: Asking, turns: Turns) -> None:
        self._cfg, self._setting, self._asking, self._turns = cfg, setting, asking, turns
        self._canary = None
        if cfg.ahead:
            self._canary = Canary(setting.learner, asking.sampler, setting.pages, asking.sampling, setting.seed)

    def rollouts(self) -> Generator[Rollout, None, None]:
        """To be closed by whoever leaves it early."""
        learner, cfg = self._setting.learner, self._cfg
        return rollouts(
            self._load,
            lambda: collect(self._asking, self._turns, cfg.pages_per_step),
            more=lambda: learner.policy < cfg.steps,
            ahead=self._may_go_ahead,
            aside=self._setting.sampling.elsewhere,
        )

    def figures(self, got: Rollout) -> dict[str, float]:
        """With `ahead`: how many updates behind the learner a rollout is, and the gap of fresh samples where known."""
        if self._canary is None:
            return {}
        behind = [self._setting.learner.policy - s.policy for group in got.groups for s in group.group.samples]
        return {**self._canary.gap(), "behind": max(behind, default=0)}

    def _load(self) -> None:
        learner = self._setting.learner
        self._asking.sampler.load(learner.weights(), learner.policy)
        if self._canary is not None:
            self._canary.ask()

    def _may_go_ahead(self) -> bool:
        """Whether none of the updates of the rollout that comes first needs the engine, or is saved."""
        done = self._setting.learner.policy
        steps = range(done + 1, done + 1 + self._cfg.updates)
        return bool(self._cfg.ahead) and not any(map(self._setting.pauses, steps))
