"""`ocr-rl sample --format parquet`: groups, and the best and worst of each as pairs; the sampler is a stand-in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import pyarrow.parquet as pq

from ocr_rl.contract import UserError
from ocr_rl.evaluate import samples
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.hub.exported import Asking
from ocr_rl.rollout.flow import Group, Sample
from tests.pages.folders import dataset, present

TEXTS = ("the harbour on Tuesday", "the harbour", "the harbour on Tuesday", "harbour on Monday")


def sampled(*texts: str) -> Callable[[Any], Any]:
    def groups(drawing: samples.Drawing) -> Any:
        (page,) = load_dataset(drawing.data)
        own = [Sample(token_ids=(1, 2), logprobs=(0.0, 0.0), text=text, finish="stop", policy=0) for text in texts]
        group = Group(page=page, prompt=None, samples=tuple(own), temperature=1.0, banned_ids=())  # type: ignore[arg-type]
        yield group, Asking(instruction="Read.", longest_px=32)

    return groups


@pytest.fixture
def drawing(tmp_path: Path) -> samples.Drawing:
    data = dataset(tmp_path / "data", "a.pdf")
    (data / "tests.jsonl").write_text(json.dumps(present("a.pdf")) + "\n")
    return samples.Drawing(data=data, model="nano", engine="transformers", pages=1, n=4, temperature=1.0, seed=0)


def test_a_group_is_a_row(drawing: samples.Drawing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_sampled", sampled(*TEXTS))
    assert samples.sample_table(drawing, tmp_path / "g.parquet") == 1
    (row,) = pq.read_table(tmp_path / "g.parquet").to_pylist()
    assert row["completions"] == list(TEXTS) and row["num_tokens"] == [2] * 4 and row["finishes"] == ["stop"] * 4
    assert (
        row["pdf"] == "a.pdf" and "harbour on Tuesday" in row["tests"] and row["image"]["bytes"].startswith(b"\x89PNG")
    )


def test_best_and_worst_are_a_pair(drawing: samples.Drawing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_sampled", sampled(*TEXTS))
    assert samples.sample_table(drawing, tmp_path / "p.parquet", "nano_grpo") == 1
    (row,) = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert row["prompt"] == [{"role": "user", "content": "Read."}]
    assert row["chosen"][0]["content"] == TEXTS[0] and row["rejected"][0]["content"] in (TEXTS[1], TEXTS[3])


def test_where_all_score_the_same_nothing_is_written(
    drawing: samples.Drawing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_sampled", sampled("x", "x"))
    with pytest.raises(UserError, match="there is no pair"):
        samples.sample_table(drawing, tmp_path / "p.parquet", "nano_grpo")
    assert not (tmp_path / "p.parquet").exists()
    with pytest.raises(UserError, match="has no rewards"):
        samples.sample_table(drawing, tmp_path / "p.parquet", "nano_sft")
