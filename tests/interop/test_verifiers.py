"""The taskset with a stand-in that has the calls of verifiers 0.4. `benchmarks.peers.peer_verifiers` asks verifiers."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel

import ocr_rl
from ocr_rl.contract import UserError
from ocr_rl.interop.row_files import image_url, read_rows

A, B, C = TypeVar("A"), TypeVar("B"), TypeVar("C")
TESTS = '[{"type": "present", "text": "Pay the total"}]'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


class Message(BaseModel):
    content: Any = None
    image_url: Any = None
    text: str = ""
    url: str = ""


class Task(Generic[A, B, C]):
    def __init__(self, data: Any, config: Any) -> None:
        self.data, self.config = data, config


class Taskset(Generic[A, B]):
    def __init__(self, config: Any) -> None:
        self.config = config


class TaskData(BaseModel):
    id: str | None = None
    prompt: Any = None


class Trace(SimpleNamespace):
    def __init__(self, text: str, cut: bool = False) -> None:
        messages = [] if text is None else [Message(content=text)]
        super().__init__(assistant_messages=messages, is_truncated=cut, num_output_tokens=3, metrics={})

    def record_metrics(self, values: dict[str, float]) -> None:
        self.metrics.update(values)


@pytest.fixture
def interop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`ocr_rl.interop.verifiers` with the stand-in below it."""
    v1 = ModuleType("verifiers.v1")
    names = dict.fromkeys(("UserMessage", "ImageUrlContentPart", "ImageUrlSource", "TextContentPart"), Message)
    configs = dict.fromkeys(("TaskConfig", "TasksetConfig", "State"), BaseModel)
    vars(v1).update(names | configs, Task=Task, Taskset=Taskset, TaskData=TaskData, Trace=Trace, reward=lambda f: f)
    package = ModuleType("verifiers")
    vars(package).update(v1=v1)
    monkeypatch.setitem(sys.modules, "verifiers", package)
    monkeypatch.setitem(sys.modules, "verifiers.v1", v1)
    yield importlib.import_module("ocr_rl.interop.verifiers")
    sys.modules.pop("ocr_rl.interop.verifiers")


def tasks(interop: Any, folder: Path, spec: Any = "nano_grpo", **row: Any) -> list[Any]:
    (folder / "page.png").write_bytes(PNG)
    fields = {"id": "a", "tests": TESTS, "image": "page.png", **row}
    (folder / "rows.jsonl").write_text(json.dumps(fields) + "\n")
    config = interop.PagesConfig(rows=folder / "rows.jsonl", task=interop.PageTaskConfig(spec=spec))
    return list(interop.PagesTaskset(config).load())


def test_a_row_is_a_prompt_with_its_image_and_a_trace_gets_the_mix(interop: Any, tmp_path: Path) -> None:
    (task,) = tasks(interop, tmp_path)
    image, text = task.data.prompt[0].content
    assert image.image_url.url.startswith("data:image/png;base64,iVBOR") and text.text == interop.INSTRUCTION
    trace = Trace("Pay the totl\n")
    (ours,) = ocr_rl.load_rewards("nano_grpo").score(ocr_rl.make_page(TESTS), ["Pay the totl\n"])
    assert asyncio.run(task.ocr(trace)) == ours.reward
    assert trace.metrics == ours.parts


def test_a_row_may_have_its_tests_as_a_list_and_a_number_as_its_id(interop: Any, tmp_path: Path) -> None:
    (task,) = tasks(
        interop, tmp_path, id=0, tests=[*json.loads(TESTS), {"type": "absent", "text": "zzz", "first_n": None}]
    )
    assert task.data.id == "0"
    assert asyncio.run(task.ocr(Trace("Pay the total"))) == 1.0


def test_single_rewards_are_given_by_name_where_they_apply(interop: Any, tmp_path: Path) -> None:
    (task,) = tasks(interop, tmp_path, spec=["pass_degree", "cer", "eos"])
    assert asyncio.run(task.ocr(Trace("Pay the total"))) == {"pass_degree": 1.0, "eos": 1.0}
    assert asyncio.run(task.ocr(Trace("Pay the total", cut=True))) == {"pass_degree": 1.0, "eos": 0.0}


def test_wrong_rows_are_sentences_before_anything_is_sampled(interop: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row a: test 1"):
        tasks(interop, tmp_path, tests='[{"type": "presnt"}]')
    with pytest.raises(UserError, match="row a: the image none.png cannot be read"):
        tasks(interop, tmp_path, image="none.png")
    with pytest.raises(UserError, match="row a: its image is no PNG, JPEG or WebP"):
        tasks(interop, tmp_path, image=None)


def test_without_verifiers_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verifiers", None)
    monkeypatch.setitem(sys.modules, "verifiers.v1", None)
    sys.modules.pop("ocr_rl.interop.verifiers", None)
    with pytest.raises(UserError, match="verifiers 0.4, which is not installed"):
        importlib.import_module("ocr_rl.interop.verifiers")


def test_files_of_rows_that_are_none_are_sentences(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="bad.parquet: this is no parquet file"):
        list(read_rows(tmp_path / "bad.parquet"))
    with pytest.raises(UserError, match=r"row 7: the image no\\x00é.png cannot be read \(embedded null"):
        image_url({"id": 7, "image": "no\0é.png"}, tmp_path)
    assert image_url({"image": {"bytes": PNG}}, tmp_path) == image_url({"image": PNG}, tmp_path)
