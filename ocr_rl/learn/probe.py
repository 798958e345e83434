"""Does the policy look at the page? Its loss on reference transcripts with the page, a blank page and another page."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ocr_rl.learn.learner import ImageOf, Learner
from ocr_rl.rollout.flow import Prompt, Row


def looks(learner: Learner, rows: Sequence[Row]) -> dict[str, float]:
    """Negative log-likelihood in nats per token: with the right page, a blank one, and the next row's page."""
    others = {id(row.prompt): rows[(i + 1) % len(rows)].prompt for i, row in enumerate(rows)}

    def blank(prompt: Prompt) -> Image.Image:
        return Image.new("RGB", learner.prompter.image(prompt).size, "white")

    def other(prompt: Prompt) -> Image.Image:
        return learner.prompter.image(others[id(prompt)]).resize(learner.prompter.image(prompt).size)

    return {
        "nll_page": _nll(learner, rows, None),
        "nll_blank": _nll(learner, rows, blank),
        "nll_other": _nll(learner, rows, other),
    }


def _nll(learner: Learner, rows: Sequence[Row], image: ImageOf | None) -> float:
    values = [value for row in learner.logprobs(rows, image=image) for value in row]
    return -sum(values) / len(values)
