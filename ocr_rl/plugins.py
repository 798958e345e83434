"""Finds plug-ins: by entry point name, by file (`my_reward.py:MyReward`) or by module (`my_package:MyReward`).

Groups are `ocr_rl.rewards`, `ocr_rl.benchmarks` and `ocr_rl.engines`; built-in plug-ins are found like anybody's.
Knows nothing about what a plug-in does. A file that is named here is run as Python code, as any import is.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from ocr_rl.contract import Reward, UserError
from ocr_rl.text.suggest import did_you_mean

REWARDS = "ocr_rl.rewards"
BENCHMARKS = "ocr_rl.benchmarks"
ENGINES = "ocr_rl.engines"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One installed plug-in, for people."""

    name: str
    package: str
    version: str
    options: Mapping[str, str]  # field -> default as Python writes it, or "required"
    help: str  # first line of its docstring, or why it cannot be loaded


def load(group: str, spec: str) -> Any:
    """The class or function that `spec` names. UserError when there is none."""
    place, colon, attribute = spec.rpartition(":")
    if colon:
        module = _module_from_file(Path(place)) if place.endswith(".py") else _module(place, spec)
        try:
            return getattr(module, attribute)
        except AttributeError:
            known = [name for name in vars(module) if not name.startswith("_")]
            raise UserError(f"{place} has no {attribute!r}{did_you_mean(attribute, known)}") from None
    found = entry_points(group=group)
    if spec not in found.names:
        way_out = did_you_mean(spec, sorted(found.names)) or "; no plug-in is installed"
        message = f"no plug-in {spec!r} in the group {group}{way_out} (a file works too: path/to/file.py:Name)"
        raise UserError(message)
    return _load_entry(found[spec])


def load_reward(spec: str, options: Mapping[str, Any] | None = None) -> Reward:
    """The reward plug-in that `spec` names, made with its options. UserError names what is wrong."""
    factory = load(REWARDS, spec)
    reward = configured(factory, options or {}, spec)
    if not isinstance(reward, Reward):
        raise UserError(f"reward {spec!r} is not callable; it needs __call__(page, group) -> scores")
    return reward


def configured(factory: Any, options: Mapping[str, Any], spec: str) -> Any:
    """A plug-in dataclass made with options; each is checked against the type of its field."""
    if not (isinstance(factory, type) and is_dataclass(factory)):
        raise UserError(f"plug-in {spec!r} must be a frozen dataclass whose fields are its options, got {factory!r}")
    known = {field.name: field for field in fields(factory) if field.init}
    for name in options:
        if name not in known:
            raise UserError(f"{spec!r} has no option {name!r}{did_you_mean(name, known) or '; it has none'}")
    for name, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and name not in options:
            raise UserError(f"{spec!r} needs the option {name!r}")
    hints = get_type_hints(factory)
    try:
        return factory(**{name: _checked(spec, name, value, hints[name]) for name, value in options.items()})
    except (ValueError, TypeError) as error:
        raise UserError(f"{spec!r} cannot be made with these options: {error}") from error


def installed(group: str) -> list[PluginInfo]:
    """All plug-ins of a group, by name. One that cannot be loaded is listed with the reason."""
    return [_describe(entry) for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)]


def _describe(entry: EntryPoint) -> PluginInfo:
    options: dict[str, str] = {}
    try:
        plugin = _load_entry(entry)
    except UserError as error:
        text = str(error)
    else:
        text = ((plugin.__doc__ or "").strip() or "(no docstring)").splitlines()[0]
        if is_dataclass(plugin):
            options = {field.name: _default(field) for field in fields(plugin) if field.init}
    package = entry.dist.name if entry.dist else "?"
    version = entry.dist.version if entry.dist else "?"
    return PluginInfo(name=entry.name, package=package, version=version, options=options, help=text)


def _default(field: Any) -> str:
    if field.default is not MISSING:
        return repr(field.default)
    return "required" if field.default_factory is MISSING else repr(field.default_factory())


def _checked(spec: str, name: str, value: Any, hint: Any) -> Any:
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise UserError(f"option {name!r} of {spec!r} is wrong: {reason}, got {value!r}") from error
    except PydanticUserError:  # a type that only the plug-in understands
        return value


def _load_entry(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # a plug-in is foreign code: anything may go wrong when it is imported
        raise UserError(f"plug-in {entry.name!r} ({entry.value}) cannot be loaded: {_reason(error)}") from error


def _module(name: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise UserError(f"module {name!r} of {spec!r} cannot be imported: {_reason(error)}") from error


def _module_from_file(path: Path) -> ModuleType:
    """Import a file once, under a name made from its path, so that what it defines can be pickled."""
    if not path.is_file():
        raise UserError(f"there is no file {path}; a plug-in file is named as path/to/file.py:Name")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"ocr_rl_plugin_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise UserError(f"{path} cannot be read as Python code")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        found.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception):
            raise UserError(f"{path} cannot be imported: {_reason(error)}") from error
        raise
    return module


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
