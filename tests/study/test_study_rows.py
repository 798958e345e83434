"""A study's rows as one file: what goes in comes out, and nothing else does."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from ocr_rl.contract import UserError
from ocr_rl.evaluate.results import to_json
from ocr_rl.study.folder import Folder
from ocr_rl.study.rows import pack, unpack
from tests.study.by_hand import row_by_hand, study_by_hand

STUDY = study_by_hand()
ENV = {"cores": 2, "platform": "p", "date": "d", "packages": {}}
KEPT = {
    "study.json": json.dumps({"study": json.loads(STUDY.model_dump_json(exclude_unset=True)), "start": "", "env": ENV}),
    "test/start.jsonl": "\n",
    "failed/dpo-seed0.txt": "2",
    "pairs/dpo_both_bad-seed0.why.json": '{"pairs": 3}',
    "runs/grpo-seed0/metrics.jsonl": '{"step": 4}\n',
    "runs/grpo-seed0/done.json": '{"model": "5"}',
    "runs/grpo-seed0/eval/000000/validation.jsonl": "\n\n",
}


def archive(tmp_path: Path, **entries: str | tarfile.TarInfo) -> Path:
    path = tmp_path / "rows.tar.xz"
    with tarfile.open(path, "w:xz") as box:
        for name, content in entries.items():
            if isinstance(content, tarfile.TarInfo):
                box.addfile(content)
            else:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                box.addfile(entry, io.BytesIO(content.encode()))
    return path


def test_rows_are_packed_alike_and_unpacked_whole(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        for name, text in (
            *KEPT.items(),
            ("runs/grpo-seed0/ckpt/1/model.safetensors", "weights"),
            ("pages/a.pdf", "a"),
        ):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(text)
    rows = pack(Folder(tmp_path / "one"))
    assert rows == pack(Folder(tmp_path / "two"))
    (tmp_path / "rows.tar.xz").write_bytes(rows)
    unpack(tmp_path / "rows.tar.xz", tmp_path / "out", STUDY)
    found = {str(p.relative_to(tmp_path / "out")): p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == KEPT
    with pytest.raises(UserError, match="is there already"):
        unpack(tmp_path / "rows.tar.xz", tmp_path / "out", STUDY)


@pytest.mark.parametrize("broken", ["[1]\n", "{\n", "[" * 100_000 + "\n"])
@pytest.mark.parametrize("name", [name for name in KEPT if ".json" in name])
def test_a_file_that_no_study_writes_is_named(tmp_path: Path, name: str, broken: str) -> None:
    rows = archive(tmp_path, **{**KEPT, name: broken})
    with pytest.raises(UserError, match=rf"rows\.tar\.xz: {name}(, line 1)?: ") as caught:
        unpack(rows, tmp_path / "out", STUDY)
    assert str(caught.value).count("\n") == 0 and not (tmp_path / "out").exists()


def link() -> tarfile.TarInfo:
    entry = tarfile.TarInfo("study.json")
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return entry


@pytest.mark.parametrize(
    "entries",
    [
        {"../study.json": "{}"},
        {"/study.json": "{}"},
        {"test/../../x.jsonl": "{}"},
        {"test/deep/x.jsonl": "{}"},
        {"runs/a/model.safetensors": "x"},
        {"study.json": link()},
    ],
)
def test_other_archives_are_refused_and_nothing_is_written(tmp_path: Path, entries: dict) -> None:
    with pytest.raises(UserError, match="holds other files than a study's rows"):
        unpack(archive(tmp_path, **entries), tmp_path / "out", STUDY)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.tar.xz"]


def test_what_is_no_archive_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "rows.tar.xz").write_bytes(b"no archive")
    for path in (tmp_path / "rows.tar.xz", tmp_path / "none.tar.xz", tmp_path):
        with pytest.raises(UserError, match="cannot be unpacked"):
            unpack(path, tmp_path / "out", STUDY)


def test_rows_of_another_study_and_damaged_ones_leave_nothing_behind(tmp_path: Path) -> None:
    other = study_by_hand(samples=9)
    path = archive(tmp_path, **{"study.json": json.dumps({"study": json.loads(other.model_dump_json()), "env": ENV})})
    with pytest.raises(UserError, match=r"rows\.tar\.xz: holds the rows of another study; name that one"):
        unpack(path, tmp_path / "out", STUDY)
    for begun in ({}, {"study.json": json.dumps({"study": {}, "env": {"cores": 2}})}):
        path = archive(tmp_path, **{"test/start.jsonl": "\n", **begun})
        with pytest.raises(UserError, match="study.json has no whole env .cores, date, packages, platform.; give"):
            unpack(path, tmp_path / "out", STUDY)
    whole = archive(tmp_path, **{"test/start.jsonl": "".join(f"line {k}\n" for k in range(9999))}).read_bytes()
    for k in range(40, len(whole), max(1, len(whole) // 30)):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 0xFF]) + whole[k + 1 :])
        with pytest.raises(UserError):
            unpack(path, tmp_path / "out", STUDY)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.tar.xz"]


def test_a_run_of_other_pages_or_tests_than_the_start_is_refused(tmp_path: Path) -> None:
    def rows(*pages: str, tests: int = 100) -> str:
        whole = (row_by_hand(page, 0.5) for page in pages)
        cut = (replace(row, checks=row.checks[:tests]) for row in whole)
        return "".join(json.dumps(to_json(row)) + "\n" for row in cut)

    start = {**KEPT, "test/start.jsonl": rows("a", "b"), "test/start-siblings.jsonl": rows("v")}
    good = {"test/grpo-seed0.jsonl": rows("b", "a"), "test/grpo-seed0-siblings.jsonl": rows("v")}
    unpack(archive(tmp_path, **start, **good), tmp_path / "out", STUDY)
    with pytest.raises(
        UserError, match=r"grpo-seed0-siblings\.jsonl has other pages .* than test/start-siblings\.jsonl .first: a"
    ):
        unpack(archive(tmp_path, **start, **{"test/grpo-seed0-siblings.jsonl": rows("a")}), tmp_path / "odd", STUDY)
    for odd, first in ((rows("a"), "b"), ("", "a"), (rows("a", "b", "c"), "c"), (rows("a", "b", tests=99), "a")):
        path = archive(tmp_path, **{**start, "test/grpo-seed0.jsonl": odd})
        with pytest.raises(UserError, match=rf"test/grpo-seed0\.jsonl has other pages or tests .* .first: {first}."):
            unpack(path, tmp_path / "elsewhere", STUDY)
