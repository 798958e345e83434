"""Read a recipe: a TOML file or a shipped name, overrides on top, every fault one sentence."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ocr_rl.config.explain import explain, old_spelling
from ocr_rl.config.recipe import Recipe
from ocr_rl.config.sections import Folder
from ocr_rl.contract import UserError
from ocr_rl.files import require_text


def shipped_recipes() -> dict[str, Path]:
    folder = Path(str(files("ocr_rl") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(name: str, overrides: list[str] | None = None) -> Recipe:
    """A recipe by file path or by the name of a shipped one, with `section.key=value` overrides (TOML values)."""
    path = Path(name)
    if not path.suffix and not path.exists():
        shipped = shipped_recipes()
        if name not in shipped:
            close = difflib.get_close_matches(name, shipped, n=1)
            hint = f"did you mean {close[0]}?" if close else f"shipped are {', '.join(shipped)}."
            raise UserError(f"No recipe named {name!r}: {hint}")
        path = shipped[name]
    return parse_recipe(read_toml(path, "Recipe "), overrides or [], str(path))


def read_toml(path: Path, of: str) -> dict[str, Any]:
    """What a TOML file says. UserError, which begins with `of` and the path, where it is none."""
    try:
        return tomllib.loads(require_text(path, of))
    except (ValueError, RecursionError) as error:  # also brackets nested thousands deep
        raise UserError(f"{of}{path}: not valid TOML: {error}.") from None


def parse_recipe(data: dict[str, Any], overrides: Sequence[str], name: str) -> Recipe:
    """A recipe from what its file says; `data` takes up the overrides. Raises UserError, which calls it `name`."""
    for override in overrides:
        _override(data, override)
    if instead := old_spelling(data):
        raise UserError(f"Recipe {name}: {instead}")
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise UserError(f"Recipe {name}: {explain(error, Recipe)}") from None


def _override(data: dict[str, Any], override: str) -> None:
    """Set one key; a page source that gets a `dir` loses what its pages were typeset with."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override!r}: write it as section.key=value.")
    value = _value(text, override)
    *parents, last = key.strip().split(".")
    here: Any = data
    for part in parents:
        here = _element(here, part, override) if isinstance(here, list) else here.setdefault(part, {})
        if not isinstance(here, dict | list):
            raise UserError(f"--set {override!r}: {part} is a value, not a section.")
    if isinstance(here, list):
        raise UserError(f"--set {override!r}: {'.'.join(parents)} is a list; name an element, as in {parents[-1]}.0.")
    if last == "dir" and "synth" in here:
        for key in set(here) - set(Folder.model_fields):
            del here[key]
    here[last] = value


def _value(text: str, override: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except RecursionError:
        raise UserError(f"--set {override[:80]!r}...: the value is nested too deeply.") from None
    except ValueError:
        return text  # a bare word is a string
    if len(parsed) > 1:  # a line break, and further keys behind it
        raise UserError(f"--set {override!r}: sets more than one key; give --set once for each.")
    return parsed["value"]


def _element(items: list[Any], part: str, override: str) -> Any:
    if not part.isdecimal():
        raise UserError(f"--set {override!r}: {part} is no number; name an element of the list, from 0.")
    if len(part) > 9 or int(part) >= len(items):
        raise UserError(f"--set {override!r}: there is no element {part}, the list has {len(items)}.")
    return items[int(part)]
