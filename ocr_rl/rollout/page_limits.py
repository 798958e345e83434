"""How long the samples of each page may be, where a recipe says so: a tail of run-ons does not hold the others up.

A page's samples end at `page_limit` times the tokens of its reference, or of its text layer where it has none, and
ALLOWANCE more, never above max_tokens: they are the samples that max_tokens gives, cut. A page with neither has no
limit of its own. The limits are known before the first step and kept in the run's folder, so that a run gone on with
has the same. It knows nothing about engines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tqdm import tqdm

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.pages.layer_texts import layer_texts
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.run import read_json, write_atomically

FILE = "page_limits.json"
ALLOWANCE = 64  # tokens: front matter has about 50, and a page of three words may well be misread as ten


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLengths:
    """Tokens of what pages are known to say, by page id."""

    references: Mapping[str, int]
    layers: Mapping[str, int]  # of pages without a reference
    unknown: int  # pages with neither

    def limits(self, factor: float, max_tokens: int) -> dict[str, int]:
        """By page id, of the pages whose limit is below max_tokens."""
        lengths = {**self.references, **self.layers}
        limits = {page: math.ceil(factor * tokens) + ALLOWANCE for page, tokens in lengths.items()}
        return {page: limit for page, limit in limits.items() if limit < max_tokens}


def page_limits(
    sampling: config.Sampling, folder: Path, pages: Sequence[Page], prompter: Prompter, *, begun: bool, workers: int
) -> dict[str, int]:
    """A recipe's limits by page id, none without `page_limit`; those in a run's folder where it has begun."""
    path = folder / FILE
    if sampling.page_limit is None:
        return {}
    if begun and path.exists():
        return _kept(path, {page.id for page in pages})
    lengths = page_lengths(pages, prompter, workers=workers)
    limits = lengths.limits(sampling.page_limit, sampling.max_tokens)
    print(_line(lengths, limits, sampling.max_tokens))
    write_atomically(path, json.dumps(limits, indent=0))
    return limits


def _kept(path: Path, pages: set[str]) -> dict[str, int]:
    limits = read_json(path)
    if odd := [page for page, limit in limits.items() if page not in pages or type(limit) is not int or limit < 1]:
        raise UserError(
            f"{path}: {odd[0]} is no page of this run with a number of tokens; put back what the run wrote."
        )
    return limits


def page_lengths(pages: Sequence[Page], prompter: Prompter, *, workers: int) -> PageLengths:
    """References are counted here, text layers are read by worker processes, a page once."""
    references = {page.id: prompter.count(page.reference) for page in pages if page.reference is not None}
    bare = [page for page in pages if page.reference is None]
    texts = layer_texts([(page.pdf, page.number) for page in bare], workers=workers)
    read = tqdm(zip(bare, texts, strict=True), desc="reading text layers", unit="page", total=len(bare), leave=False)
    layers = {page.id: prompter.count(text) for page, text in read if text is not None}
    return PageLengths(references=references, layers=layers, unknown=len(bare) - len(layers))


def _line(lengths: PageLengths, limits: Mapping[str, int], max_tokens: int) -> str:
    pages = len(lengths.references) + len(lengths.layers) + lengths.unknown
    known = f"{len(lengths.references)} by their reference, {len(lengths.layers)} by their text layer"
    below = f"below max_tokens ({max_tokens}) for {len(limits)} of them"
    middle = f", {median(limits.values()):.0f} tokens in the middle" if limits else ""
    return f"sampling.page_limit: of {pages} pages {known} have a limit of their own, {below}{middle}."
