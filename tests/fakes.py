"""Stand-ins with scripted answers, for tests that need no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ocr_rl.contract import Page
from ocr_rl.rollout.flow import Group, Prompt, Sample
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampling

LOGPROB = -0.5  # of every token of every scripted sample


class FakeSampler:
    """A `Sampler` that writes what `script(page, k)` says for sibling k, cut off at max_tokens."""

    def __init__(self, prompter: Prompter, script: Callable[[Page, int], str]) -> None:
        self.policy, self.engines = 0, 1
        self.loaded: list[str] = []  # names of the weights last loaded
        self.closed = False
        self._prompter, self._script = prompter, script

    def sample(self, asked: Sequence[tuple[Page, Prompt]], how: Sampling) -> Iterator[Group]:
        for page, prompt in asked:
            texts = [self._script(page, k) for k in range(how.n)]
            yield Group(
                page=page,
                prompt=prompt,
                samples=tuple(self._write(text, how.limit(page.id)) for text in texts),
                temperature=how.temperature,
                banned_ids=self._prompter.banned_ids,
            )

    def load(self, weights: Iterable[tuple[str, Any]], policy: int) -> None:
        self.loaded = [name for name, _ in weights]
        self.policy = policy

    def close(self) -> None:
        self.closed = True

    def _write(self, text: str, max_tokens: int) -> Sample:
        ids = (*self._prompter.encode(text), self._prompter.eos_id)[:max_tokens]
        return Sample(
            token_ids=ids,
            logprobs=(LOGPROB,) * len(ids),
            text=self._prompter.decode(ids),
            finish="stop" if ids[-1] == self._prompter.eos_id else "length",
            policy=self.policy,
        )
