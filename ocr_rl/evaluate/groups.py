"""Groups that a run has written (`runs/<name>/groups/*.jsonl`, `faults/*.jsonl`), read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocr_rl.contract import Transcript, UserError
from ocr_rl.files import MAX_GROUP, require_objects
from ocr_rl.rollout.reward_pool import from_json
from ocr_rl.run import by_step


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedGroup:
    """Sibling transcripts of one page; `fault` is the reward that failed on them, with its options."""

    page_id: str
    samples: Sequence[Transcript]
    fault: tuple[str, Mapping[str, Any]] | None = None


def read_groups(path: Path) -> list[SavedGroup]:
    """The groups of one JSONL file, or of all files of a run directory, in their order.

    UserError names the file and the line that holds no group.
    """
    files = list(by_step(path / "groups").values()) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: has no groups; give a run directory or one of its groups/*.jsonl files.")
    groups = [group for file in files for group in _rows(file)]
    if not groups:
        raise UserError(f"{path}: holds no group; give a file of a run.")
    return groups


def _rows(file: Path) -> list[SavedGroup]:
    groups = []
    for number, row in require_objects(file, MAX_GROUP, halves=True):
        try:
            groups.append(_group(row))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file}:{number}: is no group of samples ({error}); give a file of a run.") from None
    return groups


def _group(row: Mapping[str, Any]) -> SavedGroup:
    """Raises ValueError, KeyError, TypeError or AttributeError for what no run wrote."""
    fault = (str(row["fault"]["reward"]), dict(row["fault"]["options"])) if "fault" in row else None
    samples = tuple(from_json(sample) for sample in row["samples"])
    if not samples:
        raise ValueError("it has none")
    return SavedGroup(page_id=str(row["page"]), samples=samples, fault=fault)
