"""vLLM's own server for each family: what is sampled through it, before and after loads, against the learner.

    python -m benchmarks.families.server [--family qwen3_vl]

One server after the other, started as `ocr-rl serve` starts it and with what training asks of it besides
(docs/gpu.md), on policies of random weights. Gaps are the largest differences, in nats, to log-probabilities that
transformers computes row by row: with the weights that were sent (`start`, `new`, and `tower` where they differ in it
alone), and with those before them (`old`). Prompt ids that are not the learner's end it with an error. `read`: pages
that the server answers when asked as a chat. Prints JSON lines, and exits 1 where a gap is beyond its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.families.engine import TOKENS, Named, changed, gap, written
from benchmarks.families.policies import LONGEST_PX, loud_policy, origin_of, two_pages
from benchmarks.speed.serving import free_port
from ocr_rl.contract import Page
from ocr_rl.evaluate.endpoint_candidate import EndpointCandidate
from ocr_rl.evaluate.readers import Asking
from ocr_rl.models.families import FAMILIES
from ocr_rl.models.load import load_model
from ocr_rl.models.settings import PromptSettings, write_settings
from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler
from ocr_rl.transcription.serve import command, running
from ocr_rl.transcription.show import open_served

LIMIT = 1e-4
SETTINGS = PromptSettings(longest_px=LONGEST_PX, instruction="Read.", max_prompt_tokens=256, max_tokens=TOKENS)
TRAINING = ("--enable-scale-out", "--logprobs-mode=processed_logprobs", "--kv-cache-memory-bytes=134217728")
ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "OMP_NUM_THREADS": "1",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", action="append", choices=[family.model_type for family in FAMILIES])
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ |= ENVIRONMENT
    beyond = False
    for family in FAMILIES:
        if args.family and family.model_type not in args.family:
            continue
        with TemporaryDirectory() as scratch:
            folder, pages = loud_policy(Path(scratch), family), two_pages(Path(scratch))
            write_settings(folder, SETTINGS)
            figures = served(folder, pages, Path(scratch))
        print(json.dumps({"family": family.model_type, **figures}), flush=True)
        beyond |= max(figures[name] for name in ("start", "new", "tower")) > LIMIT or figures["read"] < len(pages)
    sys.exit(beyond)


def served(folder: Path, pages: Sequence[Page], scratch: Path) -> dict[str, Any]:
    """What a server of the policy shows."""
    (scratch / "room").mkdir()
    port = free_port()
    words = command(open_served(str(folder), None, scratch / "room"), host="127.0.0.1", port=port)
    started = time.perf_counter()
    with running([*words, *TRAINING], host="127.0.0.1", port=port) as (url, _, _):
        seconds = time.perf_counter() - started
        reader = EndpointCandidate(name="served", url=url, repeats=1, temperature=0.0, asking=Asking())
        read = [answer for answer in reader.answers({1: list(pages)}) if not answer.error]
        return {**sampled(url.removesuffix("/v1"), folder, pages), "read": len(read), "start_s": round(seconds, 1)}


def sampled(url: str, folder: Path, pages: Sequence[Page]) -> dict[str, float]:
    """Gaps of the recipe's sampler, at first and after two loads."""
    origin = origin_of(folder)
    model: Any = load_model(str(folder))
    longest = SETTINGS.max_prompt_tokens + SETTINGS.max_tokens
    sampler = VllmServerSampler(folder, origin.prompter, ServerSettings(url=url, max_model_len=longest))

    def apart(weights: Named) -> float:
        return gap(written(sampler, origin.prompter, pages), model, origin.prompter, weights)

    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    figures = {"start": apart(start)}
    everything = changed(model.state_dict(), lambda name: True, seed=1)
    sampler.load(iter(everything.items()), 1)
    figures |= {"old": apart(start), "new": apart(everything)}
    other_eyes = changed(model.state_dict(), origin.prompter.family.of_vision, seed=2)
    sampler.load(iter(other_eyes.items()), 2)
    figures["tower"] = apart(other_eyes)
    sampler.close()
    return figures


if __name__ == "__main__":
    main()
