"""The published shapes of Qwen2.5-VL, not only the tiny one: one GRPO update from end to end, saved and read back.

    python -m benchmarks.policy.shapes --out runs/shapes

Random weights in the published 3B and 7B configurations cut to two layers each side (whole width, whole vocabulary,
tied and untied heads), pages at 1288 px. vLLM samples, `pass_rate` and others score, one update, save; then vLLM and
transformers load the saved folder and must give the same log-probabilities for what vLLM sampled. The 7B shape is
trained by LoRA, so that 24 GB are enough. Prints JSON lines; exits 1 when a gap is too large.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ocr_rl.config import Recipe
from ocr_rl.doctor import GAP_LIMIT, parity
from ocr_rl.models.families.qwen2_5_vl import Qwen2_5Vl
from ocr_rl.models.family import Sizes
from ocr_rl.models.fresh import write_fresh
from ocr_rl.models.settings import PromptSettings
from ocr_rl.run import environment
from ocr_rl.train import train

_VISION = {
    **Qwen2_5Vl.nano.vision,
    "depth": 2,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [1],  # one layer with windows, one without, as in the published tower
}
_TEXT: dict[str, Any] = {
    "num_hidden_layers": 2,
    "max_position_embeddings": 128000,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]},
}
SHAPES: dict[str, Sizes] = {
    "3B": Sizes(
        vision=_VISION | {"out_hidden_size": 2048},
        text=_TEXT
        | {
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
        },
        max_patches=16384,
    ),
    "7B": Sizes(
        tied=False,
        vision=_VISION | {"out_hidden_size": 3584},
        text=_TEXT
        | {
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        },
        max_patches=16384,
    ),
}
LORA_RANK = {"3B": 0, "7B": 16}
MAX_TOKENS = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/shapes"))
    parser.add_argument("--shape", choices=SHAPES, nargs="+", default=list(SHAPES))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--phase", choices=("update", "reload"), help="one phase of one shape, in this process")
    args = parser.parse_args()
    if args.phase:
        phase = update if args.phase == "update" else reload
        print(json.dumps(phase(args.shape[0], args.out, args.dtype)))
        return
    gaps = []
    print(json.dumps({"env": environment()}))
    for shape in args.shape:
        for name in ("update", "reload"):  # a process each: its memory is the machine's again when it ends
            command = [sys.executable, "-m", "benchmarks.policy.shapes", "--phase", name, "--shape", shape]
            command += ["--out", str(args.out / shape), "--dtype", args.dtype]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
            said = done.stdout.splitlines()[-1]
            print(said, flush=True)
            gaps.append(json.loads(said)["gap"])
    if args.dtype == "float32" and max(gaps) > GAP_LIMIT:
        sys.exit(f"largest gap {max(gaps):.1e} nats, allowed are {GAP_LIMIT:.0e}")


def update(shape: str, out: Path, dtype: str) -> dict[str, Any]:
    """Sample, score, update, save."""
    for old in (out / "start", out / "run"):  # of an earlier bench
        shutil.rmtree(old, ignore_errors=True)
    start = out / "start"
    start.mkdir(parents=True, exist_ok=True)
    settings = PromptSettings(max_prompt_tokens=2600, max_tokens=MAX_TOKENS)
    write_fresh(start, 0, Qwen2_5Vl(), SHAPES[shape], settings)
    recipe = Recipe.model_validate(
        {
            "policy": {"path": str(start), "dtype": dtype, "lora_rank": LORA_RANK[shape]},
            "optim": {"lr": 1e-5, "micro_tokens": 4096},
            "sampling": {"max_tokens": MAX_TOKENS, "max_model_len": 2700},
            "scoring": {"audit": False},  # one update of random weights: nothing that cheats could spoil
            "grpo": {
                "pages": {"synth": "report", "n": 4, "seed": 1},
                "steps": 1,
                "pages_per_step": 1,
                "samples_per_page": 4,
                "advantage": "centred",
            },
            # Random weights pass no test: how much of the reference is hit gives the update something to follow.
            "rewards": [{"name": "pass_rate"}, {"name": "diff_ratio"}],
        }
    )
    started = time.perf_counter()
    train(recipe, out / "run")
    row = json.loads((out / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    shown = ("gap_max", "reward", "length", "grad_norm", "rollout_s", "update_s")
    return {
        "shape": shape,
        "phase": "update",
        "lora_rank": LORA_RANK[shape],
        "dtype": dtype,
        "gap": row["gap_max"],
        "seconds": round(time.perf_counter() - started, 1),
        **{name: row[name] for name in shown if name in row},
    }


def reload(shape: str, out: Path, dtype: str) -> dict[str, Any]:
    """vLLM and transformers, each from the saved folder, on the same sampled tokens."""
    folder = str(out / "run" / "ckpt" / "000001" / "model")
    found = parity(folder, temperature=1.0, max_tokens=MAX_TOKENS, pages=1, changed=False)
    return {"shape": shape, "phase": "reload", "dtype": dtype, "tokens": found.tokens, "gap": found.largest}


if __name__ == "__main__":
    main()
