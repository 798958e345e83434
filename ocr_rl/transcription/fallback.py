"""The text that a PDF itself holds, for a page that a policy could not read: taken by choice, and marked in the row."""

from __future__ import annotations

from ocr_rl.contract import Page
from ocr_rl.evaluate.engines import PAGE_TIMEOUT_S, Job, engine_text
from ocr_rl.pages.workers import Pool, Refusal


class LayerTexts:
    """A worker that reads text layers, started when the first one is wanted. Leaving a `with` block ends it."""

    def __init__(self) -> None:
        self._pool = Pool(engine_text, workers=1, timeout_s=PAGE_TIMEOUT_S)

    def __enter__(self) -> LayerTexts:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def text(self, page: Page) -> str:
        """The page's own text; "" where it has none or cannot be opened."""
        ((_, text),) = self._pool.run([Job(spec="text_layer", page=page)])
        return "" if isinstance(text, Refusal) else text.strip()
