"""Rewards of the public olmOCR trainer beside this project's, on recorded calls: the same scores?

Each function takes the inputs of a call, what it gave and what it raised, and says whether ours agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ocr_rl.contract import Page, Transcript
from ocr_rl.rewards.element_count import ElementCount
from ocr_rl.rewards.eos import Eos
from ocr_rl.rewards.medoid import Medoid
from ocr_rl.rewards.pass_rate import PassRate
from ocr_rl.text.checks import PageCheck, load_check
from ocr_rl.text.figures import Pair, diff_ratio
from ocr_rl.text.front_matter import agreeing_fields, split_front_matter
from ocr_rl.text.tables import html_tables

Row = Mapping[str, Any]


def read_check(test: Row) -> PageCheck | None:
    """None for a test that is not valid."""
    try:
        return load_check(test)
    except ValueError:
        return None


def _text(completion: Any) -> str:
    if isinstance(completion, list) and completion and isinstance(completion[0], Mapping):
        completion = completion[0].get("content")
    return completion if isinstance(completion, str) else ""


def _near(found: Sequence[float | None], wanted: Sequence[float | None] | None) -> bool:
    if wanted is None or len(found) != len(wanted):
        return False
    return all(
        (a is None and b is None) or (a is not None and b is not None and abs(a - b) < 1e-6)
        for a, b in zip(found, wanted, strict=True)
    )


def _transcript(text: str, *, ended: bool = True) -> Transcript:
    # as the public reward does, the whole completion is judged, front matter included
    return Transcript(raw=text, body=text, finish="stop" if ended else "length", num_tokens=0)


def _page(checks: Sequence[PageCheck] = ()) -> Page:
    return Page(id="oracle:p1", pdf=Path("oracle.pdf"), number=1, checks=checks)


def _pass_rate(inputs: Row, output: Any, raises: str | None) -> bool:
    completions = inputs["completions"]
    if raises:
        return not completions  # a call without any completion; scoring never makes one
    reward = PassRate(reading="compatible", by="macro" if inputs.get("macro_average") else "micro")
    loaded = {check.id: check for test in inputs["tests"] or () if (check := read_check(test))}
    found = []
    for completion, ids in zip(completions, inputs["test_ids"], strict=True):
        checks = [loaded[name] for name in ids or () if name in loaded]
        usable = isinstance(completion, str | list)
        found.append(reward(_page(checks), [_transcript(_text(completion))])[0].value if usable else None)
    return _near(found, output)


def _edit_distance(inputs: Row, output: Any, raises: str | None) -> bool:
    references = _beside(inputs, "claude_original")
    texts = [_text(completion) for completion in inputs["completions"]]
    pairs = zip(references, texts, strict=True)
    return _near([0.0 if a is None else diff_ratio(Pair(a, b, "word")).value for a, b in pairs], output)


def _front_matter(inputs: Row, output: Any, raises: str | None) -> bool:
    found = []
    for completion, reference in zip(inputs["completions"], _beside(inputs, "claude_original"), strict=True):
        said, _ = split_front_matter(_text(completion))
        true, _ = split_front_matter(reference or "")
        found.append(0.0 if said is None else 0.5 + 0.1 * len(agreeing_fields(said, true) if true else ()))
    return _near(found, output)


def _eos(inputs: Row, output: Any, raises: str | None) -> bool:
    end = inputs["eos_token_id"]
    group = [_transcript("", ended=bool(ids) and ids[-1] == end) for ids in inputs["completion_ids"]]
    return _near([score.value for score in Eos()(_page(), group)], output)


def _rect_tables(inputs: Row, output: Any, raises: str | None) -> bool:
    groups = [html_tables(_text(completion)) for completion in inputs["completions"]]
    if raises:
        return any(table.fault for tables in groups for table in tables)
    shares = [sum(table.is_rectangular for table in tables) / len(tables) if tables else 1.0 for tables in groups]
    return _near(shares, output)


def _medoid(inputs: Row, output: Any, raises: str | None) -> bool:
    group = [_transcript(_text(completion)) for completion in inputs["completions"]]
    return _near([score.value for score in Medoid(text="written")(_page(), group)], output)


def _element_count(inputs: Row, output: Any, raises: str | None) -> bool:
    if raises:
        return inputs.get("claude_original") is None  # a call without references at all; no score of any page here
    found = []
    for completion, reference in zip(inputs["completions"], _beside(inputs, "claude_original"), strict=True):
        page = replace(_page(), reference=reference)
        found.append(ElementCount()(page, [_transcript(_text(completion))])[0].value or 0.0)
    return _near(found, output)


def _beside(inputs: Row, name: str) -> list[str | None]:
    """The references beside the completions; None where there is none."""
    given = list(inputs.get(name) or ())
    return [given[i] if i < len(given) else None for i in range(len(inputs["completions"]))]


REWARDS: Mapping[str, Callable[[Row, Any, str | None], bool]] = {
    "olmocr_bench_reward": _pass_rate,
    "bench_edit_distance_reward": _edit_distance,
    "reward_front_matter": _front_matter,
    "reward_eos": _eos,
    "reward_rect_tables": _rect_tables,
    "medoid_reward": _medoid,
    "reward_element_count": _element_count,
}
