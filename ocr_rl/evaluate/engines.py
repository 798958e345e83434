"""OCR engines as plug-ins of the group `ocr_rl.engines`: an image of a page in, Markdown out.

Pages are drawn and read in worker processes that may hang or crash: such a page comes back with its reason. Knows
nothing about single engines, tests or scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol, runtime_checkable

from PIL import Image

from ocr_rl.contract import Page, UserError
from ocr_rl.pages.raster import ImageRef, PageError, render
from ocr_rl.pages.workers import Refusal, guarded
from ocr_rl.plugins import ENGINES, configured, load

PAGE_TIMEOUT_S = 300.0
# Address space, most of it reserved and never used: a runtime for neural networks with its threads.
MEMORY_BYTES = 2**33


@runtime_checkable
class Engine(Protocol):
    """An engine plug-in: a frozen dataclass whose fields are its options.

    It is called in worker processes, one page at a time. It should use one thread, because pages are read in parallel.
    What it changes in what it read stands in `changes`, if it has such an attribute: a sentence each, which names the
    option that switches it off.
    """

    @property
    def longest_px(self) -> int:
        """Longest side of the image it wants to see."""
        ...

    def version(self) -> str:
        """Name and version, for the report. Raises UserError with the way out where its program is not installed."""
        ...

    def __call__(self, image: Image.Image, page: Page) -> str:
        """Markdown of a page (RGB image). `page` names the PDF and the page; it has no reference and no tests.

        Whatever it raises is the page's failure.
        """
        ...


@cache
def open_engine(spec: str) -> Engine:
    """The engine that `spec` names: "tesseract", "tesseract,languages=eng+deu" or "my_engine.py:MyEngine"."""
    name, *settings = spec.split(",")
    options: dict[str, str] = {}
    for setting in settings:
        option, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--engine {spec}: {setting!r} is no option; write NAME,option=value,option=value.")
        options[option.strip()] = value
    engine = configured(load(ENGINES, name), options, name)
    if not isinstance(engine, Engine):
        raise UserError(f"engine {name!r} needs longest_px, version() and __call__(image, page) -> Markdown.")
    return engine


def changes_of(engine: Engine) -> tuple[str, ...]:
    """What an engine says that it changes in what it read."""
    return tuple(map(str, getattr(engine, "changes", ())))


def read_pages(spec: str, pages: Sequence[Page], *, workers: int) -> Iterator[tuple[Page, str | Refusal]]:
    """The engine's text of each page, in page order; a Refusal gives the reason why there is none."""
    jobs = (Job(spec=spec, page=replace(page, reference=None, checks=(), tags=frozenset())) for page in pages)
    texts = guarded(engine_text, jobs, workers=workers, timeout_s=PAGE_TIMEOUT_S, memory_bytes=MEMORY_BYTES)
    for page, (_, text) in zip(pages, texts, strict=True):
        yield page, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    spec: str  # not the engine: one from a file could not be unpickled in a fresh process
    page: Page


def engine_text(job: Job) -> str:
    engine = open_engine(job.spec)
    try:
        image = render(ImageRef(pdf=job.page.pdf, number=job.page.number, longest_px=engine.longest_px))
    except PageError as error:
        raise Refusal(error.reason) from None
    text = engine(image, job.page)
    if not isinstance(text, str):
        raise Refusal(f"the engine gave {type(text).__name__} instead of text")
    return text
