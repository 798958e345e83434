"""A small run's folder, as a run writes it: one page with two tests, two steps of three samples, two evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ocr_rl.look import judged, post_mortem
from ocr_rl.pages.raster import document_sha
from ocr_rl.rollout.token_trace import pack

TESTS = (
    {"pdf": "a.pdf", "page": 1, "id": "t1", "type": "present", "text": "Total due"},
    {"pdf": "a.pdf", "page": 1, "id": "t2", "type": "absent", "text": "nonsense"},
)
TEXTS = ("Total due", "Total dew nonsense", "what")
Write = Callable[..., Path]


class Here:
    """A pool that works in this process: a worker's start takes most of a small test."""

    def run(self, jobs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for job in jobs:
            yield job, judged.judge_bodies(job)

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def judged_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_mortem, "open_judges", lambda workers: Here())
    monkeypatch.setattr(post_mortem, "image_of", lambda page, longest_px: Image.new("RGB", (8, 8), "white"))


@pytest.fixture
def page_id(tmp_path: Path) -> str:
    (tmp_path / "data" / "pdfs").mkdir(parents=True)
    Image.new("RGB", (200, 100), "white").save(tmp_path / "data" / "pdfs" / "a.pdf")
    lines = "".join(json.dumps(test) + "\n" for test in TESTS)
    (tmp_path / "data" / "tests.jsonl").write_text(lines, encoding="utf-8")
    return f"{document_sha(tmp_path / 'data' / 'pdfs' / 'a.pdf')[:8]}:p1"


@pytest.fixture
def write_run(tmp_path: Path, page_id: str) -> Write:
    """`write_run()`: a finished run; `write_run(steps=9)`: one under way."""

    def write(steps: int = 2, recipe: dict[str, Any] | None = None) -> Path:
        run = tmp_path / "runs" / "first"
        (run / "groups").mkdir(parents=True)
        source = {"dir": str(tmp_path / "data")}
        begun = {
            "seed": 3,
            "policy": {"path": "nano"},
            "grpo": {"steps": steps, "pages": source},
            "rewards": [{"name": "pass_rate", "weight": 1.0}],
            "gates": [{"name": "repetition", "at_least": 0.7, "holds": None}],
            "evaluation": {"sets": {"new": source}, "every": 1},
        }
        (run / "config.json").write_text(json.dumps(recipe or begun), encoding="utf-8")
        for step in (1, 2):
            add_step(run, step, page_id)
        (run / "ckpt" / "000002").mkdir(parents=True)
        for step, passed in ((0, False), (2, True)):
            (run / "eval" / f"{step:06d}").mkdir(parents=True)
            write_evaluation(run / "eval" / f"{step:06d}" / "new.jsonl", page_id, passed)
        return run

    return write


def add_step(run: Path, step: int, page: str, **more: Any) -> None:
    (run / "groups" / f"{step:06d}.jsonl").write_text(json.dumps(group(page) | more) + "\n", encoding="utf-8")
    figures = {"step": step, "reward": 0.5 + step / 10, "rollout_s": 3.0, "update_s": 1.0, "generated": 100}
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(figures) + "\n")


def group(page: str) -> dict[str, Any]:
    """As `ocr_rl.learn.progress.group_row` has it; a gate holds the last sample back."""
    trace = pack(lengths=(5, 4, 0), sampler=(-0.1, -3.0, -0.0), learner=(-0.1, -3.1, 0.0), entropy=(0.5, 1.0, 0.0))
    samples = [{"text": text, "finish": "stop", "tokens": 3} for text in TEXTS]
    samples[0]["trace"] = trace
    return {
        "page": page,
        "best": {"reward": 1.0, "advantage": 1.2, "why": {"pass_rate": "2 of 2"}, "text": TEXTS[0]},
        "worst": {"reward": 0.0, "advantage": -1.0, "why": {"pass_rate": "1 of 2"}, "text": TEXTS[2]},
        "rewards": [1.0, 0.5, 0.0],
        "advantages": [1.2, -0.2, -1.0],
        "scores": {
            "pass_rate": {"values": [1.0, 0.0, 0.5], "parts": {"present": [1, 0, 0], "absent": [1, 0, 1]}},
            "repetition": {"values": [1.0, 1.0, 0.5]},
        },
        "samples": samples,
    }


def write_evaluation(path: Path, page: str, passed: bool) -> None:
    checks = [{"id": "t1", "type": "present", "passed": passed, "why": "" if passed else "not there"}]
    row = {"page": page, "checks": checks, "tags": [], "finish": "stop", "num_tokens": 4, "text": "Total"}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
