"""Pages become prompts; one that cannot be drawn, or whose prompt is too long, costs itself alone.

Which pages a step sees stays a function of (seed, drawn): a page that is left out is not replaced here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tqdm import tqdm

from ocr_rl.contract import Page, UserError
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.flow import Prompt
from ocr_rl.rollout.prompt import Prompter


def ask(pages: Sequence[Page], prompter: Prompter, refused: dict[str, PageError]) -> list[tuple[Page, Prompt]]:
    """Pages with their prompts, in order, without those that have none.

    These go into `refused` by their id; one that is not there yet is printed with its reason.
    """
    prompts = []
    for page in pages:
        try:
            prompts.append((page, prompter.prompt(page)))
        except PageError as error:
            if page.id not in refused:
                tqdm.write(f"left out: {error}")
            refused[page.id] = error
    return prompts


def require_one(prompts: Sequence[tuple[Page, Prompt]], pages: Sequence[Page], refused: dict[str, PageError]) -> None:
    """UserError where none of a step's pages is left."""
    if not prompts:
        raise none_left(refused[pages[-1].id])


def none_left(last: PageError) -> UserError:
    """What is said where no page of a step can be learnt from; `last` is why the last one cannot."""
    return UserError(
        f"No page of a step is left to learn from; the last is {last}; take such pages out of the dataset and go on "
        "with --resume."
    )


def small_step(section: str, pages: int, wanted: int) -> str:
    """A line for people whose pages are too few for a step."""
    return (
        f"{section}: a step takes all {pages} pages, not pages_per_step = {wanted}, since none comes twice into a step."
    )


def with_left_out(figures: Mapping[str, float], n: int) -> dict[str, float]:
    """A step's figures with `undrawable` raised by n pages (or pairs) that were left out; absent where it is 0."""
    n += int(figures.get("undrawable", 0))
    return {**figures, "undrawable": n} if n else dict(figures)
