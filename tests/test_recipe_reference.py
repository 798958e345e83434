"""The reference of recipes is what the code says: descriptions, choices, generated files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest

from ocr_rl import config
from ocr_rl.config.base import KeyOf, Section
from ocr_rl.config.document import recipe_schema, recipes_page
from ocr_rl.objectives.advantages import ADVANTAGES
from ocr_rl.objectives.aggregation import AGGREGATIONS
from ocr_rl.objectives.losses import IMPORTANCE, KL, RATIOS, SURROGATES

ROOT = Path(__file__).resolve().parents[1]
TABLES = {
    "advantage": ADVANTAGES,
    "surrogate": SURROGATES,
    "ratio": RATIOS,
    "aggregation": AGGREGATIONS,
    "kl": KL,
    "importance_level": IMPORTANCE,
}


def test_every_field_and_every_section_is_described() -> None:
    schema = recipe_schema()
    sections = {"Recipe": schema, **schema["$defs"]}
    bare = [name for name, section in sections.items() if "properties" in section and not section.get("description")]
    assert bare == []
    references = set(config.ALGORITHMS)  # a section's description stands in its own place
    silent = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, field in section.get("properties", {}).items()
        if not field.get("description") and key not in references
    ]
    assert silent == []


def test_the_generated_files_are_not_stale() -> None:
    hint = "run `make docs`"
    assert (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8") == recipes_page(), hint
    schema = json.loads((ROOT / "ocr_rl" / "recipes" / "recipe.schema.json").read_text(encoding="utf-8"))
    assert schema == recipe_schema(), hint


@pytest.mark.parametrize(("field", "table"), TABLES.items())
def test_a_recipe_can_name_every_key_of_the_tables(field: str, table: Mapping[str, Any]) -> None:
    assert recipe_schema()["$defs"]["Grpo"]["properties"][field]["enum"] == list(table)
    for key in table:
        recipe = config.load_recipe("nano_grpo", [f"grpo.{field}={key}"])
        assert getattr(recipe.algorithm, field) == key


def test_what_is_added_to_a_table_is_a_choice() -> None:
    table = {**SURROGATES, "reinforce": None}

    class Choosing(Section):
        surrogate: Annotated[str, KeyOf(table)] = "clip"

    assert Choosing.model_validate({"surrogate": "reinforce"}).surrogate == "reinforce"
    assert Choosing.model_json_schema()["properties"]["surrogate"]["enum"] == [*SURROGATES, "reinforce"]


def test_the_schema_asks_for_one_algorithm() -> None:
    schema = recipe_schema()
    assert schema["oneOf"] == [{"required": [name]} for name in config.ALGORITHMS]
    assert "algorithm" not in schema["properties"]
