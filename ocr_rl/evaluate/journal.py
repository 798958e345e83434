"""JSON lines to which a restarted job appends, and the settings that it must share with the job that was killed.

Rows are appended as they come. Before that, a last line that a kill cut through is removed. Knows nothing about what
is in a row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ocr_rl.contract import UserError
from ocr_rl.run import write_atomically


def settle(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a new job. UserError where a job was begun there with other settings."""
    now = json.loads(json.dumps(settings))
    if not path.exists():
        write_atomically(path, json.dumps(now, indent=2) + "\n")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    except (OSError, ValueError, TypeError, AttributeError) as fault:
        raise UserError(f"{path}: cannot be read ({fault}); delete the folder or give another --out.") from None
    if differing:
        name = differing[0]
        raise UserError(
            f"{path}: was begun with {name} {before.get(name)!r}, which is now {now.get(name)!r}; give the same "
            "settings to go on, or another --out."
        )


def resume(path: Path) -> list[dict[str, Any]]:
    """The rows so far; a last line without its end is removed from the file. Raises UserError for a broken line."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1  # bytes: the cut may go through a character
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
    rows = []
    for number, line in enumerate(data[:whole].splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as fault:
            raise UserError(f"{path}, line {number}: not JSON ({fault}); delete the line, it is made again.") from None
    return rows


def append(path: Path, row: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")  # ASCII JSON: a transcript may hold half a surrogate pair
