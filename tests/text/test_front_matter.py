"""Splitting and reading the front matter."""

import pytest

from ocr_rl.text.front_matter import FrontMatter, agreeing_fields, parse, split_front_matter

TRUE = FrontMatter(
    primary_language="en", is_rotation_valid=True, rotation_correction=0, is_table=False, is_diagram=False
)
BLOCK = TRUE.to_text()


def test_round_trip() -> None:
    assert split_front_matter(BLOCK + "text\n") == (TRUE, "text\n")
    blank = FrontMatter(
        primary_language=None, is_rotation_valid=False, rotation_correction=270, is_table=True, is_diagram=True
    )
    assert split_front_matter(blank.to_text()) == (blank, "")


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        ("no block", "no block"),
        ("", ""),
        ("---\nprimary_language: en\n", "---\nprimary_language: en\n"),  # never closes
        (" " + BLOCK, " " + BLOCK),
        ("---\na rule above and below\n---\nb", "---\na rule above and below\n---\nb"),
        ("---\nprimary_language: en\n---\nb", "b"),  # meant as front matter, but four fields are missing
        (BLOCK.replace("0", "45") + "b", "b"),
        (BLOCK.replace("is_table: False", "is_table: [") + "b", "b"),
        ("---\nprimary_language: " + "[" * 50_000 + "\n---\nb", "b"),
    ],
)
def test_what_is_not_front_matter(raw: str, body: str) -> None:
    assert split_front_matter(raw) == (None, body)


def test_closing_line_may_hold_more() -> None:
    assert split_front_matter(BLOCK.removesuffix("\n") + "--\nb")[1] == "b"
    assert split_front_matter(BLOCK.removesuffix("\n") + "b")[1] == "b"


@pytest.mark.parametrize(
    ("field", "value", "ok"),
    [
        ("rotation_correction", "'90'", True),
        ("rotation_correction", "90.0", False),
        ("rotation_correction", "-90", False),
        ("is_table", "'true'", True),
        ("is_table", "1", False),
        ("primary_language", "no", True),  # YAML takes Norwegian for a truth value
        ("primary_language", "7", False),
        ("primary_language", "2001-99-99", False),
    ],
)
def test_values(field: str, value: str, ok: bool) -> None:
    lines = [f"{field}: {value}" if line.startswith(field) else line for line in BLOCK.splitlines()[1:-1]]
    assert (parse("\n".join(lines)) is not None) == ok


def test_unknown_field_is_refused() -> None:
    assert parse(BLOCK[4:-4] + "title: x") is None


def test_agreeing_fields() -> None:
    other = FrontMatter(
        primary_language="de", is_rotation_valid=True, rotation_correction=90, is_table=False, is_diagram=False
    )
    assert agreeing_fields(other, TRUE) == ("is_rotation_valid", "is_table", "is_diagram")
