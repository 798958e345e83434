"""The reference sampler: transformers `generate`, slow and plain.

It knows nothing about scoring or training. Every sample draws from a random generator of its own, so what it writes
does not depend on which pages share its batch.

Shapes: B rows (pages x samples, page by page), L prompt length (left-padded), T sampled tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from ocr_rl.contract import Page
from ocr_rl.models.load import load_model
from ocr_rl.models.weights import BASE_DTYPE, Adapter, Weights, mark, marked, marks_of, require_held, state_of
from ocr_rl.rollout.flow import Group, Prompt, Sample
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampling, seed_for


class HfSampler:
    """A `Sampler` with a model of its own, on the GPU if there is one."""

    def __init__(
        self,
        model: str | Path,
        prompter: Prompter,
        *,
        dtype: str = "float32",
        max_rows: int = 64,
        trust_remote_code: bool = False,
    ) -> None:
        """`max_rows` samples are written side by side. Raises UserError for a folder that holds no such model."""
        self.policy, self.engines = 0, 1
        self._prompter = prompter
        self._max_rows = max_rows
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._read_base = partial(load_model, dtype=dtype, trust_remote_code=trust_remote_code)
        loaded: Any = self._read_base(str(model))
        self._model: Any = loaded.to(self._device).eval()
        self._base: str | None = str(model)  # what lies under adapters; None: weights that came from a learner
        self._adapted: Any = None  # peft's wrapper, where there are adapters in the model, of this configuration
        self._config: Any = None
        self._state: object | None = None  # of the weights that it was given last, adapters left out
        # A checkpoint's own generation settings (repetition penalty, top_k, ...) would change the distribution.
        self._model.generation_config = GenerationConfig()

    def sample(self, prompts: Sequence[tuple[Page, Prompt]], how: Sampling) -> Iterator[Group]:
        pages_at_once = max(1, self._max_rows // how.n)
        for start in range(0, len(prompts), pages_at_once):
            yield from self._sample(prompts[start : start + pages_at_once], how)

    def load(self, weights: Weights, policy: int) -> None:
        if isinstance(weights, Adapter):
            self._take_adapter(weights)
        elif (state := state_of(weights)) is None or state != self._state:
            self._take_all(weights)
            self._base, self._state = None, state
        self.policy = policy

    def _take_all(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        self._take_off()
        self._state = None
        own = self._model.state_dict()
        left = {weight.data_ptr(): name for name, weight in own.items()}  # by place: tied weights have two names
        given: dict[str, int] = {}
        for name, weight in marked(weights, given, self._model.dtype):
            own[name].copy_(weight)  # in place; a name that the model lacks is a KeyError
            left.pop(own[name].data_ptr(), None)
        if left:
            raise RuntimeError(f"{len(left)} weights were not given, {min(left.values())} among them")
        require_held(given, marks_of(self._model.state_dict().items(), self._model.dtype), "weights")

    def _take_adapter(self, adapter: Adapter) -> None:
        """peft's own layers, in float32 over whatever the model is in: nothing is added onto rounded weights."""
        from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

        if self._base != adapter.base:
            self._take_all(self._read_base(adapter.base).state_dict().items())
            self._base = adapter.base
        if self._adapted is None or self._config != adapter.config:
            self._take_off()
            require_held(adapter.marks, marks_of(self._model.state_dict().items(), BASE_DTYPE), "base weights")
            self._adapted = get_peft_model(self._model, copy.deepcopy(adapter.config)).eval()
            self._config = adapter.config
        set_peft_model_state_dict(self._adapted, dict(adapter.tensors))
        held = get_peft_model_state_dict(self._adapted, save_embedding_layers=False)
        own = {name: weight.dtype for name, weight in held.items()}
        given = {name: mark(tensor, own.get(name, tensor.dtype)) for name, tensor in adapter.tensors.items()}
        require_held(given, {name: mark(weight, own[name]) for name, weight in held.items()}, "adapters")

    def _take_off(self) -> None:
        if self._adapted is not None:
            self._adapted.unload()
            self._adapted = None

    def close(self) -> None:
        self._model = self._adapted = None

    @torch.no_grad()
    def _sample(self, prompts: Sequence[tuple[Page, Prompt]], how: Sampling) -> list[Group]:
        if self._model is None:
            raise RuntimeError("the sampler is closed")
        prompter = self._prompter
        seeds = [seed_for(how.seed, page.id) + k for page, _ in prompts for k in range(how.n)]
        draw = _Draw([torch.Generator().manual_seed(seed) for seed in seeds], how, prompter.banned_ids)
        alone = [prompt for _, prompt in prompts]
        pixels, sizes = map(torch.from_numpy, prompter.pixels([prompter.image(prompt) for prompt in alone]))
        once = self._inputs(alone, pixels, sizes, 1)
        inputs = once if how.n == 1 else self._inputs(alone, pixels, sizes, how.n)
        limits = [how.limit(page.id) for page, _ in prompts for _ in range(how.n)]
        length = inputs["input_ids"].shape[1]
        with seen_once(self._model.base_model, once, how.n):
            written_BT = self._model.generate(
                **inputs,
                generation_config=GenerationConfig(
                    do_sample=False,  # `_Draw` has drawn already and leaves one finite logit a row
                    max_new_tokens=max(limits),
                    eos_token_id=prompter.eos_id,
                    pad_token_id=prompter.eos_id,
                ),
                logits_processor=LogitsProcessorList([draw]),
                stopping_criteria=StoppingCriteriaList([_Full(length, limits)]),
            )[:, length:].tolist()
        logprobs_BT = torch.stack(draw.logprobs, dim=1).tolist()
        samples = [  # what stands behind a row's limit is padding, and reads like EOS
            self._read(ids[:limit], logprobs)
            for ids, logprobs, limit in zip(written_BT, logprobs_BT, limits, strict=True)
        ]
        return [
            Group(
                page=page,
                prompt=prompt,
                samples=tuple(samples[p * how.n : (p + 1) * how.n]),
                temperature=how.temperature,
                banned_ids=prompter.banned_ids,
            )
            for p, (page, prompt) in enumerate(prompts)
        ]

    def _inputs(self, prompts: Sequence[Prompt], pixels: Tensor, sizes: Tensor, n: int) -> dict[str, Tensor]:
        """What `generate` takes, every prompt and every image n times."""
        family = self._prompter.family
        length = max(len(prompt.expanded_ids) for prompt in prompts)
        pads = [length - len(prompt.expanded_ids) for prompt in prompts]
        padded = [[self._prompter.eos_id] * pad + [*p.expanded_ids] for pad, p in zip(pads, prompts, strict=True)]
        ids_BL = torch.tensor(padded).repeat_interleave(n, dim=0)
        inputs = {
            "input_ids": ids_BL,
            "attention_mask": torch.tensor([[0] * pad + [1] * (length - pad) for pad in pads]).repeat_interleave(n, 0),
            **family.generate_inputs(pixels.to(self._model.dtype), sizes, ids_BL == self._prompter.image_id, n),
        }
        return {name: tensor.to(self._device) for name, tensor in inputs.items()}

    def _read(self, ids: list[int], logprobs: list[float]) -> Sample:
        eos = self._prompter.eos_id
        stopped = eos in ids
        length = ids.index(eos) + 1 if stopped else len(ids)
        return Sample(
            token_ids=tuple(ids[:length]),
            logprobs=tuple(logprobs[:length]),
            text=self._prompter.decode(ids[:length]),
            finish="stop" if stopped else "length",
            policy=self.policy,
        )


