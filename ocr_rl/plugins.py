"""Finds plug-ins: by entry point name, by file (`my_reward.py:MyReward`) or by module (`my_package:MyReward`).

Groups are `ocr_rl.rewards` and `ocr_rl.engines`; built-in plug-ins are found like anybody's.
Knows nothing about what a plug-in does. A file that is named here is run as Python code, as any import is.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from ocr_rl.contract import Reward, UserError
from ocr_rl.extras import way_out
from ocr_rl.text.suggest import did_you_mean

REWARDS = "ocr_rl.rewards"
ENGINES = "ocr_rl.engines"
_OURS = "ocr-rl"  # the package of the built-in ones
_FOREIGN = (Exception, SystemExit)  # a plug-in is other people's code: anything may go wrong in it


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One installed plug-in, for people."""

    name: str
    package: str
    version: str
    options: Mapping[str, str]  # field -> default as Python writes it, or "required"
    help: str  # first line of its docstring, or why it cannot be had by its name


def load(group: str, spec: str) -> Any:
    """The class or function that `spec` names. UserError when there is none."""
    place, colon, attribute = spec.rpartition(":")
    if colon:
        module = _module_from_file(Path(place)) if place.endswith(".py") else _module(place, spec)
        try:
            return getattr(module, attribute)
        except AttributeError:
            public = [name for name in vars(module) if not name.startswith("_")]
            raise UserError(f"{place} has no {attribute!r}{did_you_mean(attribute, public)}") from None
    entries = _of_name(group, spec)
    if not entries:
        way_out = did_you_mean(spec, names(group)) or "; no plug-in is installed"
        message = f"no plug-in {spec!r} in the group {group}{way_out} (a file works too: path/to/file.py:Name)"
        raise UserError(message)
    if _is_open(entries):
        places = ", ".join(f"{entry.value} of {_package(entry)}" for entry in entries)
        raise UserError(
            f"{spec!r} is the name of several plug-ins in the group {group}; name one as its place: {places}"
        )
    return _load_entry(entries[0])


def names(group: str) -> list[str]:
    """Of all plug-ins of a group; none of them is loaded."""
    return sorted(entry_points(group=group).names)


def _of_name(group: str, name: str) -> list[EntryPoint]:
    """All of that name, a built-in one first: what another package installs never changes what a recipe means."""
    return sorted(entry_points(group=group, name=name), key=lambda entry: _package(entry) != _OURS)


def is_built_in(group: str, spec: str) -> bool:
    """Whether it is one of the plug-ins that ship; nothing is loaded."""
    entries = [] if ":" in spec else _of_name(group, spec)
    return bool(entries) and _package(entries[0]) == _OURS


def _is_open(entries: Sequence[EntryPoint]) -> bool:
    """Whether nothing says which of several is meant."""
    return len(entries) > 1 and _package(entries[0]) != _OURS


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "?"


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
    by_name = {field.name: field for field in fields(factory) if field.init}
    for name in options:
        if name not in by_name:
            raise UserError(f"{spec!r} has no option {name!r}{did_you_mean(name, by_name) or '; it has none'}")
    for name, field in by_name.items():
        if field.default is MISSING and field.default_factory is MISSING and name not in options:
            raise UserError(f"{spec!r} needs the option {name!r}")
    hints = _hints(factory, spec) if options else {}
    checked = {name: _checked(spec, name, value, hints[name]) for name, value in options.items()}
    try:
        return factory(**checked)
    except _FOREIGN as error:
        reason = str(error) if isinstance(error, ValueError | TypeError) else _reason(error)
        raise UserError(f"{spec!r} cannot be made{' with these options' if options else ''}: {reason}") from error


def _hints(factory: type, spec: str) -> Mapping[str, Any]:
    """Types by field."""
    try:
        return get_type_hints(factory)
    except Exception as error:  # an annotation is foreign code too
        raise UserError(
            f"the types of the options of {spec!r} cannot be told ({_reason(error)}); import what its annotations name "
            "where it runs too, not under TYPE_CHECKING alone"
        ) from error


def installed(group: str) -> list[PluginInfo]:
    """All plug-ins of a group, by name. One that cannot be loaded, or that another hides, is listed with the reason."""
    return [info for name in dict.fromkeys(names(group)) for info in described(group, name)]


def described(group: str, name: str) -> list[PluginInfo]:
    """All plug-ins of that name."""
    entries = _of_name(group, name)
    return [_describe(entry, entries) for entry in entries]


def _describe(entry: EntryPoint, entries: Sequence[EntryPoint]) -> PluginInfo:
    """`entries`: all of that name."""
    if _is_open(entries) or entry is not entries[0]:
        how = "one of several of that name" if _is_open(entries) else "hidden by the built-in one"
        return _info(entry, {}, f"of {_package(entry)}, {how}: name it as {entry.value}")
    try:
        plugin = _load_entry(entry)
        text = (str(plugin.__doc__ or "").strip() or "(no docstring)").splitlines()[0]
        shown = fields(plugin) if is_dataclass(plugin) else ()
        return _info(entry, {field.name: _default(field) for field in shown if field.init}, text)
    except UserError as error:
        return _info(entry, {}, str(error))
    except _FOREIGN as error:
        return _info(entry, {}, f"cannot be described: {_reason(error)}")


def _info(entry: EntryPoint, options: Mapping[str, str], text: str) -> PluginInfo:
    version = entry.dist.version if entry.dist else "?"
    return PluginInfo(name=entry.name, package=_package(entry), version=version, options=options, help=text)


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
    except _FOREIGN as error:
        if missing := way_out(error):
            raise UserError(f"plug-in {entry.name!r}: {missing}") from error
        raise UserError(f"plug-in {entry.name!r} ({entry.value}) cannot be loaded: {_reason(error)}") from error


def _module(name: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except _FOREIGN as error:
        raise UserError(f"module {name!r} of {spec!r} cannot be imported: {_reason(error)}") from error


def _module_from_file(path: Path) -> ModuleType:
    """Import a file once, under a name made from its path, so that what it defines can be pickled."""
    if not path.is_file():
        raise UserError(f"there is no file {path}; a plug-in file is named as path/to/file.py:Name")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"ocr_rl_plugin_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} cannot be read as Python code")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, _FOREIGN):
            raise UserError(f"{path} cannot be imported: {_reason(error)}") from error
        raise
    return module


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())  # one line
