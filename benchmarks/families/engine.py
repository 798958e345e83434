"""All that an engine of vLLM can show of a family: `python -m benchmarks.families.engine PDF FOLDER...`; prints JSON.

In a process of their own, one family after the other; engines are left open until the process ends, because closing
one takes vLLM's process groups from the others.
Gaps are the largest differences, in nats, to log-probabilities that transformers computes row by row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.families.policies import plain_logprobs
from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.doctor import parity
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.network import named_weights
from ocr_rl.learn.probe import require_eyes
from ocr_rl.models.load import load_model
from ocr_rl.models.weights import Weights
from ocr_rl.policy import open_origin
from ocr_rl.rollout.flow import Row, row_of
from ocr_rl.rollout.prompt import Origin, Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling

TOKENS = 12
RANK = 2
Named = dict[str, Tensor]


def written(sampler: Sampler, prompter: Prompter, pages: Iterable[Page]) -> list[Row]:
    """What the sampler writes about the pages, as rows with its log-probabilities."""
    groups = sampler.sample([(page, prompter.prompt(page)) for page in pages], Sampling(n=2, max_tokens=TOKENS, seed=3))
    return [row_of(group, sample, group_id=i, weight=1.0) for i, group in enumerate(groups) for sample in group.samples]


@torch.no_grad()
def gap(rows: Iterable[Row], model: Any, prompter: Prompter, weights: Named) -> float:
    """To the plain log-probabilities with these weights."""
    model.load_state_dict(weights)
    return max(
        abs(theirs - ours)
        for row in rows
        for theirs, ours in zip(row.sampler_logprobs or (), plain_logprobs(model, prompter, row).tolist(), strict=True)
    )


def changed(weights: Named, where: Callable[[str], bool], seed: int) -> Named:
    """Every weight that is meant is another one, biases of zero too; names of one tensor stay names of one tensor."""
    noise = torch.Generator().manual_seed(seed)
    new: dict[int, Tensor] = {}
    for name, weight in weights.items():
        if where(name) and weight.data_ptr() not in new:
            drawn = torch.randn(weight.shape, generator=noise)
            new[weight.data_ptr()] = weight * (1 + 0.1 * drawn) + 0.01 * drawn
    return {name: new[weight.data_ptr()] if where(name) else weight.clone() for name, weight in weights.items()}


def adapted(origin: Origin, *, tower: bool) -> Learner:
    """A learner whose adapters do something."""
    policy = config.Policy.model_validate({"path": origin.path, "lora_rank": RANK, "lora_vision": tower})
    learner = Learner(origin, policy, config.Optim(), steps=1, reference=False)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in learner.module.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return learner


def merged(learner: Learner) -> Named:
    """The weights with the adapters added on."""
    return {name: weight.detach().clone() for name, weight in named_weights(learner.module)}


def refused(act: Callable[[], Any]) -> str:
    """The sentence with which it is refused, "" where it is not."""
    try:
        act()
    except UserError as error:
        return str(error)
    return ""


@contextmanager
def deaf(sampler: Any, learner: Learner) -> Iterator[None]:
    """Its loads do not reach the tower."""
    load, kept = sampler.load, {name: w.clone() for name, w in learner.all_weights()}

    def broken(weights: Weights, policy: int) -> None:
        assert not isinstance(weights, dict)
        load(((name, kept[name] if learner.family.of_vision(name) else w) for name, w in weights), policy)  # type: ignore[misc]

    with patch.object(sampler, "load", broken):
        yield


def checks(sampler: Sampler, origin: Origin, pages: list[Page], *, text: bool, tower: bool) -> dict[str, Any]:
    """Each check by its name; `text`, `tower`: where the engine takes adapters."""
    prompter, family = origin.prompter, origin.prompter.family
    model: Any = load_model(origin.path)
    start = {name: w.clone() for name, w in model.state_dict().items()}
    compare = lambda weights: gap(written(sampler, prompter, pages), model, prompter, weights)

    def handed(weights: Named, sent: Named | None = None) -> dict[str, float]:
        """The gap after a load, and how far the old weights are from what is now sampled."""
        old = {name: w.clone() for name, w in model.state_dict().items()}
        sampler.load(iter((sent or weights).items()), 1)
        rows = written(sampler, prompter, pages)
        return {"old": gap(rows, model, prompter, old), "new": gap(rows, model, prompter, weights)}

    results: dict[str, Any] = {"start": compare(start)}
    everything = changed(model.state_dict(), lambda name: True, seed=1)
    results["all"] = handed(everything)
    results["tower"] = handed(changed(everything, family.of_vision, seed=2))
    learner = Learner(origin, config.Policy(path=origin.path), config.Optim(), steps=1, reference=False)
    results["head_is_handed"] = "lm_head.weight" in dict(learner.all_weights())
    headless = {name: w for name, w in everything.items() if name != "lm_head.weight"}
    sampler.load(iter(start.items()), 1)
    results["headless"] = refused(lambda: results.update({"without_head": handed(everything, headless)["new"]}))
    results["eyes"] = refused(lambda: require_eyes(learner, sampler, pages))
    with deaf(sampler, learner):
        results["deaf"] = refused(lambda: require_eyes(learner, sampler, pages))
    for part, takes in (("text", text), ("vision", tower)):
        lora = adapted(origin, tower=part == "vision")
        said = refused(lambda lora=lora: sampler.load(lora.weights(), 2))
        results[f"lora_{part}"] = {"takes": takes, "refused": said}
        if not said:
            rows = written(sampler, prompter, pages)
            pair = {"new": gap(rows, model, prompter, merged(lora)), "old": gap(rows, model, prompter, start)}
            results[f"lora_{part}"] |= pair | {"eyes": refused(lambda lora=lora: require_eyes(lora, sampler, pages))}
    with patch("ocr_rl.policy.open_sampler", lambda *_: sampler), patch.object(sampler, "close"):
        sampler.load(iter(start.items()), 1)
        doctor = parity(origin.path, max_tokens=TOKENS, pages=1)
    return results | {"doctor": {"gap": doctor.gap, "holds": doctor.holds, "tokens": doctor.tokens}}


def in_process(folders: Sequence[Path], pdf: Path) -> list[dict[str, Any]]:
    """What a process of its own shows of each policy; of one that dies, its "error"."""
    case = [sys.executable, "-m", "benchmarks.families.engine", str(pdf), *map(str, folders)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(case, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2])
    if done.returncode:
        raise RuntimeError(f"the engines' process ended with {done.returncode}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def shown(folder: str, pdf: str) -> dict[str, Any]:
    from ocr_rl.rollout.sampler.vllm.engine import EngineSettings, VllmSampler

    origin = open_origin(config.Policy(path=folder), folder)
    where = origin.prompter.family.engine_adapters
    lora = {} if where == "nowhere" else {"lora_rank": RANK, "lora_in_tower": where == "everywhere"}
    sizes: dict[str, Any] = {"max_model_len": 512, "max_num_seqs": 8, "kv_cache_gib": 0.1}
    engine = VllmSampler(folder, origin.prompter, EngineSettings(**sizes, **lora))
    _OPEN.append(engine)
    pages = [Page(id=f"0a1b2c3d:p{n}", pdf=Path(pdf), number=n) for n in (1, 2)]
    try:
        return checks(engine, origin, pages, text=where != "nowhere", tower=where == "everywhere")
    except Exception as error:  # the others go on
        return {"error": "".join(traceback.format_exception(error))[-3000:]}


_OPEN: list[Any] = []


def main(pdf: str, *folders: str) -> None:
    torch.set_num_threads(1)
    print(json.dumps([shown(folder, pdf) for folder in folders]))


if __name__ == "__main__":
    main(*sys.argv[1:])
