"""Small datasets, and a sampler that writes what a script gives: for the tests of benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium

from ocr_rl.contract import Page
from ocr_rl.pages.raster import ImageRef, PageError
from ocr_rl.rollout.flow import Group, Prompt, Sample
from ocr_rl.rollout.sampler.base import Sampling

Script = Callable[[Page, Prompt, Sampling], str]  # a transcript; one that ends in "..." was cut off


def make_pdf(path: Path, num_pages: int, width_pt: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = pdfium.PdfDocument.new()
    for _ in range(num_pages):
        document.new_page(width_pt, 100)
    document.save(path)
    document.close()


def a_test(id: str, pdf: str, page: int = 1, **fields: Any) -> dict[str, Any]:
    return {"pdf": pdf, "page": page, "id": id, "type": "present", "text": "hello world"} | fields


def write(folder: Path, **texts: str) -> Path:
    """Transcripts by name without ".md"; "__" stands for a slash."""
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def whole(folder: Path, **more: str) -> Path:
    texts = {
        "a_pg1_repeat1": "hello world",
        "sub__b_pg1_repeat1": "some words",
        "sub__b_pg2_repeat1": "some words",
        "c_pg1_repeat1": "other words",
    }
    return write(folder, **(texts | more))


class FakePrompter:
    """One token a character; a page too odd to be drawn is refused."""

    banned_ids = ()

    def prompt(self, page: Page, rotation: int = 0) -> Prompt:
        if page.pdf.stem == "odd":
            raise PageError(page.pdf, page.number, "it is odd")
        image = ImageRef(pdf=page.pdf, number=page.number, longest_px=64, rotation=rotation)
        return Prompt(page_id=page.id, image=image, token_ids=(1,), expanded_ids=(1,))


class ScriptedSampler:
    """Writes what the script gives, and remembers its calls: (page number, temperature, rotation)."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls: list[tuple[int, float, int]] = []

    def sample(self, prompts: Sequence[tuple[Page, Prompt]], how: Sampling) -> Iterator[Group]:
        for page, prompt in reversed(prompts):  # out of order, as engines may
            self.calls.append((page.number, how.temperature, prompt.image.rotation))
            text = self.script(page, prompt, how)
            ids = tuple(range(len(text)))
            sample = Sample(
                token_ids=ids,
                logprobs=(0.0,) * len(ids),
                text=text,
                finish="length" if text.endswith("...") else "stop",
                policy=0,
            )
            yield Group(page=page, prompt=prompt, samples=(sample,), temperature=how.temperature, banned_ids=())
