"""Packages of other people, as an installer lays them out: modules, and beside them the metadata of entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, package: str, rewards: Mapping[str, str], version: str = "0.1.0") -> None:
    """Metadata in `folder`, which is to be on the path: rewards by name, each "module:Class"."""
    info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    entries = "".join(f"{name} = {at}\n" for name, at in rewards.items())
    (info / "entry_points.txt").write_text(f"[ocr_rl.rewards]\n{entries}")
