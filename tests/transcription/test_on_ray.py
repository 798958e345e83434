"""Pages through Ray Data, with a stand-in for Ray: docs/transcribe.md says what a real cluster did."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ocr_rl import extras
from ocr_rl.evaluate.chat import Endpoint
from ocr_rl.evaluate.readers import AtEndpoint
from ocr_rl.models.settings import PromptSettings
from ocr_rl.transcription import on_ray
from ocr_rl.transcription.job import transcribe_files
from ocr_rl.transcription.on_ray import OnRay
from tests.transcription.fake_chat import FakeChat


class _Items:
    """A dataset of Ray's, as far as it is used: each worker gets what is pickled, batches come in any order."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items

    def map_batches(
        self, worker: Any, *, fn_constructor_args: tuple, batch_size: int, compute: int, num_gpus: int
    ) -> Any:
        assert num_gpus == 0 and compute == 2
        workers = [worker(*pickle.loads(pickle.dumps(fn_constructor_args))) for _ in range(compute)]
        batches = [self.items[start : start + batch_size] for start in range(0, len(self.items), batch_size)]
        answers = [
            workers[k % compute]({"page": [item["page"] for item in batch]})["read"] for k, batch in enumerate(batches)
        ]
        return _Items([{"read": read} for of_batch in reversed(answers) for read in of_batch])

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        return iter(self.items)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Ray was told."""
    told: list[str] = []
    context = SimpleNamespace(get_current=lambda: SimpleNamespace())
    data = SimpleNamespace(from_items=_Items, DataContext=context, ActorPoolStrategy=lambda size: size)
    fake = SimpleNamespace(
        data=data,
        is_initialized=lambda: False,
        init=lambda address, **_: told.append(address),
        shutdown=lambda: told.append("shutdown"),
        cluster_resources=dict,
    )
    monkeypatch.setitem(sys.modules, "ray", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(on_ray, "require", lambda *_: None)
    return told


def test_every_page_has_its_row(ray: list[str], fake: FakeChat, pdf: Callable[..., Path], tmp_path: Path) -> None:
    endpoint = Endpoint(url=fake.url, model="fake", deadline_s=5.0, key="sk-secret")
    reader = AtEndpoint(endpoint=endpoint, settings=PromptSettings(longest_px=64, instruction="", max_tokens=9))
    pdfs = [pdf("a.pdf", 3), pdf("b.pdf", 2)]
    assert transcribe_files(pdfs, OnRay(reader=reader, address="auto", workers=2), tmp_path / "out") == []
    rows = [json.loads(line) for line in (tmp_path / "out/pages.jsonl").read_text().splitlines()]
    assert len({(row["pdf"], row["page"]) for row in rows}) == len(rows) == 5
    assert ray == ["auto", "shutdown"]
    transcribe_files(pdfs, reader, tmp_path / "alone")
    assert (tmp_path / "out/a.md").read_text() == (tmp_path / "alone/a.md").read_text()


def test_the_extra_is_named() -> None:
    assert "ray" in extras.modules()
