"""The reference of recipes, from the sections themselves: docs/recipes.md and a JSON schema that editors complete from.

python -m ocr_rl.config.document docs/recipes.md ocr_rl/recipes/recipe.schema.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ocr_rl.config.algorithms import ALGORITHMS
from ocr_rl.config.load import shipped_recipes
from ocr_rl.config.recipe import Recipe

_HEAD = """# Recipes

A recipe is a TOML file: one policy, one algorithm, the rewards that score its samples, the pages it is evaluated on.
`ocr-rl recipes` lists the shipped ones, `ocr-rl recipes show NAME` prints one, `ocr-rl recipes new --from NAME --pages
DIR` writes a copy for your own pages. Unknown keys are errors; any key can be set on the command line, as in
`--set optim.lr=1e-5`. Paths are relative to the folder that the command is started in.

Exactly one section is the algorithm's: {algorithms}. `[[rewards]]` and `[[gates]]` are written
once for each reward.

Editors that know TOML schemas (Taplo, Even Better TOML) complete keys and show these texts with the first line
`#:schema PATH/recipe.schema.json`; the schema is `ocr_rl/recipes/recipe.schema.json`.

This page is generated from the code (`make docs`).
"""


def recipe_schema() -> dict[str, Any]:
    """JSON schema of a recipe as it is written: the algorithm's section stands under the algorithm's name."""
    schema = Recipe.model_json_schema(mode="validation")
    properties = dict[str, Any]()
    for key, value in schema["properties"].items():
        if key == "algorithm":
            properties |= {name: {"$ref": f"#/$defs/{section.__name__}"} for name, section in ALGORITHMS.items()}
        else:
            properties[key] = value
    schema["properties"] = properties
    schema["required"] = [key for key in schema["required"] if key != "algorithm"]
    schema["oneOf"] = [{"required": [name]} for name in ALGORITHMS]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def recipes_page() -> str:
    """docs/recipes.md: a table a section, every field with type, default and description."""
    schema = recipe_schema()
    defs: Mapping[str, Any] = schema["$defs"]
    algorithms = ", ".join(f"`[{name}]`" for name in ALGORITHMS)
    parts = [_HEAD.format(algorithms=algorithms), "## Shipped\n", _shipped(), "## The recipe\n", _table(schema)]
    for title, name in _sections(schema):
        parts += [f"## {title}\n", f"{_flat(defs[name].get('description', ''))}\n", _table(defs[name])]
    return "\n".join(parts).rstrip() + "\n"


def _shipped() -> str:
    rows = ["| recipe | what it is |", "| :-- | :-- |"]
    for name, path in shipped_recipes().items():
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        rows.append(f"| `{name}` | {first} |")
    return "\n".join(rows) + "\n"


def _sections(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(title, definition) of every section, in the order in which a reader meets them."""
    todo = [(key, value) for key, value in schema["properties"].items()]
    titles: dict[str, str] = {}
    while todo:
        path, value = todo.pop(0)
        for name in _references(value):
            if name not in titles:
                repeated = value.get("type") == "array"
                titles[name] = f"`[[{path}]]`" if repeated else f"`[{path}]`"
                fields = schema["$defs"][name].get("properties", {})
                todo += [(f"{path}.{key}", field) for key, field in fields.items()]
    yield from ((f"{title} ({name})", name) for name, title in titles.items() if name != "JsonValue")


def _references(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        own = [value["$ref"].rsplit("/", 1)[-1]] if "$ref" in value else []
        return own + [name for key, item in value.items() if key != "discriminator" for name in _references(item)]
    return [name for item in value for name in _references(item)] if isinstance(value, list) else []


def _table(section: Mapping[str, Any]) -> str:
    rows = ["| key | type | default | meaning |", "| :-- | :-- | :-- | :-- |"]
    for key, value in section.get("properties", {}).items():
        required = key in section.get("required", ())
        unset = value.get("default") is None
        default = "needed" if required else "" if unset else f"`{json.dumps(value['default'])}`"
        if len(default) > 40:
            default = "below"
        rows.append(f"| `{key}` | {_type(value)} | {default} | {_flat(value.get('description', ''))} |")
    return "\n".join(rows) + "\n"


def _type(value: Mapping[str, Any]) -> str:
    if "enum" in value:
        return " or ".join(f"`{json.dumps(choice)}`" for choice in value["enum"])
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "$ref" in value:
        return value["$ref"].rsplit("/", 1)[-1]
    for kind in ("anyOf", "oneOf"):
        if kind in value:
            return " or ".join(dict.fromkeys(_type(item) for item in value[kind] if item.get("type") != "null"))
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}" if "items" in value else "list"
    if value.get("type") == "object" and isinstance(value.get("additionalProperties"), Mapping):
        return f"by name: {_type(value['additionalProperties'])}"
    kind = str(value.get("type", "any value"))
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(kind, kind)


def _flat(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    page, schema = map(Path, sys.argv[1:3])
    page.write_text(recipes_page(), encoding="utf-8")
    schema.write_text(json.dumps(recipe_schema(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
