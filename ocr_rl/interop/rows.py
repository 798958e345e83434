"""Rows of a data set, with what a policy wrote about each, become scores: by the scoring that training here uses.

A row's columns are `tests` (those of the page, as JSON text or as a list), `reference` (the true transcript) and `id`;
a row has at least one of the first two. It knows nothing about trainers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from ocr_rl.api import Mix, MixScore, load_rewards, make_page
from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.rollout.scoring import RewardFault, ask
from ocr_rl.text.front_matter import split_front_matter

COLUMNS = ("tests", "reference", "id")
Spec = str | Path | Sequence[str]  # a recipe's mix with its gates, or single rewards


def mix_of(spec: Spec) -> Mix:
    """The mix of `ocr_rl.load_rewards`, loaded once a process. UserError for one that cannot be."""
    return _mix(spec if isinstance(spec, str | Path) else tuple(spec))


@cache
def _mix(spec: str | Path | tuple[str, ...]) -> Mix:
    return load_rewards(spec)


def page_of(row: Mapping[str, Any]) -> Page:
    """The page that a row describes. UserError, with the row's id, for a row that describes none."""
    tests, reference, name = (row.get(column) for column in COLUMNS)
    where = "a row" if name is None else f"row {name}"
    if tests is None and reference is None:
        raise UserError(f"{where}: it has neither tests nor a reference; give it one of the columns of that name.")
    if not isinstance(reference, str | None):
        raise UserError(f"{where}: reference is {type(reference).__name__}, not text; give the true transcript.")
    try:
        return make_page(_without_nulls(tests), reference=reference, page_id=str(name or "row"))
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix('make_page: ')}") from None


def _without_nulls(tests: Any) -> Any:
    """Columns of structs give every test the fields of all; a field that a test does not have is null there."""
    if tests is None or isinstance(tests, str) or not isinstance(tests, Iterable):
        return () if tests is None else tests
    return [
        {field: value for field, value in test.items() if value is not None} if isinstance(test, Mapping) else test
        for test in tests
    ]


def transcript_of(completion: Any, ids: Sequence[int] | None = None, eos_ids: Collection[int] = ()) -> Transcript:
    """What a trainer hands over: text, or a conversation of which the assistant's text counts.

    `ids` are its tokens. Where `eos_ids` are named, a completion that does not end in one of them was cut off.
    """
    text = _text(completion)
    cut = ids is not None and len(eos_ids) > 0 and (len(ids) == 0 or ids[-1] not in eos_ids)
    return Transcript(
        raw=text,
        body=split_front_matter(text)[1],
        finish="length" if cut else "stop",
        num_tokens=0 if ids is None else len(ids),
    )


def _text(completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Sequence) and all(isinstance(message, Mapping) for message in completion):
        own = [message.get("content") for message in completion if message.get("role", "assistant") == "assistant"]
        return "".join(map(_content, own))
    raise UserError(f"a completion is text or a list of messages, not {type(completion).__name__}.")


def _content(content: Any) -> str:
    """The text of a message; of content in parts, that of the parts which are text."""
    if isinstance(content, str) or content is None:
        return content or ""
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) for part in content):
        return "".join(str(part.get("text") or "") for part in content if part.get("type", "text") == "text")
    raise UserError(f"a message's content is text or a list of parts, not {type(content).__name__}.")


def score_rows(spec: Spec, rows: Sequence[Mapping[str, Any]], transcripts: Sequence[Transcript]) -> Iterator[MixScore]:
    """A mix's score of each row, in order.

    UserError where a row describes no page, a reward fails, or none with a weight applies to the page.
    """
    mix = mix_of(spec)
    for page, siblings in _groups(rows, transcripts):
        yield from mix.score(page, siblings)


def score_alone(
    name: str, rows: Sequence[Mapping[str, Any]], transcripts: Sequence[Transcript]
) -> Iterator[float | None]:
    """One reward's value of each row, in order; None where it does not apply to the page. UserError as `score_rows`."""
    (weighted,) = mix_of((name,)).rewards
    for page, siblings in _groups(rows, transcripts):
        try:
            yield from (score.value for score in ask(name, weighted.reward, page, siblings))
        except RewardFault as fault:
            raise UserError(f"{fault}.") from fault


def _groups(
    rows: Sequence[Mapping[str, Any]], transcripts: Sequence[Transcript]
) -> Iterator[tuple[Page, list[Transcript]]]:
    """Neighbours with the same columns are siblings: trainers repeat a row for its samples."""
    pairs = zip(rows, transcripts, strict=True)
    for _, group in groupby(pairs, key=lambda pair: [_comparable(pair[0].get(column)) for column in COLUMNS]):
        siblings = list(group)
        yield page_of(siblings[0][0]), [transcript for _, transcript in siblings]


def _comparable(value: Any) -> Any:
    """An array as a list, for arrays are not simply equal: tables that went through pandas hold them."""
    return value.tolist() if hasattr(value, "tolist") else value
