"""A finished run of `nano_sft` becomes the embedded policy: bf16 weights, log, learning curve.

    python -m benchmarks.policy.ship runs/nano_sft data/nano

Refuses weights of more than 16 MB. The model card, data/nano/README.md, is written by hand from the figures of
`benchmarks.policy.reading`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from ocr_rl.contract import UserError
from ocr_rl.learn.network import save_model
from ocr_rl.models.known import read_settings
from ocr_rl.models.load import load_model
from ocr_rl.models.settings import write_settings
from ocr_rl.run import Run, write_atomically

LARGEST_FILE = 16 * 10**6
EVERY = 20  # of the log's steps, one is kept; those with an evaluation always are


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    try:
        ship(args.run, args.out)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def ship(folder: Path, out: Path) -> None:
    """Write the last checkpoint of the run in `folder` to `out`. Raises UserError without one, and for a large one."""
    checkpoints = Run(folder).checkpoints() if folder.is_dir() else []
    if not checkpoints:
        raise UserError(f"{folder}: holds no checkpoint; train with `make nano` first.")
    source = checkpoints[-1] / "model"
    out.mkdir(parents=True, exist_ok=True)
    save_model(load_model(str(source)), out, source=str(source), dtype="bfloat16")
    write_settings(out, read_settings(str(source)))
    for path in out.glob("*.safetensors"):
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(
                f"{path}: {path.stat().st_size:,} bytes, more than {LARGEST_FILE:,}; train a smaller shape."
            )
    metrics = Run(folder).metrics()
    kept = [row for row in metrics if row["step"] % EVERY == 0 or "nll_page" in row]
    write_atomically(out / "train.jsonl", "".join(json.dumps(_rounded(row)) + "\n" for row in kept))
    shutil.copy(folder / "config.json", out / "train_config.json")
    plot(metrics, out / "curve.png")


def plot(metrics: list[dict[str, Any]], path: Path) -> None:
    """Training loss by step, lessons shaded, and what the policy makes of the right, another and a blank page."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), dpi=110)
    axes.plot(
        [row["step"] for row in metrics], [row["loss"] for row in metrics], lw=0.6, color="#4477aa", label="lesson"
    )
    probed = [row for row in metrics if "nll_page" in row]
    for name, label, colour in (
        ("nll_page", "held-out page", "#228833"),
        ("nll_other", "another page", "#ee6677"),
        ("nll_blank", "blank page", "#bbbbbb"),
    ):
        axes.plot([row["step"] for row in probed], [row[name] for row in probed], "o-", color=colour, label=label)
    for stage in sorted({row["stage"] for row in metrics})[1:]:
        axes.axvline(min(row["step"] for row in metrics if row["stage"] == stage), color="#999999", lw=0.8, ls=":")
    axes.set(xlabel="step", ylabel="nats a token", ylim=(0, 4))
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in row.items()}


if __name__ == "__main__":
    main()
