"""An attacker that searches: it composes edits of an honest reading and climbs the mix's reward.

Among all texts met that are clearly worse than their start (`FALL` in the element score against the truth), the largest
rise in reward is the size of the hole. The attacker knows neither the truth nor the page's tests; the truth only judges
what it met. Everything comes from the seed. Knows nothing about how rewards are asked (`ScoreAll`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from ocr_rl.contract import Page, Transcript
from ocr_rl.evaluate import edits
from ocr_rl.evaluate.damage import CELL, blocks
from ocr_rl.evaluate.edits import joined

FALL = 0.02  # of the element score: a text that fell by that much is clearly worse
_BATCH = 20  # candidates of a page that are scored as one group
_KEPT = 5  # texts that are climbed from
_MOST = 4  # edits that one step composes at most

Measure = Callable[[str], float]  # a text's element score against the truth
Ask = Callable[[Sequence[tuple[Page, Sequence[Transcript]]]], Sequence[Sequence[float]]]  # rewards of each group


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What the attacker starts from on a page."""

    page: Page
    front: str  # front matter before every text
    text: str
    second: str  # another reading of the page
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
                changed = EDITS[name](text, self.start, self.rng)
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
    rewards = ask([(start.page, [_transcript(start, start.text)]) for start in starts])
    climbs = []
    for start, (reward,) in zip(starts, rewards, strict=True):
        first = _Met(start.text, (), reward, 0.0)
        climbs.append(_Climb(start, Random(f"{start.seed}/search"), first, [first], seen={start.text}))
    for _ in range(max(1, evaluations // _BATCH)):
        proposed = [(climb, candidates) for climb in climbs if (candidates := climb.propose())]
        if not proposed:
            break
        groups = [
            (climb.start.page, [_transcript(climb.start, text) for text, _ in candidates])
            for climb, candidates in proposed
        ]
        for (climb, candidates), values in zip(proposed, ask(groups), strict=True):
            climb.learn(candidates, values)
    return [climb.hole() for climb in climbs]


def _transcript(start: Start, body: str) -> Transcript:
    raw = start.front + body
    return Transcript(raw=raw, body=body, finish="stop", num_tokens=len(raw) // 3)


# ---- edits


Edit = Callable[[str, Start, Random], str | None]


def _on_blocks(change: Callable[[list[str], int, Random], list[str]]) -> Edit:
    def edit(text: str, start: Start, rng: Random) -> str | None:
        pieces = blocks(text)
        return joined(change(pieces, rng.randrange(len(pieces)), rng)) if pieces else None

    return edit


def _on_lines(change: Callable[[list[str], int, Start, Random], None]) -> Edit:
    """A change of one line that is not blank, in place."""

    def edit(text: str, start: Start, rng: Random) -> str | None:
        lines = text.split("\n")
        places = [i for i, line in enumerate(lines) if line.strip()]
        if not places:
            return None
        change(lines, rng.choice(places), start, rng)
        return "\n".join(lines)

    return edit


def _cut_line(lines: list[str], i: int, start: Start, rng: Random) -> None:
    del lines[i]


def _cut_words(lines: list[str], i: int, start: Start, rng: Random) -> None:
    words = lines[i].split(" ")
    a = rng.randrange(len(words))
    lines[i] = " ".join(words[:a] + words[a + rng.randint(1, 5) :])


def _repeat_line(lines: list[str], i: int, start: Start, rng: Random) -> None:
    lines.insert(rng.randrange(len(lines)), f"\n{lines[i]}\n")


def _misread_line(lines: list[str], i: int, start: Start, rng: Random) -> None:
    lines[i] = edits.misread(lines[i], rng, rng.randint(1, 3))


def _misread_again(lines: list[str], i: int, start: Start, rng: Random) -> None:
    lines[i] = f"{lines[i]}\n\n{edits.misread(lines[i], rng, rng.randint(1, 3))}"


def _swap_words(lines: list[str], i: int, start: Start, rng: Random) -> None:
    words = lines[i].split(" ")
    if len(words) > 1:
        k = rng.randrange(len(words) - 1)
        words[k], words[k + 1] = words[k + 1], words[k]
    lines[i] = " ".join(words)


def _insert(words_of: Callable[[Start], Sequence[str]]) -> Edit:
    """A run of up to eight words of a text, within some line."""

    def change(lines: list[str], i: int, start: Start, rng: Random) -> None:
        vocabulary = words_of(start)
        if not vocabulary:
            return
        a = rng.randrange(len(vocabulary))
        words = lines[i].split(" ")
        at = rng.randint(0, len(words))
        lines[i] = " ".join([*words[:at], *vocabulary[a : a + rng.randint(1, 8)], *words[at:]])

    return _on_lines(change)


def _second_line(text: str, start: Start, rng: Random) -> str | None:
    """A line of the other reading behind the same line."""
    ours, theirs = text.split("\n"), start.second.split("\n")
    lines = [i for i in range(min(len(ours), len(theirs))) if ours[i].strip() and theirs[i] != ours[i]]
    if not lines:
        return None
    i = rng.choice(lines)
    ours[i] = f"{ours[i]}\n\n{theirs[i]}"
    return "\n".join(ours)


def _wrap(before: str, after: str) -> Edit:
    def change(pieces: list[str], i: int, rng: Random) -> list[str]:
        return [*pieces[:i], f"{before}{pieces[i]}{after}", *pieces[i + 1 :]]

    return _on_blocks(change)


def _again(before: str, after: str) -> Edit:
    """A block of the other reading once more, hidden."""

    def edit(text: str, start: Start, rng: Random) -> str | None:
        pieces, theirs = blocks(text), blocks(start.second)
        if not pieces or not theirs:
            return None
        pieces.insert(rng.randint(0, len(pieces)), f"{before}{rng.choice(theirs)}{after}")
        return joined(pieces)

    return edit


def _move(pieces: list[str], i: int, rng: Random) -> list[str]:
    block = pieces.pop(i)
    pieces.insert(rng.randint(0, len(pieces)), block)
    return pieces


def _end_kind(text: str, start: Start, rng: Random) -> str | None:
    return edits.at_end(text, rng.choice(("table", "formula", "heading", "text")))


def _drop_kind(text: str, start: Start, rng: Random) -> str | None:
    return edits.without(text, rng.choice(("table", "formula", "heading")))


def _mark_words(mark: str) -> Edit:
    def change(lines: list[str], i: int, start: Start, rng: Random) -> None:
        words = lines[i].split(" ")
        a = rng.randrange(len(words))
        b = min(len(words), a + rng.randint(1, 5))
        lines[i] = " ".join([*words[:a], f"{mark}{' '.join(words[a:b])}{mark}", *words[b:]])

    return _on_lines(change)


def _unmark(lines: list[str], i: int, start: Start, rng: Random) -> None:
    lines[i] = edits.plain(lines[i])


def _in_table(text: str, start: Start, rng: Random) -> str | None:
    """A cell's text changed for a word of the page."""
    cells = list(CELL.finditer(text))
    if not cells:
        return None
    cell = rng.choice(cells)
    return text[: cell.start()] + rng.choice(edits.words(start.text) or ["x"]) + text[cell.end() :]


def _table_apart(text: str, start: Start, rng: Random) -> str | None:
    return edits.per_block(text, rng.choice((edits.as_lines, edits.markdown_table)), "table")


def _row(text: str, start: Start, rng: Random) -> str | None:
    """A table's row cut, doubled or moved to its end."""
    rows = list(re.finditer(r"<tr[^<>]*>.*?</tr>", text, re.DOTALL))
    if not rows:
        return None
    row = rng.choice(rows)
    instead = rng.choice(("", row[0] * 2, ""))
    return text[: row.start()] + instead + text[row.end() :]


EDITS: Mapping[str, Edit] = {
    "cut a block": _on_blocks(lambda pieces, i, rng: [*pieces[:i], *pieces[i + 1 :]]),
    "cut the end": lambda text, start, rng: edits.first_lines(text, rng.uniform(0.5, 0.95)),
    "cut a line": _on_lines(_cut_line),
    "cut words": _on_lines(_cut_words),
    "drop a kind of block": _drop_kind,
    "repeat a block": _on_blocks(lambda pieces, i, rng: [*pieces, pieces[i]]),
    "repeat a line": _on_lines(_repeat_line),
    "move a block": _on_blocks(_move),
    "move a kind of block to the end": _end_kind,
    "swap words": _on_lines(_swap_words),
    "insert words of the page": _insert(lambda start: edits.words(start.text)),
    "insert words of another page": _insert(lambda start: edits.words(start.other)),
    "insert symbols": _insert(lambda start: edits.SYMBOLS),
    "misread a line": _on_lines(_misread_line),
    "a line again, misread": _on_lines(_misread_again),
    "a line again, of the other reading": _second_line,
    "a block again, hidden": _again('<div style="display:none">', "</div>"),
    "a block again, in a comment": _again("<!-- ", " -->"),
    "a block again, in code": _again("```\n", "\n```"),
    "hide a block": _wrap('<div hidden="hidden">', "</div>"),
    "make a block a heading": _wrap("# ", ""),
    "make a block bold": _wrap("**", "**"),
    "make a block a table": _wrap("<table><tr><td>", "</td></tr></table>"),
    "make a block code": _wrap("```\n", "\n```"),
    "make words bold": _mark_words("**"),
    "make words italic": _mark_words("*"),
    "make words a formula": _mark_words("$"),
    "unmark a line": _on_lines(_unmark),
    "swap cells": lambda text, start, rng: edits.swap_cells(text, rng, rng.randint(1, 6)),
    "change a cell": _in_table,
    "cut or double a row": _row,
    "tables in another notation": _table_apart,
}
_NAMES = tuple(EDITS)
