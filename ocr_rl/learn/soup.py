"""Souping: the average of several policies' weights (Wortsman et al. 2022, arXiv 2203.05482; olmOCR averaged six runs).

Knows nothing about whether the average reads better; `ocr_rl.evaluate.soup` asks that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ocr_rl.contract import UserError
from ocr_rl.learn.network import save_model
from ocr_rl.models.known import read_settings
from ocr_rl.models.load import load_config, load_model
from ocr_rl.models.settings import write_settings


def average(folders: Sequence[str], out: Path) -> None:
    """Write the mean of the policies' weights, computed in float32, as an ordinary Hugging Face folder.

    In bfloat16 where all parts are stored so, in float32 otherwise. Two models are in memory at a time. Raises
    UserError where the parts differ in anything but weights: shapes, tokenizer, or how they want to be asked.
    """
    for other in folders[1:]:
        require_alike(folders[0], other)
    sixteen = all(load_config(folder).dtype == torch.bfloat16 for folder in folders)
    soup = load_model(folders[0], dtype="float32")
    weights = soup.state_dict()
    with torch.no_grad():
        for weight in _distinct(weights):
            weight.div_(len(folders))
        for folder in folders[1:]:
            part = load_model(folder, dtype="float32").state_dict()
            _require_shapes(weights, part, folders[0], folder)
            for weight, more in zip(_distinct(weights), _distinct(part), strict=True):
                weight.add_(more, alpha=1 / len(folders))
    save_model(soup, out, source=folders[0], dtype="bfloat16" if sixteen else "float32")
    write_settings(out, read_settings(folders[0]))


def require_alike(first: str, other: str) -> None:
    """UserError where two policies read tokens or pages in different ways."""
    from transformers import AutoTokenizer

    if AutoTokenizer.from_pretrained(first).get_vocab() != AutoTokenizer.from_pretrained(other).get_vocab():
        raise UserError(f"{other}: its tokenizer is not that of {first}; average policies that began as one.")
    if read_settings(first) != read_settings(other):
        raise UserError(
            f"{other}: its ocr_rl.json (image size, instruction, lengths) is not that of {first}; make them the same."
        )


def _require_shapes(weights: dict[str, torch.Tensor], part: dict[str, torch.Tensor], first: str, other: str) -> None:
    shapes, others = ({name: tuple(w.shape) for name, w in named.items()} for named in (weights, part))
    for name in sorted({*shapes, *others}):
        if shapes.get(name) != others.get(name):
            raise UserError(
                f"{other}: {name} has the shape {others.get(name)}, in {first} it is {shapes.get(name)}; average "
                "policies that began as one."
            )


def _distinct(weights: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Each tensor once, in the order of names: a tied head is the embedding again."""
    return list({weight.data_ptr(): weight for _, weight in sorted(weights.items())}.values())
