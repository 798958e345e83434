"""Reward: the transcript starts with readable front matter that says the truth about the page."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.front_matter import FIELDS, FrontMatter, split_front_matter


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMatterReward:
    """0.5 for readable front matter with all five fields, 0.1 more for each field that is true of the page.

    The page's tags tell the truth about a field, written as the policy writes it: `rotation_correction=90`,
    `primary_language=en`, `is_table=True`. A field without a tag counts as true. Missing front matter, and front matter
    that cannot be read, scores 0.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        front_matter, _ = split_front_matter(transcript.raw)
        if front_matter is None:
            return Score(value=0.0, why="no front matter, or one that cannot be read")
        wrong = [name for name in FIELDS if not _agrees(front_matter, name, page.tags)]
        parts = {name: float(name not in wrong) for name in FIELDS}
        # Counted in tenths, so that five true fields make exactly 1.
        return Score(value=(10 - len(wrong)) / 10, parts=parts, why=f"wrong: {', '.join(wrong)}" if wrong else "")


def _agrees(front_matter: FrontMatter, name: str, tags: frozenset[str]) -> bool:
    truths = [tag.partition("=")[2] for tag in tags if tag.partition("=")[0] == name]
    value = getattr(front_matter, name)
    return not truths or ("null" if value is None else str(value)) in truths
