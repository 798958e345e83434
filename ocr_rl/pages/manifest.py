"""`manifest.json` says how a folder of pages was made, with which versions, and which files it holds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ocr_rl.pages.raster import file_sha

_MAKERS = ("ocr-rl", "typst", "pypdfium2", "faker", "numpy", "pillow", "matplotlib")


def write_manifest(folder: Path, made_by: Mapping[str, Any]) -> Path:
    """Write `manifest.json`: how the folder was made, with which versions, and the sha256 of every other file in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    manifest = {
        "made_by": dict(made_by),
        "versions": {name: _version(name) for name in _MAKERS},
        "files": {path.relative_to(folder).as_posix(): file_sha(path) for path in files},
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def may_write_manifest(folder: Path) -> bool:
    """Whether the folder has no `manifest.json`, or one that says how pages were made."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return not os.path.lexists(path)
    return isinstance(manifest, dict) and "made_by" in manifest


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
