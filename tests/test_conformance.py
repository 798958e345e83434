"""Agreement with the public olmOCR code, where its verdicts are at hand; and the tool's own manners."""

import json
from pathlib import Path

import pytest

from benchmarks.fidelity.conformance import compare, main

ORACLE = Path(__file__).resolve().parents[2] / "shared" / "oracle" / "dev"


def test_agreement_with_the_public_code() -> None:
    if not ORACLE.is_dir():
        pytest.skip("the folder shared/oracle/dev is not beside the checkout")
    report = compare(ORACLE)
    least = {"math": 99.0, "equations": 99.0}
    for kind in ("unit_tests", "equations", "normalize", "tables", "repeats", "validation", "scoring", "rewards"):
        for part, counts in report[kind]["types"].items():
            assert counts["percent"] >= least.get(part, least.get(kind, 99.5)), (kind, part, counts["disagreements"])


def test_disagreements_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"case_id": "right", "group": "g", "input": "**a**", "output": "a"},
        {"case_id": "wrong", "group": "g", "input": "**a**", "output": "b"},
    ]
    (tmp_path / "normalize.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main([str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    counts = {"agree": 1, "total": 2, "percent": 50.0, "disagreements": ["wrong"]}
    assert report["normalize"] == {**counts, "types": {"all": counts}}
    assert report["skipped"]["tables"] == "there is no tables.jsonl"


def test_a_folder_without_oracle_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "name an oracle folder" in capsys.readouterr().err


def test_a_broken_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "repeats.jsonl").write_text("{\n")
    assert main([str(tmp_path)]) == 2
    assert "repeats.jsonl, line 1, is not JSON" in capsys.readouterr().err
