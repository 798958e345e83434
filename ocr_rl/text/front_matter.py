"""The front matter that olmOCR-style policies write before a transcript: five YAML fields between lines of `---`.

    ---
    primary_language: en
    is_rotation_valid: True
    rotation_correction: 0
    is_table: False
    is_diagram: False
    ---
    the transcript

This file splits the front matter off and reads it. It knows nothing about rewards, nor about what to do with a page
that stands upside down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import yaml

MAX_BLOCK = 4_000  # characters; a true block has about 120, and YAML is slow on long text of another kind
ROTATIONS = (0, 90, 180, 270)

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMatter:
    """What the policy says of the page before it reads it."""

    primary_language: str | None  # ISO code; None: no text on the page
    is_rotation_valid: bool  # whether the page stands upright
    rotation_correction: int  # degrees counter-clockwise that set the page upright, one of 0, 90, 180, 270
    is_table: bool  # whether most of the page is a table
    is_diagram: bool  # whether most of the page is a figure

    def to_text(self) -> str:
        """The block as policies learn to write it, from its opening line to the newline after its closing line."""
        rows = "".join(f"{name}: {value}\n" for name, value in self._rows())
        return f"---\n{rows}---\n"

    @property
    def clockwise(self) -> int:
        """Degrees clockwise that set the page upright, as a rasteriser turns it; 0 where it stands so already.

        olmOCR's schema describes `rotation_correction` as clockwise, but its models learn the other sense and its
        pipeline turns by that: train/dataloader.py labels what PIL's ROTATE_90 (counter-clockwise) turned with 270, and
        pipeline.py applies 270 as ROTATE_270 (allenai/olmocr at f7cfe4c).
        """
        return 0 if self.is_rotation_valid else -self.rotation_correction % 360

    @property
    def tags(self) -> frozenset[str]:
        """The fields as tags of a page, such as `is_table=True`."""
        return frozenset(f"{name}={value}" for name, value in self._rows())

    def _rows(self) -> list[tuple[str, str]]:
        return [(name, "null" if value is None else str(value)) for name, value in asdict(self).items()]


FIELDS = tuple(field.name for field in fields(FrontMatter))
_SOME_FIELD = re.compile(rf"^[ \t]*(?:{'|'.join(FIELDS)})[ \t]*:", re.MULTILINE)


def split_front_matter(raw: str) -> tuple[FrontMatter | None, str]:
    """Split a raw transcript into its front matter and its body.

    The block must open the text: nothing stands before its first `---` and newline. It ends at the next line that
    starts with `---`, whatever follows on that line. There are four cases:

    - The block has exactly the five fields, and they can be read: `(FrontMatter, rest)`.
    - The block names one of the five fields but cannot be read: `(None, rest)`. It was meant as front matter, and no
      check should find text in it.
    - The block names none of the five fields: `(None, raw)`. The dashes are horizontal rules around text of the page.
    - There is no block, or it never closes: `(None, raw)`.
    """
    if not raw.startswith("---\n"):
        return None, raw
    end = raw.find("\n---", 4)
    if end < 0:
        return None, raw
    block = raw[4 : min(end, 4 + MAX_BLOCK + 1)]
    front_matter = parse(block)
    if front_matter is None and not _SOME_FIELD.search(block):
        return None, raw
    rest = raw[end + 4 :].lstrip("-")
    return front_matter, rest.removeprefix("\n")


def parse(block: str) -> FrontMatter | None:
    """The YAML between the two lines of dashes; None if a field is missing, unknown or of the wrong kind."""
    if len(block) > MAX_BLOCK:
        return None
    try:
        loaded = yaml.load(block, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date or a number that does not exist
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


def agreeing_fields(front_matter: FrontMatter, truth: FrontMatter) -> tuple[str, ...]:
    """The names of the fields that have the same value in both."""
    return tuple(name for name in FIELDS if getattr(front_matter, name) == getattr(truth, name))


def _language(value: object) -> str | None:
    # YAML reads `no`, the code of Norwegian, as a truth value. An empty value means a page without a language.
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
