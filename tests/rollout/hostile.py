"""Rewards that do what a reward must not, on transcripts that say so; on any other they give 1 for a longer text.

Loaded as a plug-in file (`path/hostile.py:Hangs`), as anybody's would be.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript

WORD = "poison"


def fair(group: Sequence[Transcript]) -> list[Score]:
    return [Score(value=min(1.0, len(one.body) / 10)) for one in group]


def poisoned(group: Sequence[Transcript]) -> bool:
    return any(WORD in one.body for one in group)


@dataclass(frozen=True)
class Fair:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return fair(group)


@dataclass(frozen=True)
class Hangs:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        while poisoned(group):
            time.sleep(1)
        return fair(group)


@dataclass(frozen=True)
class EatsMemory:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        held = []
        while poisoned(group):
            held.append(bytearray(2**26))
        return fair(group)


@dataclass(frozen=True)
class Exits:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        if poisoned(group):
            os._exit(0)
        return fair(group)


@dataclass(frozen=True)
class Leaves:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        if poisoned(group):
            raise SystemExit(3)
        return fair(group)


@dataclass(frozen=True)
class Raises:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        if poisoned(group):
            raise KeyError("no such table")
        return fair(group)


@dataclass(frozen=True)
class NotANumber:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return [Score(value=float("nan") if poisoned(group) else one.value) for one in fair(group)]


@dataclass(frozen=True)
class TooFew:
    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        return fair(group)[poisoned(group) :]
