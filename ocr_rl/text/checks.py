"""The eight kinds of page tests of olmOCR-Bench: present, absent, order, format, table, baseline, math, footnote.

    check = load_check(json.loads(line))
    verdict, = judge([check], transcript)

The same code serves two readings. `compatible` gives the public benchmark's verdicts, its quirks included. `strict`
closes the holes that a policy would learn to use; text_checks and element_checks name each hole where they close it.
The rules are those of allenai/olmocr 0.4.27, Apache-2.0.

A transcript is prepared once and judged by many checks. Any text is judged in bounded time. A text of more than
`LONGEST` characters fails every check. This file knows nothing about files, pages or scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields

from ocr_rl.contract import Check, Reading, Verdict
from ocr_rl.text.element_checks import Math, TableRelation
from ocr_rl.text.page_check import PageCheck
from ocr_rl.text.prepared import LONGEST, Prepared, prepare
from ocr_rl.text.suggest import did_you_mean
from ocr_rl.text.text_checks import Absent, Baseline, Footnote, Format, Order, Present

__all__ = ["LONGEST", "TYPES", "PageCheck", "Prepared", "judge", "load_check", "prepare"]

TYPES: Mapping[str, type[PageCheck]] = {
    "present": Present,
    "absent": Absent,
    "order": Order,
    "format": Format,
    "table": TableRelation,
    "baseline": Baseline,
    "math": Math,
    "footnote": Footnote,
}


def judge(checks: Sequence[Check], text: str, reading: Reading = "compatible") -> list[Verdict]:
    """One verdict per check, in order. `text` is a transcript without its front matter."""
    prepared = prepare(text)
    return [check.run(prepared, reading) for check in checks]


def load_check(obj: Mapping[str, object]) -> PageCheck:
    """The check that one JSON object of an olmOCR-Bench file describes.

    Raises ValueError with one sentence that names the field.
    """
    if not isinstance(obj, Mapping):
        raise ValueError(f"a test must be a JSON object, got {type(obj).__name__}")
    name = obj.get("type")
    if not isinstance(name, str) or name not in TYPES:
        raise ValueError(f"type {name!r} is unknown{did_you_mean(str(name), TYPES)}")
    cls = TYPES[name]
    fields_by_name = {field.name: field for field in fields(cls)}
    for key in obj:
        if key not in fields_by_name:
            raise ValueError(f"{key!r} is not a field of a {name} test{did_you_mean(str(key), fields_by_name)}")
    for key, field in fields_by_name.items():
        if field.default is MISSING and key not in obj:
            raise ValueError(f"a {name} test needs the field {key!r}")
    return cls(**obj)  # type: ignore[arg-type]
