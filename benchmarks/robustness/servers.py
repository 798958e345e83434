"""Two of vLLM's servers, one of them killed in mid-step again and again: are the samples those of their seeds?

    python -m benchmarks.robustness.servers --kills 10 [--pages 24] [--samples 8]

A policy of random weights, vLLM's CPU build, a core each. Every step's pages are first sampled undisturbed, then with
SIGKILL to one server (in turn) once a few pages are answered; it is started again at once, and holds the policy's
folder instead of the run's weights. Prints a JSON line a step: whether each page was answered once, samples whose
tokens differ, who answered how many pages, seconds undisturbed and disturbed. Exits 1 where a page or a sample is not
what it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Any

import torch

from benchmarks.speed.serving import ServerProcess
from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.models.fresh import new_policy
from ocr_rl.models.load import load_model
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_origin
from ocr_rl.rollout.flow import Group, Prompt
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.rollout.sampler.server import Server
from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler

Asked = Sequence[tuple[Page, Prompt]]
MAX_TOKENS = 128


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--pages", type=int, default=24)
    parser.add_argument("--samples", type=int, default=8)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        new_policy(folder / "policy", seed=0)
        servers = [
            stack.enter_context(
                ServerProcess(
                    folder / "policy", folder / f"log{core}.txt", cores=[core], max_model_len=256 + MAX_TOKENS
                )
            )
            for core in (0, 1)
        ]
        origin = open_origin(config.Policy(path=str(folder / "policy")), str(folder / "policy"))
        pages = open_pages(config.Typeset(synth="nano", n=args.pages, seed=1), folder / "pages")
        asked = [(page, origin.prompter.prompt(page)) for page in pages]
        urls = tuple(server.url for server in servers)
        settings = ServerSettings(url=urls, max_model_len=256 + MAX_TOKENS, weights_dir=folder)
        with closing(VllmServerSampler(folder / "policy", origin.prompter, settings)) as sampler:
            return int(not all([step(args, number, sampler, servers, asked, folder) for number in range(args.kills)]))


def step(
    args: argparse.Namespace,
    number: int,
    sampler: VllmServerSampler,
    servers: Sequence[ServerProcess],
    asked: Asked,
    folder: Path,
) -> bool:
    """Load other weights, sample undisturbed and disturbed, and say how they compare."""
    model = load_model(str(folder / "policy"))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(2 + number / 100)  # what fresh weights say of all pages is nearly the same
    sampler.load(model.state_dict().items(), number + 1)
    how = Sampling(n=args.samples, max_tokens=MAX_TOKENS, seed=number)
    plain, plain_s, _ = sampled(sampler, asked, how, lambda done: None)
    victim, moment = servers[number % 2], Random(number).randrange(1, len(asked) // 2)

    def kill(done: int) -> None:
        if done == moment:
            victim.kill()
            victim.start()

    disturbed, seconds, answered = sampled(sampler, asked, how, kill)
    differ = sum(a != b for page in plain for a, b in zip(plain[page], disturbed.get(page, []), strict=False))
    whole = sorted(disturbed) == sorted(plain) == sorted(page.id for page, _ in asked)
    line = {"step": number + 1, "killed_after": moment, "all_pages_once": whole, "samples": args.samples * len(asked)}
    print(
        json.dumps({**line, "samples_that_differ": differ, "answered": answered, "s": [plain_s, seconds]}), flush=True
    )
    while any(server.down is not None for server in sampler._servers):  # the next one is killed when both are there
        list(sampler.sample(asked[:1], how))
        time.sleep(1)
    return whole and differ == 0


def sampled(
    sampler: VllmServerSampler, asked: Asked, how: Sampling, after: Callable[[int], None]
) -> tuple[dict[str, list[Any]], float, list[int]]:
    """Token ids of each page's samples, seconds, and how many pages each server answered."""
    by: Counter[str] = Counter()
    read = Server.read

    def counted(server: Server, *args: Any) -> Group:
        group = read(server, *args)
        by[server.wire.url] += 1
        return group

    Server.read = counted  # type: ignore[method-assign]
    started = time.perf_counter()
    try:
        written: dict[str, list[Any]] = {}
        for number, group in enumerate(sampler.sample(asked, how), 1):
            assert group.page.id not in written
            written[group.page.id] = [sample.token_ids for sample in group.samples]
            after(number)
    finally:
        Server.read = read  # type: ignore[method-assign]
    return written, round(time.perf_counter() - started, 1), [by[server.wire.url] for server in sampler._servers]


if __name__ == "__main__":
    sys.exit(main())
