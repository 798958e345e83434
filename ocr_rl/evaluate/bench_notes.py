"""What a bench report says of a candidate in words: its version and speed, failed pages, front matter in its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ocr_rl.contract import Page
from ocr_rl.evaluate.candidates import Answer, FrontMatterOf, with_front_matter

_NAMED = 10  # failed pages that are named


def notes_of(name: str, answers: Sequence[Answer], pages: Sequence[Page], version: str) -> dict[str, str]:
    """What a candidate is, how fast it was, how often it tried again, and for which pages it has no transcript."""
    facts = [version] if version else []
    seconds = sum(answer.seconds for answer in answers)
    tokens = sum(attempt.transcript.num_tokens for answer in answers for attempt in answer.attempts)
    if seconds:
        facts.append(f"{len(answers) / seconds:.3g} pages a second")
        facts += [f"{tokens / seconds:,.0f} tokens a second"] if tokens else []
    if tokens:
        retried = sum(len(answer.attempts) > 1 for answer in answers)
        turned = sum(any(attempt.rotation for attempt in answer.attempts) for answer in answers)
        facts.append(f"{retried} of {len(answers)} pages asked again, {turned} of them turned")
    notes = {name: ", ".join(facts)} if facts else {}
    if failed := [answer for answer in answers if answer.error]:
        places = {page.id: f"{page.pdf.name}, page {page.number}" for page in pages}
        named = [f"{places[answer.page]}: {answer.error}" for answer in failed[:_NAMED]]
        more = [f"and {len(failed) - _NAMED} more"] if len(failed) > _NAMED else []
        notes[f"{name}, failed pages"] = "; ".join([*named, *more])
    return notes


def changes_note(name: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """What an engine changes in what it read; nothing where it changes nothing."""
    changes = settings.get("changes")
    return {f"{name}, changes": "; ".join(changes)} if changes else {}


def cost_note(name: str, answers: Sequence[Answer], settings: Mapping[str, Any]) -> dict[str, str]:
    """What a page costs at a server whose prices per million tokens are given; all attempts are paid for."""
    prices = settings.get("prices")
    if not prices or not answers:
        return {}
    attempts = [attempt for answer in answers for attempt in answer.attempts]
    asked = sum(attempt.prompt_tokens for attempt in attempts) / len(answers)
    written = sum(attempt.transcript.num_tokens for attempt in attempts) / len(answers)
    if not asked + written:
        return {f"{name}, cost": "not known, for the server counts no tokens"}
    cost = (asked * prices[0] + written * prices[1]) / 1e6
    tokens = (
        f"{asked:,.0f} tokens of prompt at {prices[0]:g} and {written:,.0f} of transcript at {prices[1]:g} a million"
    )
    return {f"{name}, cost": f"{cost:.3g} a page: {tokens}"}


def asking_note(name: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """How a policy was asked: its settings hold PromptSettings; nothing for other candidates."""
    if "instruction" not in settings:
        return {}
    text = f'"{settings["instruction"]}"'.replace("\n", " ") if settings["instruction"] else "no text"
    place = "after" if settings["image_first"] else "before"
    size = f"a page image of {settings['longest_px']} px, up to {settings['max_tokens']:,} tokens"
    return {f"{name}, asked": f"{text} {place} {size}"}


def front_matter_note(name: str, answers: Sequence[Answer], front_matter: FrontMatterOf) -> dict[str, str]:
    """What became of the front matter of a folder's files; nothing where none has any."""
    if not (count := with_front_matter(answers)):
        return {}
    kept = "judged with the rest, as the public benchmark does (--front-matter strip leaves it out)"
    fate = kept if front_matter == "keep" else "left out, which the public benchmark does not do (--front-matter keep)"
    return {f"{name}, front matter": f"in {count} of {len(answers)} files; {fate}"}
