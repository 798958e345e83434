"""A chat server and documents of a few tiny pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from ocr_rl.evaluate import chat, endpoint
from ocr_rl.pages import raster
from ocr_rl.pages.workers import Refusal
from ocr_rl.transcription import dropped
from tests.transcription.fake_chat import FakeChat


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeChat]:
    monkeypatch.setattr(chat, "FIRST_WAIT_S", 0.02)
    server = FakeChat()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def drawn_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are counted and drawn in this process, since a worker's start takes most of a small test."""
    for module in (endpoint, raster, dropped):
        monkeypatch.setattr(module, "guarded", here)


def here(function: Callable[[Any], Any], jobs: Iterable[Any], **_: object) -> Iterator[tuple[Any, Any]]:
    for job in jobs:
        try:
            yield job, function(job)
        except Refusal as refusal:
            yield job, refusal


@pytest.fixture
def pdf(tmp_path: Path) -> Callable[..., Path]:
    """Makes a PDF of that many pages, each with its own number."""

    def make(name: str, pages: int = 3) -> Path:
        images = [Image.new("RGB", (200, 100), "white") for _ in range(pages)]
        for number, image in enumerate(images, 1):
            ImageDraw.Draw(image).text((20, 40), f"{name} {number}", fill="black")
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        images[0].save(path, save_all=True, append_images=images[1:])
        return path

    return make
