"""`ocr-rl transcribe`: PDFs -> Markdown in page order. A page that cannot be drawn is named and skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

from ocr_rl import outputs
from ocr_rl.contract import Page, Transcript
from ocr_rl.evaluate.transcribe import RETRY_TEMPERATURES, transcribe
from ocr_rl.pages.raster import PageError, count_pages, distinct_stems, document_sha, long_name
from ocr_rl.policy import open_policy


def transcribe_files(
    pdfs: Sequence[Path],
    *,
    model: str,
    engine: Literal["vllm", "transformers"],
    out: Path | None,
    longest_px: int | None,
    preset: str | None = None,
    instruction: str | None = None,
) -> list[PageError]:
    """Write `<stem>.md` for each PDF below `out` (or print it) once its pages are done; return the refused pages.

    Front matter is left out, and a blank line separates pages. The second of several files with one stem is written as
    `<stem>-2.md`, and so on. A file named twice is read once. Raises UserError where `out` cannot be written, or such
    a file is there that ocr-rl did not write.
    """
    stems = distinct_stems(pdfs)
    long = {pdf: reason for pdf, stem in stems.items() if out and (reason := long_name(out, f"{stem}.md"))}
    refused, pages = pages_of(pdf for pdf in stems if pdf not in long)
    refused += [PageError(pdf, None, reason) for pdf, reason in long.items()]
    if not pages:
        return refused
    if out is not None:
        with outputs.writing(out):  # before the policy is loaded
            out.mkdir(parents=True, exist_ok=True)
    with open_policy(model, engine=engine, longest_px=longest_px, preset=preset, instruction=instruction) as policy:
        limit = policy.settings.max_tokens
        results = transcribe(pages, policy.sampler, policy.prompter, max_tokens=limit, retries=RETRY_TEMPERATURES)
        for pdf, of_pdf in groupby(results, key=lambda result: result[0].pdf):
            transcripts = [transcript for _, transcript in of_pdf]
            refused += [error for error in transcripts if isinstance(error, PageError)]
            bodies = [transcript.body for transcript in transcripts if isinstance(transcript, Transcript)]
            if bodies:
                _hand_over(stems[pdf], "\n\n".join(bodies) + "\n", out)
    return refused


def pages_of(pdfs: Iterable[Path]) -> tuple[list[PageError], list[Page]]:
    """Files that cannot be opened, and every page of the others, in order."""
    refused: list[PageError] = []
    pages: list[Page] = []
    copies: Counter[str] = Counter()
    for pdf, count in count_pages(pdfs):
        if isinstance(count, PageError):
            refused.append(count)
        else:
            sha = document_sha(pdf)[:8]
            copies[sha] += 1  # so that pages of copies have ids of their own, as in `load_dataset`
            document = sha if copies[sha] == 1 else f"{sha}-{copies[sha]}"
            pages += [Page(id=f"{document}:p{number}", pdf=pdf, number=number) for number in range(1, count + 1)]
    return refused, pages


def _hand_over(stem: str, text: str, out: Path | None) -> None:
    if out is None:
        print(text)
        return
    outputs.write(out / f"{stem}.md", text)
