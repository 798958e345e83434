"""JSON lines that survive a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocr_rl.contract import UserError
from ocr_rl.evaluate import journal


def test_a_journal_ends_where_the_last_whole_line_does(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert journal.resume(path) == []
    journal.append(path, {"text": "\ud800 ü"})
    with path.open("ab") as file:
        file.write('{"text": "ü'.encode()[:-1])
    assert journal.resume(path) == [{"text": "\ud800 ü"}]
    journal.append(path, {"text": "b"})
    assert journal.resume(path) == [{"text": "\ud800 ü"}, {"text": "b"}]
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(UserError, match="line 2: not JSON"):
        journal.resume(path)
