"""An attacker that searches: it composes edits of an honest reading and climbs the mix's reward.

Among all texts met that are clearly worse than their start (`FALL` in the element score against the truth), the largest
rise in reward is the size of the hole. The attacker knows neither the truth nor the page's tests; the truth only judges
what it met. Everything comes from the seed. Knows nothing about how rewards are asked (`ScoreAll`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from ocr_rl.contract import Page, Transcript
from ocr_rl.evaluate.audit_pages import transcript
from ocr_rl.evaluate.search_edits import EDITS, Source

FALL = 0.02  # of the element score: a text that fell by that much is clearly worse
_BATCH = 20  # candidates of a page that are scored as one group
_KEPT = 5  # texts that are climbed from
_MOST = 4  # edits that one step composes at most
_NAMES = tuple(EDITS)

Measure = Callable[[str], float]  # a text's element score against the truth
Ask = Callable[[Sequence[tuple[Page, Sequence[Transcript]]]], Sequence[Sequence[float]]]  # rewards of each group


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What the attacker starts from on a page."""

    page: Page
    front: str  # front matter before every text
    text: str
    other: str  # the text of another page
    quality: Measure
    seed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """The worst text met on a page: it earns more than its start, and is worse."""

    page_id: str
    rise: float  # of the reward; 0 where no worse text earned more
    fall: float  # of the element score
    edits: Sequence[str] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Met:
    text: str
    edits: tuple[str, ...]
    reward: float
    fall: float

    @property
    def height(self) -> float:
        """What is climbed: the reward, and the fall that a hole needs."""
        return self.reward + min(self.fall, FALL)


@dataclass(slots=True)
class _Climb:
    """The search on one page."""

    start: Start
    source: Source
    rng: Random
    first: _Met
    kept: list[_Met]
    best: _Met | None = None
    seen: set[str] = field(default_factory=set)

    def propose(self) -> list[tuple[str, tuple[str, ...]]]:
        """New texts, with the names of the edits that made them. Fewer where edits find nothing new."""
        candidates = []
        for _ in range(4 * _BATCH):
            origin = self.first if self.rng.random() < 0.2 else self.rng.choice(self.kept)
            text, names = origin.text, list(origin.edits)
            for _ in range(self.rng.randint(1, _MOST)):
                name = self.rng.choice(_NAMES)
                changed = EDITS[name](text, self.source, self.rng)
                if changed and changed != text and len(changed) < 3 * len(self.first.text) + 200:
                    text = changed
                    names.append(name)
            if text not in self.seen:
                self.seen.add(text)
                candidates.append((text, tuple(names)))
            if len(candidates) == _BATCH:
                break
        return candidates

    def learn(self, candidates: Sequence[tuple[str, tuple[str, ...]]], rewards: Sequence[float]) -> None:
        """Keep the highest texts, and the best of those that are clearly worse than the start."""
        lowest = self.kept[-1].height
        whole = self.start.quality(self.first.text)
        for (text, names), reward in zip(candidates, rewards, strict=True):
            if reward + FALL <= lowest and reward <= self.first.reward:
                continue  # neither kept nor a hole, whatever its fall is
            met = _Met(text, names, reward, whole - self.start.quality(text))
            self.kept.append(met)
            if met.fall >= FALL and (self.best is None or reward > self.best.reward):
                self.best = met
        self.kept = sorted(self.kept, key=lambda met: -met.height)[:_KEPT]

    def hole(self) -> Hole:
        if self.best is None or self.best.reward <= self.first.reward:
            return Hole(page_id=self.start.page.id, rise=0.0, fall=0.0)
        best = self.best
        return Hole(
            page_id=self.start.page.id,
            rise=best.reward - self.first.reward,
            fall=best.fall,
            edits=best.edits,
            text=best.text,
        )


def search(starts: Sequence[Start], ask: Ask, evaluations: int) -> list[Hole]:
    """The hole of each page, after about that many texts a page. `ask` scores one group for every page at once."""
    rewards = ask([(start.page, [transcript(start.text, start.front)]) for start in starts])
    climbs = []
    for start, (reward,) in zip(starts, rewards, strict=True):
        first = _Met(start.text, (), reward, 0.0)
        climbs.append(
            _Climb(
                start,
                Source(text=start.text, other=start.other),
                Random(f"{start.seed}/search"),
                first,
                [first],
                seen={start.text},
            )
        )
    for _ in range(max(1, evaluations // _BATCH)):
        proposed = [(climb, candidates) for climb in climbs if (candidates := climb.propose())]
        if not proposed:
            break
        groups = [
            (climb.start.page, [transcript(text, climb.start.front) for text, _ in candidates])
            for climb, candidates in proposed
        ]
        for (climb, candidates), values in zip(proposed, ask(groups), strict=True):
            climb.learn(candidates, values)
    return [climb.hole() for climb in climbs]
