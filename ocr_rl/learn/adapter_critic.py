"""A critic that is a second adapter on the policy's base: of a 7B model it costs megabytes, not another 16 GB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ocr_rl import config
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.masters import Masters
from ocr_rl.learn.network import CRITIC, POLICY, Reads
from ocr_rl.learn.optimizers import open_optimizers
from ocr_rl.objectives.losses import Loss
from ocr_rl.rollout.flow import Row


class AdapterCritic(Learner):
    """Whatever it computes, it computes with its own adapter switched on; the policy never sees that."""

    def __init__(self, policy: Learner, optim: config.Optim) -> None:
        """`policy` was opened with `critic_adapter`. All but what learns is the policy's own."""
        assert policy.head is not None and not policy.network.stop_gradient
        self.__dict__.update(policy.__dict__)
        self.name, self.policy, self.settings, self.reads, self.reference = CRITIC, 0, optim, Reads.SCALARS, None
        with self._switched():
            self.masters = Masters(self.module, self.head, self._seed)
        self.optimizers = open_optimizers(self.masters.by_name, optim)

    def prepare(self, rows: Sequence[Row], loss: Loss) -> dict[str, float]:
        with self._switched():
            return super().prepare(rows, loss)

    def values(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        with self._switched():
            return super().values(rows)

    def scores(self, rows: Sequence[Row]) -> list[float]:
        with self._switched():
            return super().scores(rows)

    @contextmanager
    def _switched(self) -> Iterator[None]:
        self.module.set_adapter(CRITIC)  # type: ignore[operator]
        try:
            yield
        finally:
            self.module.set_adapter(POLICY)  # type: ignore[operator]
