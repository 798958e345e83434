"""Somebody's own preferences: learnt from without sampling, and what is wrong with a file is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl.contract import Page, UserError
from ocr_rl.learn.algos.dpo import dpo
from ocr_rl.pages.preferences import read_preferences
from ocr_rl.rollout.prompt import Prompter
from tests.learn.conftest import Asked, Referee
from tests.learn.test_rounds import LENGTHS, run_rounds, settings


def test_preferences_of_ones_own(tiny_pages: list[Page], prompter: Prompter, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    page = tiny_pages[1]
    row = {"pdf": page.pdf.name, "page": page.number, "chosen": "good", "rejected": "bad"}
    path.write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    sampler, learner = Asked(prompter, LENGTHS), Referee(prompter)
    cfg = settings(preferences=path, steps=2)
    step = next(run_rounds(dpo, cfg, tiny_pages, sampler, learner, tmp_path))
    assert [prompter.decode(row.completion_ids) for row in step.rows] == ["good", "bad"]
    assert step.rows[0].prompt.page_id == page.id
    assert sampler.pages == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", ":2: this is not JSON"),
        ('{"pdf": "none.pdf", "page": 1, "chosen": "a", "rejected": "b"}', ":2: 'none.pdf' page 1 is no page"),
        ('{"pdf": "PDF", "page": true, "chosen": "a", "rejected": "b"}', "page a whole number"),
        ('{"pdf": [], "page": 1, "chosen": "a", "rejected": "b"}', "pdf must be the name"),
        ('{"pdf": "PDF", "page": 1, "chosen": "\\ud800", "rejected": "b"}', ":2: .*lone surrogate"),
        ('{"pdf": "PDF", "page": ' + "1" * 5000 + "}", ":2: this is not JSON that anybody"),
        ("[" * 100_000, ":2: this is not JSON that anybody"),
        ("\n\n{", ":4: this is not JSON"),
        ('{"pdf": "PDF", "page": 1, "chosen": "a"}', ":2: no field rejected"),
        ('{"pdf": "PDF", "page": 1, "chosen": "a", "rejected": "a"}', "two different texts"),
        ('{"pdf": "PDF", "page": 1, "chosen": 5, "rejected": "a"}', "chosen must be a text, got 5"),
        ('{"pdf": "PDF", "page": 1, "chosen": "a", "rejected": null}', "rejected must be a text, got null"),
        ("[]", ":2: this is not a JSON object"),
    ],
)
def test_a_wrong_preference_is_named(tiny_pages: list[Page], tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "pairs.jsonl"
    good = json.dumps({"pdf": tiny_pages[0].pdf.name, "page": tiny_pages[0].number, "chosen": "a", "rejected": "b"})
    path.write_text(f"{good}\n{line.replace('PDF', tiny_pages[0].pdf.name)}\n", encoding="utf-8")
    with pytest.raises(UserError, match=why):
        read_preferences(path, tiny_pages)


def test_preferences_name_their_pdf_below_pdfs(tiny_pages: list[Page], tmp_path: Path) -> None:
    names = ("x/invoice.pdf", "y/invoice.pdf", "z/x/invoice.pdf", "letter.pdf")
    pages = [replace(tiny_pages[0], id=f"{name}:p1", pdf=Path("data/pdfs") / name, number=1) for name in names]
    path = tmp_path / "pairs.jsonl"

    def read(*pdfs: str) -> list[str]:
        rows = [{"pdf": name, "page": 1, "chosen": "a\u2028\u0085b", "rejected": "b"} for name in pdfs]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text("\ufeff" + text, encoding="utf-8")
        return [preference.page_id for preference in read_preferences(path, pages)]

    assert read("y/invoice.pdf", "x/invoice.pdf", "letter.pdf") == [
        "y/invoice.pdf:p1",
        "x/invoice.pdf:p1",
        "letter.pdf:p1",
    ]
    with pytest.raises(UserError, match=":2: 3 PDFs are called 'invoice.pdf'"):
        read("letter.pdf", "invoice.pdf")
    with pytest.raises(UserError, match="holds no pair"):
        read()
