"""Weights to vLLM's server: seconds of a load by a file and by vLLM's own transfer, and whether both are one.

On one GPU learner and server share it, and memory is handed over by CUDA IPC; where there are two, the server has the
second one, and NCCL is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.engine import NOT_INSTALLED
from benchmarks.gpu.policies import Load, drawn_pages, random_model, write_policy
from benchmarks.gpu.update import timed
from benchmarks.speed.serving import free_port
from ocr_rl import config
from ocr_rl.learn.network import named_weights
from ocr_rl.policy import open_origin
from ocr_rl.rollout.sampler import vllm_transfer
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler

LOADS = 3


def weights(shape: str, load: Load, work: Path) -> dict[str, Any]:
    """Of a random policy of that shape, in bfloat16."""
    if find_spec("vllm") is None:
        return NOT_INSTALLED
    if not torch.cuda.is_available():
        return {"not_run": "both ways but the file need CUDA"}
    path = write_policy(shape, work / shape, load)
    model = random_model(path, dtype="bfloat16")
    model.save_pretrained(path)
    origin = open_origin(config.Policy(path=path, dtype="bfloat16"), path)
    longest = origin.settings.max_prompt_tokens + 32
    asked = [(page, origin.prompter.prompt(page)) for page in drawn_pages(work, 1)]
    backend = "nccl" if torch.cuda.device_count() > 1 else "ipc"
    found: dict[str, Any] = {"shape": shape, "gib": sum(w.nbytes for _, w in named_weights(model)) / 2**30}
    said = {}
    with _serving(path, work, backend, longest) as url:
        for way in ("file", backend):
            settings = ServerSettings(url=url, max_model_len=longest, dtype="bfloat16", wait_s=300)
            tries = mock.patch.object(vllm_transfer, "TRIES", 0 if way == "file" else 1)
            with tries, closing(VllmServerSampler(path, origin.prompter, settings)) as sampler:
                act = partial(_load, sampler, model)
                found[f"{way}_s"] = [timed(act) for _ in range(LOADS)]
                if way != "file":
                    found |= {"backend": backend, "proven": sampler._servers[0].transfer.proven}
                (group,) = sampler.sample(asked, Sampling(temperature=0.0, max_tokens=16))
                said[way] = group.samples[0].token_ids
    return {**found, "same": said["file"] == said[backend]}


def _load(sampler: VllmServerSampler, model: Any) -> None:
    sampler.load(named_weights(model), 1)


@contextmanager
def _serving(path: str, work: Path, backend: str, longest: int) -> Iterator[str]:
    port = free_port()
    command = (
        f"-m vllm.entrypoints.openai.api_server --model {path} --host 127.0.0.1 --port {port} --dtype bfloat16 "
        f"--max-model-len {longest} --enable-scale-out --logprobs-mode processed_logprobs --generation-config vllm "
        "--gpu-memory-utilization 0.4 --enforce-eager --weight-transfer-config"
    )
    env = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_INSECURE_SERIALIZATION": "1", "VLLM_NO_USAGE_STATS": "1"}
    env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
    if backend == "nccl":
        env["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")[1]
    with (work / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, *command.split(), f'{{"backend": "{backend}"}}'],
            env={**os.environ, **env},
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)
