"""The front matter that olmOCR-style policies write before a transcript: five YAML fields between lines of `---`.

    ---
    primary_language: en
    is_rotation_valid: True
    rotation_correction: 0
    is_table: False
    is_diagram: False
    ---
    the transcript

Splits it off and reads it; knows nothing about rewards or about what to do with a page that stands upside down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import yaml

MAX_BLOCK = 4_000  # characters; a real one has about 120, and YAML is slow on what is not one
ROTATIONS = (0, 90, 180, 270)

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMatter:
    """What the policy says of the page before it reads it."""

    primary_language: str | None  # ISO code; None: no text on the page
    is_rotation_valid: bool  # the page stands upright
    rotation_correction: int  # degrees clockwise, one of 0, 90, 180, 270
    is_table: bool  # most of the page is a table
    is_diagram: bool  # most of the page is a figure

    def to_text(self) -> str:
        """The block as policies are taught to write it, with the closing line and its newline."""
        rows = "".join(f"{name}: {value}\n" for name, value in self._said())
        return f"---\n{rows}---\n"

    @property
    def tags(self) -> frozenset[str]:
        """As tags of a page that say what is true of it, `is_table=True`."""
        return frozenset(f"{name}={value}" for name, value in self._said())

    def _said(self) -> list[tuple[str, str]]:
        return [(name, "null" if value is None else str(value)) for name, value in asdict(self).items()]


FIELDS = tuple(field.name for field in fields(FrontMatter))
_SOME_FIELD = re.compile(rf"^[ \t]*(?:{'|'.join(FIELDS)})[ \t]*:", re.MULTILINE)


def split_front_matter(raw: str) -> tuple[FrontMatter | None, str]:
    """Split a raw transcript into its front matter and its body.

    The block must open the text (`---` and a newline, nothing before) and end at the next line that starts with
    `---`; more dashes or text behind them do not matter. Four cases:

    - all five fields, readable, and no other: `(FrontMatter, rest)`;
    - a block that names one of the five fields but cannot be read: `(None, rest)`: it was meant as front matter, and
      no check should find text in it;
    - a block that names none of them: `(None, raw)`: two horizontal rules around text of the page;
    - no block, or one that never closes: `(None, raw)`.
    """
    if not raw.startswith("---\n"):
        return None, raw
    end = raw.find("\n---", 4)
    if end < 0:
        return None, raw
    block = raw[4 : min(end, 4 + MAX_BLOCK + 1)]
    found = parse(block)
    if found is None and not _SOME_FIELD.search(block):
        return None, raw
    rest = raw[end + 4 :].lstrip("-")
    return found, rest.removeprefix("\n")


def parse(block: str) -> FrontMatter | None:
    """Read the YAML between the two lines of dashes; None when a field is missing, unknown or of the wrong kind."""
    if len(block) > MAX_BLOCK:
        return None
    try:
        loaded = yaml.load(block, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date or a number that is none
        return None
    if not isinstance(loaded, Mapping) or set(map(str, loaded)) != set(FIELDS) or len(loaded) != len(FIELDS):
        return None
    try:
        return FrontMatter(
            primary_language=_language(loaded["primary_language"]),
            is_rotation_valid=_truth(loaded["is_rotation_valid"]),
            rotation_correction=_rotation(loaded["rotation_correction"]),
            is_table=_truth(loaded["is_table"]),
            is_diagram=_truth(loaded["is_diagram"]),
        )
    except ValueError:
        return None


def agreeing_fields(found: FrontMatter, truth: FrontMatter) -> tuple[str, ...]:
    """The names of the fields in which both say the same."""
    return tuple(name for name in FIELDS if getattr(found, name) == getattr(truth, name))


def _language(value: object) -> str | None:
    # YAML reads the code of Norwegian, `no`, as a truth value; an empty value is a page without a language.
    if value is None or isinstance(value, bool) or value == "":
        return None
    if isinstance(value, str):
        return value
    raise ValueError("primary_language is not a text")


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.lower() == "true"
    raise ValueError("not a truth value")


def _rotation(value: object) -> int:
    number = int(value) if isinstance(value, str) else value
    if isinstance(number, int) and number in ROTATIONS:
        return int(number)
    raise ValueError("rotation_correction is none of 0, 90, 180, 270")
