"""Faults of a recipe (or of a study) as one sentence: where, what, the nearest known key, the new spelling."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ocr_rl.config.algorithms import ALGORITHMS
from ocr_rl.config.base import Section
from ocr_rl.config.sections import Folder, Typeset

_RENAMED = {
    "aggregation": {"grpo": "sample_mean", "dapo": "token_mean", "dr_grpo": "fixed_length"},
    "advantage": {"none": "centred"},
}


def first_fault(error: ValidationError) -> str:
    """Of rows that are no recipe: where, and what is wrong there, without the names of classes here."""
    fault = error.errors()[0]
    place = ".".join(map(str, fault["loc"])) or "all of it"
    return f"{place}: {fault['msg'].partition(' or instance of')[0]}"


def explain(error: ValidationError, root: type[Section]) -> str:
    """The first fault of a `root` as one sentence; an unknown key first, since a missing one may be what it meant."""
    faults = error.errors()
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place, sections = _place(root, first["loc"])
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}: {_hint(place[-1], sections)}"
    message = f"{where}: " * bool(where) + first["msg"].removeprefix("Value error, ")
    value = first.get("input")
    return f"{message}." if isinstance(value, dict) else f"{message} (got {str(value)[:80]})."


def _hint(key: str, sections: list[type[Section]]) -> str:
    section, *others = sections
    for other in others:
        if key in other.model_fields:
            own_kind, *rest = section.model_fields
            return f"it goes with {next(iter(other.model_fields))}; beside {own_kind} stand {', '.join(rest)}."
    keys = list(dict.fromkeys(key for section in sections for key in _keys(section)))
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.65)
    return f"did you mean {close[0]}?" if close else f"known here are {', '.join(keys)}."


def _keys(section: type[Section]) -> list[str]:
    keys = list(section.model_fields)
    if "algorithm" in keys and "policy" in keys:  # a recipe names the section after the algorithm
        keys[keys.index("algorithm") : keys.index("algorithm") + 1] = ALGORITHMS
    return keys


def _place(root: type[Section], loc: tuple[int | str, ...]) -> tuple[list[str], list[type[Section]]]:
    """The key's path as a recipe spells it, and the section (or the alternatives) that it stands in.

    pydantic's own path also names the member of a union: ("algorithm", "grpo", "pages", "folder", "dir").
    """
    sections: list[type[Section]] = [root]
    place: list[str] = []
    for i, part in enumerate(loc):
        last = i == len(loc) - 1
        if part in ("folder", "typeset") and {Folder, Typeset} & set(sections):
            own = Folder if part == "folder" else Typeset
            sections = [own, *(section for section in sections if section is not own)]
        elif part in ALGORITHMS and place == ["algorithm"]:
            place, sections = [str(part)], [ALGORITHMS[str(part)]]
        else:
            place.append(str(part))
            field = next((s.model_fields[str(part)] for s in sections if part in s.model_fields), None)
            if not last and field is not None:
                sections = list(_sections_of(field)) or sections
    return place, sections


def _sections_of(field: FieldInfo) -> Iterator[type[Section]]:
    """The section classes inside a field's annotation, such as `Evaluation | None` or `tuple[Stage, ...]`."""
    todo = [field.annotation]
    while todo:
        annotation = todo.pop(0)
        if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, Section):
            yield annotation
        todo += get_args(annotation)


def old_spelling(data: Mapping[str, Any]) -> str:
    """What to write instead where a recipe has a spelling of an earlier version; "" where it has none."""
    top = data.get("rewards")
    if isinstance(top, list) and any(isinstance(choice, Mapping) and "gate" in choice for choice in top):
        return f"rewards: what has a gate stands among the gates now. Write: {_moved(data)}"
    for name in ALGORITHMS:
        section = data.get(name)
        if not isinstance(section, Mapping):
            continue
        if "rewards" in section:
            return f"{name}.rewards: rewards and gates stand at the top of a recipe now. Write: {_moved(section)}"
        for key, words in _RENAMED.items():
            if section.get(key) in words:
                return f'{name}.{key}: "{section[key]}" is called "{words[section[key]]}" now.'
    return ""


def _moved(section: Mapping[str, Any]) -> str:
    if isinstance(section["rewards"], Mapping):  # of --set grpo.rewards.0.weight=2
        return "rewards.0.… instead, without the algorithm's name"
    given = section["rewards"] if isinstance(section["rewards"], list) else []
    choices = [{"name": choice} if isinstance(choice, str) else choice for choice in given if choice]
    if not choices or not all(isinstance(choice, Mapping) for choice in choices):
        return 'rewards = [{ name = "…" }]'
    rewards = [choice for choice in choices if "gate" not in choice]
    gates = [
        {"at_least" if key == "gate" else key: choice[key] for key in choice} for choice in choices if "gate" in choice
    ]
    parts = [f"{key} = {_inline(items)}" for key, items in (("rewards", rewards), ("gates", gates)) if items]
    return " and ".join(parts)


def _inline(value: Any) -> str:
    """A value as inline TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)
