"""Rewards for verl: a custom reward function, and one for its reward manager `batch`.

    reward.custom_reward_function.path=pkg://ocr_rl.interop.verl
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.spec=nano_grpo

A row's `reward_model.ground_truth` is the page's reference (or null), and `extra_info` holds `tests` and `id`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ocr_rl.api import MixScore
from ocr_rl.contract import UserError
from ocr_rl.interop.rows import Spec, in_step, mix_of, score_rows, transcript_of
from ocr_rl.pages.hub.exported import Asking, page_rows
from ocr_rl.pages.hub.parquet import Columns, write_table
from ocr_rl.pages.raster import PageError

Scores = dict[str, float]
COLUMNS: Columns = {
    "data_source": "text",
    "prompt": "messages",
    "images": "images",
    "ability": "text",
    "reward_model": {"style": "text", "ground_truth": "text"},
    "extra_info": {"tests": "text", "id": "text"},
}


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | None,
    extra_info: Mapping[str, Any] | None = None,
    *,
    spec: Spec = "nano_grpo",
    **_: Any,
) -> Scores:
    """The score of one response: {"score": ..., and each reward of the mix by its name}.

    A reward that does not apply to the page is NaN, for verl wants the same keys of every row. `spec` is as in
    `ocr_rl.load_rewards`. A response has no siblings here: for rewards that compare them (`medoid`) take
    `compute_scores`. UserError for a row that cannot be scored.
    """
    return compute_scores([data_source], [solution_str], [ground_truth], [extra_info], spec=spec)[0]


def compute_scores(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[str | None],
    extra_infos: Sequence[Mapping[str, Any] | None],
    *,
    spec: Spec = "nano_grpo",
    **_: Any,
) -> list[Scores]:
    """The scores of a batch, as `compute_score` gives them, for verl's BatchRewardManager: siblings see each other."""
    names = [reward.name for reward in mix_of(spec).rewards]
    number = len(in_step("solution_strs", solution_strs))
    truths, infos = in_step("ground_truths", ground_truths, number), in_step("extra_infos", extra_infos, number)
    rows = [_row(truth, info) for truth, info in zip(truths, infos, strict=True)]
    scores = score_rows(spec, rows, [transcript_of(text) for text in solution_strs])
    return [_plain(score, names) for score in scores]


def verl_row(fields: Mapping[str, Any], prompt: Any, images: Sequence[Any] = ()) -> dict[str, Any]:
    """A row as verl's parquet files hold it, from one with the columns `tests`, `reference` and `id`."""
    return {
        "data_source": "ocr",
        "prompt": prompt,
        "images": list(images),
        "ability": "ocr",
        "reward_model": {"style": "rule", "ground_truth": fields.get("reference")},
        "extra_info": {"tests": fields.get("tests"), "id": fields.get("id")},
    }


def export_pages(data: Path, out: Path, ask: Asking) -> tuple[int, list[PageError]]:
    """A dataset's pages as a table for verl. The number of rows, and the pages that cannot be drawn."""
    refused: list[PageError] = []
    prompt = [{"role": "user", "content": f"<image>{ask.instruction}"}]  # the mark says where verl puts the image
    rows = (verl_row(row, prompt, [row["image"]]) for row in page_rows(data, ask, refused))
    return write_table(out, rows, COLUMNS), refused


def _row(truth: str | None, info: Mapping[str, Any] | None) -> dict[str, Any]:
    info = {} if info is None else info
    if not isinstance(info, Mapping):
        raise UserError(
            f"extra_info is {type(info).__name__}; give the row's object with `tests` and `id`, not its text."
        )
    return {"tests": info.get("tests"), "reference": truth, "id": info.get("id")}


def _plain(score: MixScore, names: Sequence[str]) -> Scores:
    return {"score": score.reward, **{name: score.parts.get(name, math.nan) for name in names}}
