"""Two real samplers that a test may load weights into, and plain log-probabilities to hold them against."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from benchmarks.speed.serving import free_port
from ocr_rl.contract import Page
from ocr_rl.rollout.flow import Group, Prompt
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling
from ocr_rl.rollout.sampler.hf import HfSampler

Weights = list[tuple[str, torch.Tensor]]
HOW = Sampling(n=3, temperature=0.7, max_tokens=24, seed=5)


@pytest.fixture(scope="module")
def model(nano_dir: Path) -> torch.nn.Module:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(nano_dir).eval()


@pytest.fixture(scope="module")
def hf_sampler(nano_dir: Path, prompter: Prompter) -> HfSampler:
    return HfSampler(nano_dir, prompter, max_rows=8)


@pytest.fixture(params=["hf", "vllm"])
def real(request: pytest.FixtureRequest, model: torch.nn.Module) -> Iterator[Sampler]:
    """A sampler that a test may load weights into."""
    sampler = request.getfixturevalue(f"{request.param}_sampler")
    yield sampler
    sampler.load(weights_of(model), 0)


@pytest.fixture(scope="module")
def asked(tiny_pages: list[Page], prompter: Prompter) -> list[tuple[Page, Prompt]]:
    return [(page, prompter.prompt(page)) for page in tiny_pages]


@contextmanager
def serving(model: Path, work: Path, *flags: str, **env: str) -> Iterator[str]:
    """The URL of vLLM's own server on a free port of this machine; it has perhaps not started yet."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    port = free_port()
    common = (
        f"--model {model} --host 127.0.0.1 --port {port} --dtype float32 --max-model-len 256 --max-num-seqs 64 "
        "--enable-scale-out --logprobs-mode processed_logprobs --enforce-eager --no-enable-chunked-prefill "
        "--kv-cache-memory-bytes 268435456 --enable-lora --max-lora-rank 8 --enable-tower-connector-lora"
    )
    # This process has asked for an engine without processes of its own; a server is nothing else.
    settings = {
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    quiet = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    with open(work / "log.txt", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *common.split(), *flags],
            env={**os.environ, **settings, **quiet, **env},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def weights_of(model: torch.nn.Module) -> Weights:
    return [(name, weight.clone()) for name, weight in model.state_dict().items()]


def changed(model: torch.nn.Module, part: str, by: float) -> Weights:
    """The model's weights with noise on those whose name contains `part`, but for the embeddings: the head is tied."""
    torch.manual_seed(1)
    noisy = lambda name: part in name and "embed_tokens" not in name
    return [
        (name, weight + by * torch.randn_like(weight) if noisy(name) else weight.clone())
        for name, weight in model.state_dict().items()
    ]


def in_order(sampler: Sampler, asked: list[tuple[Page, Prompt]], how: Sampling) -> list[Group]:
    return sorted(sampler.sample(asked, how), key=lambda group: group.page.number)


def written(groups: list[Group]) -> list[tuple[int, ...]]:
    return [sample.token_ids for group in groups for sample in group.samples]


def gap(groups: list[Group], weights: Weights, model: torch.nn.Module, prompter: Prompter) -> float:
    """Largest difference to log-probabilities computed plainly: one sequence at a time, no cache, no padding."""
    kept = weights_of(model)
    model.load_state_dict(dict(weights))
    largest = 0.0
    for group in groups:
        pixels, grid = map(torch.from_numpy, prompter.pixels([prompter.image(group.prompt)]))
        for sample in group.samples:
            ids = torch.tensor([[*group.prompt.expanded_ids, *sample.token_ids]])
            with torch.no_grad():
                logits = model(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    mm_token_type_ids=(ids == prompter.image_id).int(),
                    pixel_values=pixels,
                    image_grid_thw=grid,
                ).logits[0, len(group.prompt.expanded_ids) - 1 : -1]
            logits[:, list(group.banned_ids)] = -torch.inf
            logprobs = (logits / (group.temperature or 1.0)).log_softmax(-1)
            expected = logprobs.gather(1, torch.tensor(sample.token_ids)[:, None])[:, 0]
            largest = max(largest, float((expected - torch.tensor(sample.logprobs)).abs().max()))
    model.load_state_dict(dict(kept))
    return largest
