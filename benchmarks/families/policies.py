"""What is measured of a family: a policy whose random weights depend on what it reads, pages, what is plainly so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.network import save_model
from ocr_rl.models.family import Family
from ocr_rl.models.fresh import SETTINGS, new_policy
from ocr_rl.models.load import load_model
from ocr_rl.models.settings import PromptSettings, write_settings
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Origin, Prompter, load_prompter

LONGEST_PX = 160
TEXTS = ("Page 1", "a longer line of text, which ends late", "?", "<td>3</td>")
TEMPERATURE = 0.7


def loud_policy(folder: Path, family: Family) -> Path:
    """A policy in `folder/loud`: weights three times as large as fresh ones, which say nearly the same of any page."""
    fresh, loud = folder / "fresh", folder / "loud"
    new_policy(fresh, 0, family.model_type)
    save_loud(fresh, loud)
    write_settings(loud, SETTINGS)
    return loud


def save_loud(fresh: Path, loud: Path) -> None:
    """The policy of one folder, in another one with matrices three times as large."""
    model = load_model(str(fresh))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3)
    save_model(model, loud, source=str(fresh))


def two_pages(folder: Path) -> list[Page]:
    """Of two shapes."""
    images = [Image.new("RGB", (400, height), "white") for height in (200, 400)]
    for number, image in enumerate(images, 1):
        ImageDraw.Draw(image).text((20, 40), f"Page {number}", fill="black", font=ImageFont.load_default(size=90))
    images[0].save(folder / "two.pdf", save_all=True, append_images=images[1:])
    return [Page(id=f"0a1b2c3d:p{n}", pdf=folder / "two.pdf", number=n, reference=f"Page {n}") for n in (1, 2)]


def origin_of(folder: Path) -> Origin:
    """The policy of a folder, asked for small pages."""
    prompter = load_prompter(folder, LONGEST_PX, instruction="Read.")
    return Origin(path=str(folder), settings=PromptSettings(), prompter=prompter)


def learner_of(origin: Origin, policy: dict[str, Any] | None = None, **optim: Any) -> Learner:
    return Learner(
        origin,
        config.Policy.model_validate({"path": origin.path, **(policy or {})}),
        config.Optim.model_validate({"lr": 1e-3, "max_grad_norm": 1e9, **optim}),
        steps=100,
        reference=False,
    )


def rows_of(pages: Sequence[Page], prompter: Prompter, samples: int = len(TEXTS)) -> list[Row]:
    """So many completions of each page; weights sum to 1 over the tokens."""
    texts = [TEXTS[k % len(TEXTS)] for k in range(samples)]
    written = [(*prompter.encode(text), prompter.eos_id) for text in texts]
    return [
        Row(
            prompt=prompter.prompt(page),
            completion_ids=ids,
            group_id=group,
            weight=1 / (len(pages) * len(written) * len(ids)),
            temperature=TEMPERATURE,
            banned_ids=prompter.banned_ids,
        )
        for group, page in enumerate(pages)
        for ids in written
    ]


def plain_logprobs(model: torch.nn.Module, prompter: Prompter, row: Row) -> Tensor:
    """One row as transformers itself computes it: no packing, no mask and no positions of ours."""
    ids = torch.tensor([[*row.prompt.expanded_ids, *row.completion_ids]])
    pixels, sizes = map(torch.from_numpy, prompter.pixels([prompter.image(row.prompt)]))
    logits_TV = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **prompter.family.generate_inputs(pixels, sizes, ids == prompter.image_id, 1),
    ).logits[0, len(row.prompt.expanded_ids) - 1 : -1]
    logits_TV = logits_TV / row.temperature
    logits_TV[:, list(row.banned_ids)] = -torch.inf
    return logits_TV.log_softmax(-1).gather(1, torch.tensor(row.completion_ids)[:, None])[:, 0]
