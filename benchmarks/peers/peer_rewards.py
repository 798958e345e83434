"""TRL's half of `benchmarks.peers.rewards`: GRPOTrainer with our mix as its reward function, run by TRL's Python.

Reads what `benchmarks.peers.rewards` asks as JSON from stdin, writes {"versions", "steps", "calls"}: the texts and the
rewards of every call of the reward function.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


def run(asked: dict[str, Any]) -> dict[str, Any]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # CPU torch beside PyPI's torchvision: the file is on its own, the package around it is not imported.
    runpy.run_path(str(Path(__file__).parents[2] / "ocr_rl" / "torchvision_shim.py"))["declare"]()
    import datasets  # pyright: ignore
    import torch
    import trl  # pyright: ignore
    from trl import GRPOConfig, GRPOTrainer  # pyright: ignore

    from ocr_rl.interop.trl import reward_funcs

    calls: list[dict[str, Any]] = []
    (mix,) = reward_funcs(asked["recipe"], eos_ids=[asked["eos_id"]])

    def recorded(**batch: Any) -> list[float]:
        rewards = list(mix(**batch))
        texts = [completion[0]["content"] for completion in batch["completions"]]
        calls.append({"ids": batch["id"], "texts": texts, "tokens": batch["completion_ids"], "rewards": rewards})
        return rewards  # type: ignore[return-value]

    recorded.__name__ = mix.__name__  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            max_steps=asked["steps"],
            per_device_train_batch_size=asked["samples"] * asked["pages_per_step"],
            num_generations=asked["samples"],
            max_completion_length=128,
            generation_kwargs={"suppress_tokens": asked["banned_ids"]},
            learning_rate=1e-5,
            model_init_kwargs={"dtype": "float32"},
        )
        columns = {name: [row[name] for row in asked["rows"]] for name in asked["rows"][0]}
        columns["prompt"] = [[{"role": "user", "content": ""}]] * len(asked["rows"])
        pages = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
        trainer = GRPOTrainer(model=asked["model"], reward_funcs=recorded, args=args, train_dataset=pages)
        trainer.train()
        logged = [line for line in trainer.state.log_history if f"rewards/{mix.__name__}/mean" in line]  # type: ignore
        print(json.dumps(logged), file=sys.stderr)
    versions = {module.__name__: module.__version__ for module in (trl, torch)}
    return {"versions": versions, "steps": trainer.state.global_step, "calls": calls}


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        answer = run(json.load(sys.stdin))
    json.dump(answer, sys.stdout)
