"""What does it cost to keep a trained policy in bfloat16?

    python -m benchmarks.policy.rounding RUN [RUN ...] [--set new]

Reads the held-out pages of finished runs with the last checkpoint as it was kept, and with its weights rounded to
bfloat16; the engine computes in float32 both times. A run whose weights are in bfloat16 already gives the same twice.
Prints the tests passed, and the paired difference: 95 % intervals by bootstrap over pages, all runs of a page together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.evaluate.figures import compare, summary
from ocr_rl.evaluate.results import PageResult
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.learn.network import named_weights
from ocr_rl.models.load import Dtype, load_model
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_learning_origin, open_sampler
from ocr_rl.run import Run, read_json
from ocr_rl.study.findings import points
from ocr_rl.train import evaluate_policy

DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16")  # as kept, and rounded


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--set", default="new", help="of the recipe's evaluation sets")
    args = parser.parse_args(arguments)
    results = [read(run, args.set, repeat=k) for k, run in enumerate(args.runs, 1)]
    rows = [[str(run), *_cells(kept, rounded)] for run, (kept, rounded) in zip(args.runs, results, strict=True)]
    every = [[row for pair in results for row in pair[k]] for k in range(len(DTYPES))]
    print(to_markdown_table(["run", "as kept, %", "in bfloat16, %", "difference"], [*rows, ["all", *_cells(*every)]]))
    return 0


def read(run: Path, name: str, *, repeat: int) -> list[list[PageResult]]:
    """The pages as the last policy of a run reads them, as kept and rounded. UserError where it has none."""
    recipe = config.Recipe.model_validate(read_json(run / "config.json"))
    checkpoints, evaluation = Run(run).checkpoints(), recipe.evaluation
    if not checkpoints or evaluation is None or name not in evaluation.sets:
        raise UserError(f"{run}: has no checkpoint, or no evaluation set {name!r}; name a finished run.")
    model = str(checkpoints[-1] / "model")
    origin = open_learning_origin(recipe, model)
    sampling = recipe.sampling.model_copy(update={"dtype": "float32", "engine": "vllm"})
    with (
        TemporaryDirectory() as folder,
        closing(open_sampler(sampling, origin, recipe.policy)) as sampler,
    ):
        pages = open_pages(evaluation.sets[name], Path(folder))
        results = []
        for n, dtype in enumerate(DTYPES, 1):
            sampler.load(named_weights(load_model(model, dtype=dtype).float()), n)
            rows = evaluate_policy(sampler, origin.prompter, pages, max_tokens=evaluation.max_tokens)
            results.append([replace(row, repeat=repeat) for row in rows])
    return results


def _cells(kept: Sequence[PageResult], rounded: Sequence[PageResult]) -> list[str]:
    levels = [f"{summary(rows).metrics['pass_rate'].mean:.1%}" for rows in (kept, rounded)]
    return [*levels, points(compare(kept, rounded).metrics["pass_rate"].difference)]


if __name__ == "__main__":
    sys.exit(main())
