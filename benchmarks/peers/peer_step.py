"""TRL's half of `benchmarks.peers.step`: GRPOTrainer with its transformers sampler, run by TRL's Python.

Reads its work as one JSON line from stdin and then takes a step for each line, which it answers with a JSON line.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, TextIO


def resident_mb(name: str = "VmRSS") -> float:
    """This process's resident memory; VmHWM is its peak since the last `reset_peak`. Linux only."""
    line = next(x for x in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if x.startswith(name))
    return int(line.split()[1]) / 1024


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def private_stdout() -> TextIO:
    """Where answers go; what else this process prints, C's libraries too, goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def run(asked: dict[str, Any], answers: TextIO) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # CPU torch beside PyPI's torchvision: the file is on its own, the package around it is not imported.
    runpy.run_path(str(Path(__file__).parents[2] / "ocr_rl" / "torchvision_shim.py"))["declare"]()
    import datasets  # pyright: ignore
    import torch
    import trl  # pyright: ignore
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer  # pyright: ignore

    samples, rows = asked["samples"], asked["samples"] * asked["pages_per_step"]
    versions = {module.__name__: module.__version__ for module in (trl, torch)}
    now: dict[str, Any] = {}

    class Timed(GRPOTrainer):
        def _generate(self, prompts: Any) -> Any:
            started = time.perf_counter()
            found = super()._generate(prompts)
            now["sample_s"] = time.perf_counter() - started
            now["tokens"] = sum(map(len, found[1]))
            now["prompt_ids"] = found[0][::samples]
            return found

        def _prepare_inputs(self, inputs: Any) -> Any:
            found = super()._prepare_inputs(inputs)
            reset_peak()
            now["update_from"], now["update_cpu"] = time.perf_counter(), time.process_time()
            return found

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            end, cpu, peak = time.perf_counter(), time.process_time(), resident_mb("VmHWM")
            figures = {
                "step_s": end - now["from"],
                "step_cpu_s": cpu - now["cpu"],
                "sample_s": now["sample_s"],
                "update_s": end - now["update_from"],
                "update_cpu_s": cpu - now["update_cpu"],
                "tokens": now["tokens"],
                "peak_mb": peak,
                "extra_mb": peak - now["before_mb"],
                "prompt_ids": now["prompt_ids"],
                "versions": versions,
            }
            print(json.dumps(figures), file=answers, flush=True)
            self.wait()

        def wait(self) -> None:
            """Until it is this side's turn: what lies between two turns is nobody's time."""
            sys.stdin.readline()
            now["from"], now["cpu"] = time.perf_counter(), time.process_time()

    banned = asked["banned_ids"]
    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            shuffle_dataset=False,
            max_steps=asked["steps"],
            per_device_train_batch_size=rows,
            num_generations=samples,
            max_completion_length=asked["max_tokens"],
            generation_kwargs={"suppress_tokens": banned},
            beta=asked["beta"],
            use_bias_correction_kl=False,
            loss_type="grpo",
            learning_rate=asked["lr"],
            lr_scheduler_type="constant",
            model_init_kwargs={"dtype": "float32"},
        )
        pages = datasets.Dataset.from_dict(
            {"prompt": [[{"role": "user", "content": ""}]] * len(asked["images"]), "image": asked["images"]}
        ).cast_column("image", datasets.Image())
        trainer = Timed(
            model=asked["model"],
            reward_funcs=lambda completions, **_: [k % samples / samples for k in range(len(completions))],
            args=args,
            train_dataset=pages,
            callbacks=[Clock()],
        )
        now["before_mb"] = resident_mb()
        trainer.train()


if __name__ == "__main__":
    to = private_stdout()
    run(json.loads(sys.stdin.readline()), to)