@contextmanager
def seen_once(inner: Any, once: Mapping[str, Tensor], n: int) -> Iterator[None]:
    """The tower sees each image `once`, though `generate` is given it n times, as each of its samples' own.

    Where images have sizes; without them (InternVL's tiles) their features come in one piece, and nothing changes.
    """
    if n == 1 or not {"image_grid_thw", "image_sizes"} & set(once):
        yield
        return
    see = inner.get_image_features
    names = signature(see).parameters

    @wraps(see)  # `generate` asks for the names of its parameters
    def see_once(*first: Any, **more: Any) -> Any:
        given = {**dict(zip(names, first, strict=False)), **more}
        seen = see(**{name: once.get(name, value) for name, value in given.items()})
        seen.pooler_output = [features for features in seen.pooler_output for _ in range(n)]
        if (deep := getattr(seen, "deepstack_features", None)) is not None:
            seen.deepstack_features = [[features for features in layer for _ in range(n)] for layer in deep]
        return seen

    inner.get_image_features = see_once
    try:
        yield
    finally:
        del inner.get_image_features


class _Full(StoppingCriteria):
    """Which rows are as long as they may be."""

    def __init__(self, start: int, limits: Sequence[int]) -> None:
        self._ends_B = torch.tensor(limits) + start

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:  # type: ignore[override]
        return input_ids.shape[1] >= self._ends_B.to(input_ids.device)


class _Draw(LogitsProcessor):
    """Draws the next token itself and remembers the log-probability that it had."""

    def __init__(self, generators: Sequence[torch.Generator], how: Sampling, banned_ids: Sequence[int]) -> None:
        self.logprobs: list[Tensor] = []  # (B,) per step; what follows a row's EOS means nothing
        self._generators, self._how, self._banned_ids = generators, how, list(banned_ids)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        logits_BV = scores.float()
        logits_BV[:, self._banned_ids] = -torch.inf
        logprobs_BV = (logits_BV / (self._how.temperature or 1.0)).log_softmax(-1)
        if self._how.greedy:
            chosen_B1 = logits_BV.argmax(-1, keepdim=True)
        else:
            # A race of exponential clocks with the probabilities as rates: token i wins with probability p_i.
            clocks = [torch.empty(scores.shape[1]).exponential_(generator=generator) for generator in self._generators]
            chosen_B1 = (logprobs_BV.exp() / torch.stack(clocks).to(scores.device)).argmax(-1, keepdim=True)
        self.logprobs.append(logprobs_BV.gather(1, chosen_B1)[:, 0])
        return torch.full_like(logits_BV, -torch.inf).scatter(1, chosen_B1, 0.0)
