"""`ocr-rl transcribe`: PDFs -> Markdown, page order kept, a page that cannot be drawn named and skipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.transcribe import RETRY_TEMPERATURES, transcribe
from ocr_rl.pages.raster import PageError, count_pages, document_sha
from ocr_rl.policy import open_policy


def transcribe_files(
    pdfs: Sequence[Path],
    *,
    model: str,
    engine: Literal["vllm", "transformers"],
    out: Path | None,
    longest_px: int | None,
) -> list[PageError]:
    """Write `<stem>.md` for each PDF below `out` (or print it); returns the pages that were refused.

    Front matter is left out; pages are separated by a blank line.
    """
    refused, pages = _pages(pdfs)
    texts: dict[Path, list[str]] = {pdf: [] for pdf in pdfs}
    if not pages:
        return refused
    with open_policy(model, engine=engine, longest_px=longest_px) as policy:
        limit = policy.settings.max_tokens
        for page, found in transcribe(
            pages, policy.sampler, policy.prompter, max_tokens=limit, retries=RETRY_TEMPERATURES
        ):
            if isinstance(found, Transcript):
                texts[page.pdf].append(found.body)
            else:
                refused.append(found)
    for pdf, bodies in texts.items():
        if bodies:
            _hand_over(pdf, "\n\n".join(bodies) + "\n", out)
    return refused


def _pages(pdfs: Sequence[Path]) -> tuple[list[PageError], list[Page]]:
    refused: list[PageError] = []
    pages: list[Page] = []
    for pdf, counted in count_pages(pdfs):
        if isinstance(counted, PageError):
            refused.append(counted)
        else:
            sha = document_sha(pdf)[:8]
            pages += [Page(id=f"{sha}:p{number}", pdf=pdf, number=number) for number in range(1, counted + 1)]
    return refused, pages


def _hand_over(pdf: Path, text: str, out: Path | None) -> None:
    if out is None:
        print(text)
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{pdf.stem}.md").write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{out}: transcripts cannot be written there ({error.strerror}).") from None
