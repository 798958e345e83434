"""Reward: the transcript starts with readable front matter that says the truth about the page."""

from __future__ import annotations

from dataclasses import dataclass

from ocr_rl.contract import Page, Score, Transcript, per_transcript
from ocr_rl.text.front_matter import FIELDS, FrontMatter, split_front_matter


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMatterReward:
    """0.5 for readable front matter with all five fields, 0.1 more for each field that is true of the page.

    Truth stands in the page's tags, one per known field, as the policy would write it: `rotation_correction=90`,
    `primary_language=en`, `is_table=True`. A field without a tag counts as true, since nothing speaks against it.
    Front matter that cannot be read scores 0.
    """

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        found, _ = split_front_matter(transcript.raw)
        if found is None:
            return Score(value=0.0, why="no front matter, or one that cannot be read")
        wrong = [name for name in FIELDS if not _agrees(found, name, page.tags)]
        parts = {name: float(name not in wrong) for name in FIELDS}
        # in tenths, so that five true fields make 1 exactly
        return Score(value=(10 - len(wrong)) / 10, parts=parts, why=f"wrong: {', '.join(wrong)}" if wrong else "")


def _agrees(found: FrontMatter, name: str, tags: frozenset[str]) -> bool:
    truths = [tag.partition("=")[2] for tag in tags if tag.partition("=")[0] == name]
    said = getattr(found, name)
    return not truths or ("null" if said is None else str(said)) in truths
