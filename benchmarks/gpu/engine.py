"""vLLM beside the learner, where it is installed: how long it starts and loads, what sleep gives back, and parity."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.policies import Load, drawn_pages, random_model, write_policy
from benchmarks.gpu.update import timed
from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.doctor import Dtype, Parity, parity
from ocr_rl.learn.memory import GIB
from ocr_rl.learn.network import named_weights
from ocr_rl.models.load import model_folder
from ocr_rl.policy import open_origin
from ocr_rl.rollout.flow import Prompt, Sample
from ocr_rl.rollout.sampler.base import Sampling

NOT_INSTALLED = {"not_run": "vLLM is not installed"}


def gaps(dtypes: list[Dtype], engine: str, *, pages: int, max_tokens: int) -> dict[str, Any]:
    """`ocr-rl doctor --parity nano` in each dtype, its bound and the bound's reason."""
    cases = [
        _gap(parity("nano", dtype=dtype, engine=engine, pages=pages, max_tokens=max_tokens))  # type: ignore[arg-type]
        for dtype in dtypes
    ]
    return {"engine": engine, "holds": all(case["holds"] for case in cases), "cases": cases}


def vllm(shape: str, load: Load, dtypes: list[Dtype], *, pages: int, max_tokens: int, work: Path) -> dict[str, Any]:
    """Parity of the embedded policy; then start, loads and sleep of a random policy of that shape."""
    if find_spec("vllm") is None:
        return NOT_INSTALLED
    answer = gaps(dtypes, "vllm", pages=pages, max_tokens=max_tokens)
    return {**answer, **_loads(shape, load, work)}


def _gap(measured: Parity) -> dict[str, Any]:
    figures = {
        name: getattr(measured, name) for name in ("dtype", "tokens", "largest", "mean", "gap", "limit", "holds")
    }
    return {**figures, "text": measured.to_text()}


def _loads(shape: str, load: Load, work: Path) -> dict[str, Any]:
    """Seconds of the start and of two loads; `sampling.sleep`, and whether the engine says the same after it."""
    from ocr_rl.rollout.sampler.vllm.engine import EngineSettings, VllmSampler

    path = write_policy(shape, work / shape, load) if shape != "nano" else model_folder("nano")
    dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    policy = config.Policy(path=path, dtype=dtype)
    origin = open_origin(policy, path)
    model = random_model(path, dtype=dtype)
    started = time.perf_counter()
    with _ready_to_sleep():
        settings = EngineSettings(dtype=dtype, max_model_len=origin.settings.max_prompt_tokens + 32, max_num_seqs=64)
        sampler = VllmSampler(path, origin.prompter, settings)
    found: dict[str, Any] = {"shape": shape, "start_s": time.perf_counter() - started}
    try:
        found["load_s"] = [timed(lambda: sampler.load(named_weights(model), 1)) for _ in range(2)]
        asked = _asked(origin, work)
        before = _said(sampler, asked)
        if torch.cuda.is_available():  # vLLM's CPU build ignores sleep
            sampler._sleeps = True  # not before: each call above would have put it to sleep
            found |= _sleep(sampler)
            sampler._sleeps = False
            after = _said(sampler, asked)
            found["same_after_sleep"] = before.token_ids == after.token_ids
    finally:
        sampler.close()
    return found


def _sleep(sampler: Any) -> dict[str, Any]:
    """As between a rollout and the next load: level 1, weights kept on the host, compared when it wakes."""
    free = lambda: torch.cuda.mem_get_info()[0] / GIB
    awake = free()
    asleep_s = timed(sampler._rest)
    asleep = free()
    return {"sleep_s": asleep_s, "freed_gib": asleep - awake, "wake_s": timed(sampler._wake)}


@contextmanager
def _ready_to_sleep() -> Iterator[None]:
    """Engines that start here can sleep, and begin with weights that nobody reads from a file."""
    from ocr_rl.rollout.sampler.vllm import engine

    options = engine._options
    more = {"enable_sleep_mode": True, "load_format": "dummy"} if torch.cuda.is_available() else {}
    with mock.patch.object(engine, "_options", lambda *args, **named: options(*args, **named) | more):
        yield


def _asked(origin: Any, work: Path) -> list[tuple[Page, Prompt]]:
    return [(page, origin.prompter.prompt(page)) for page in drawn_pages(work, 1)]


def _said(sampler: Any, asked: list[tuple[Page, Prompt]]) -> Sample:
    (group,) = sampler.sample(asked, Sampling(temperature=0.0, max_tokens=16))
    return group.samples[0]
