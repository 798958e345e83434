"""`ocr-rl score`: which page a transcript is of, and groups and faults that a run saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pypdfium2 as pdfium
import pytest

from ocr_rl.contract import UserError
from ocr_rl.evaluate.score import score_file
from ocr_rl.pages.dataset import load_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """pdfs/a/x.pdf and pdfs/b/x.pdf, whose references say where they are; pdfs/my_repeat.pdf of two pages."""
    for name, width, text in (("a/x", 100, "of the first"), ("b/x", 101, "of the second"), ("my_repeat", 102, "")):
        path = tmp_path / "data" / "pdfs" / f"{name}.pdf"
        path.parent.mkdir(parents=True, exist_ok=True)
        document = pdfium.PdfDocument.new()
        for _ in range(1 if text else 2):
            document.new_page(width, 100)
        document.save(path)
        (path.with_suffix(".md") if text else path.with_name("my_repeat_pg2.md")).write_text(text or "page two")
    return tmp_path / "data"


def said(lines: Sequence[str], reward: str) -> list[str]:
    return [line.split(f"{reward}: ")[1].split()[0] for line in lines if f"{reward}: " in line]


def test_the_page_is_the_one_of_that_path(data: Path) -> None:
    file = data / "pdfs" / "b" / "x.md"
    assert said(list(score_file(file, data, ["cer"], page="b/x.pdf:1")), "cer") == ["1.000"]
    assert said(list(score_file(file, data, ["cer"], page="a/x.pdf:1")), "cer") != ["1.000"]
    with pytest.raises(UserError, match="has 2 pages"):
        list(score_file(file, data, ["cer"], page="x.pdf:1"))
    with pytest.raises(UserError, match="has no page"):
        list(score_file(file, data, ["cer"], page="nowhere/x.pdf:1"))


def test_a_name_that_holds_repeat_is_still_a_name(data: Path) -> None:
    file = data / "pdfs" / "my_repeat_pg2.md"
    assert said(list(score_file(file, data, ["cer"], page=None)), "cer") == ["1.000"]


def saved(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def sample(text: str) -> dict:
    return {"text": text, "finish": "stop", "tokens": 3}


def test_groups_of_two_steps_stay_two_groups(data: Path, tmp_path: Path) -> None:
    page = load_dataset(data)[0].id
    group = {"page": page, "samples": [sample("alpha\u2028beta"), sample("gamma")]}
    lines = list(score_file(saved(tmp_path / "g.jsonl", group, group), data, ["medoid"], page=None))
    assert sum("2 samples" in line for line in lines) == 2
    assert said(lines, "medoid") == ["1.000", "0.000"] * 2


def test_a_fault_is_asked_again_with_its_own_options(data: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from ocr_rl.contract import Score\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Bad:\n"
        "    bad: bool = False\n\n"
        "    def __call__(self, page, group):\n"
        "        if self.bad:\n"
        "            raise ValueError('as it did then')\n"
        "        return [Score(value=1.0)] * len(group)\n"
    )
    row = {"page": load_dataset(data)[0].id, "samples": [sample("text")]}
    for bad in (True, False):
        fault = {"reward": f"{plugin}:Bad", "options": {"bad": bad}, "reason": ""}
        file = saved(tmp_path / "f.jsonl", {**row, "fault": fault})
        if bad:
            with pytest.raises(UserError, match="as it did then"):
                list(score_file(file, data, None, page=None))
        else:
            assert any("Bad: 1.000" in line for line in score_file(file, data, None, page=None))


def test_a_file_without_a_group_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no group"):
        list(score_file(saved(tmp_path / "none.jsonl"), data, None, page=None))
    (tmp_path / "deep.jsonl").write_text("[" * 200_000)
    with pytest.raises(UserError, match="no group of samples"):
        list(score_file(tmp_path / "deep.jsonl", data, None, page=None))
