"""Groups that a run has written (`runs/<name>/groups/*.jsonl`, `faults/*.jsonl`) as transcripts by page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ocr_rl.contract import Transcript, UserError
from ocr_rl.rollout.graders import from_json


def read_groups(path: Path) -> dict[str, list[Transcript]]:
    """Every sample by page id, in the order of the files: of one JSONL file, or of all groups of a run directory.

    UserError names the file and the line that is none of a group.
    """
    files = sorted((path / "groups").glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: has no groups; give a run directory or one of its groups/*.jsonl files.")
    found: dict[str, list[Transcript]] = {}
    for file in files:
        for page, samples in _rows(file):
            found.setdefault(page, []).extend(samples)
    return found


def _rows(file: Path) -> list[tuple[str, list[Transcript]]]:
    rows = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{file}: is not UTF-8 text; give a JSONL file of groups.") from None
    for number, line in enumerate(lines, 1):
        try:
            row: Mapping = json.loads(line)
            rows.append((str(row["page"]), [from_json(sample) for sample in row["samples"]]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file}:{number}: is no group of samples ({error}); give a file of a run.") from None
    return rows
