"""`ocr-rl soup`: an average of policies, kept only where it reads better than the best of its parts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ocr_rl import outputs
from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.figures import summary
from ocr_rl.evaluate.results import judge_page
from ocr_rl.evaluate.transcribe import transcribe
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.run import Run, damage


def soup(
    runs: Sequence[Path], out: Path, data: Path, *, engine: Literal["vllm", "transformers"]
) -> tuple[float, dict[str, float]]:
    """Pass rates on the pages of `data`, greedy and strict: of the average, and of each part by its folder.

    `out` is written only where the average is above all parts. Raises UserError for parts that cannot be averaged.
    """
    from ocr_rl.learn.soup import average

    if len(runs) < 2:
        raise UserError("soup: an average is of two policies at least; name another run or model folder.")
    if os.path.lexists(out):
        raise UserError(f"{out}: is there already; give another --out.")
    folders = [str(policy_of(run)) for run in runs]
    pages = [page for page in load_dataset(data) if page.checks]
    if not pages:
        raise UserError(f"{data}: no page has a test to choose by; give validation pages with tests.")
    aside = outputs.aside_of(out)
    try:
        with outputs.writing(out):
            average(folders, aside)
        parts = {folder: pass_rate(folder, pages, engine) for folder in folders}
        whole = pass_rate(str(aside), pages, engine)
        if whole > max(parts.values()):
            os.replace(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return whole, parts


def policy_of(path: Path) -> Path:
    """The model folder of a run's last checkpoint, or the model folder itself. UserError for any other folder."""
    if not (path / "ckpt").is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{path}: is neither a run nor a model's folder.")
        return path
    checkpoints = Run(path).checkpoints()
    if not checkpoints:
        raise UserError(f"{path}: holds no checkpoint yet; let the run save one.")
    if wrong := damage(checkpoints[-1], "model"):
        raise UserError(f"{checkpoints[-1]}: is damaged ({wrong}); name an older checkpoint's model folder.")
    return checkpoints[-1] / "model"


def pass_rate(model: str, pages: Sequence[Page], engine: Literal["vllm", "transformers"]) -> float:
    """Mean share of a page's tests that its greedy transcript passes, read strictly."""
    from ocr_rl.policy import open_policy

    rows = []
    with open_policy(model, engine=engine) as policy:
        limit = policy.settings.max_tokens
        results = transcribe(pages, policy.sampler, policy.prompter, max_tokens=limit, label="evaluating")
        for page, transcript in results:
            if not isinstance(transcript, Transcript):
                raise UserError(f"{transcript}; take the page out of the validation pages.")
            rows.append(judge_page(page, transcript, "strict"))
    return summary(rows, draws=10).metrics["pass_rate"].mean
