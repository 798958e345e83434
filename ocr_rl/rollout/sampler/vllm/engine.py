"""vLLM in this process: the fast sampler, on a GPU or (with vLLM's CPU build) without one.

It knows nothing about scoring or training. Weights are handed over in memory, and every cache that could hold
something computed with the old ones is emptied. The traps that it closes are named where they are closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from vllm import LLM, ModelRegistry, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.v1.worker.gpu_input_batch import InputBatch

from ocr_rl.contract import Page, UserError
from ocr_rl.models.load import DTYPES, load_config, load_model
from ocr_rl.models.weights import BASE_DTYPE, Adapter, Weights, lora_room, marked, require_held, state_of
from ocr_rl.rollout.flow import Group, Prompt, Sample
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import CPU_CACHE_GIB, Sampling, require_adapters, require_room, seed_for
from ocr_rl.rollout.sampler.vllm.held import adapter_marks, held_adapter, held_weights, weight_marks

AHEAD = 2  # times the samples that are written side by side: so many it is asked for, so that one is always ready
MAX_BATCHED_TOKENS = 8192  # of prompts and samples in one forward pass; where a prompt may be longer, its length


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How large an engine is. `max_model_len` counts prompt and sample together."""

    dtype: str = "float32"
    max_model_len: int = 2048
    max_num_seqs: int = 256  # samples written side by side
    # Memory for keys and values; None: what `gpu_share` leaves on a GPU, CPU_CACHE_GIB where there is none.
    kv_cache_gib: float | None = None
    gpu_share: float = 0.4  # of the device's memory; a learner needs the rest
    sleep: bool = False  # give a GPU's memory back until the first call, and after each sampling
    trust_remote_code: bool = False
    lora_rank: int = 0  # of adapters that will come; 0: none
    lora_in_tower: bool = False  # whether the vision tower has some


class VllmSampler:
    """A `Sampler` over one vLLM engine inside this process."""

    def __init__(self, model: str | Path, prompter: Prompter, settings: EngineSettings) -> None:
        """Raises UserError where vLLM refuses the model or the settings."""
        self.policy, self.engines = 0, 1
        self._prompter = prompter
        self._max_model_len, self._max_num_seqs = settings.max_model_len, settings.max_num_seqs
        self._dtype = DTYPES[settings.dtype]
        self._read_base = partial(load_model, dtype=settings.dtype, trust_remote_code=settings.trust_remote_code)
        self._base: str | None = str(model)  # what lies under adapters; None: weights that came from a learner
        self._lora: LoRARequest | None = None
        self._state: object | None = None  # of the weights that it was given last, adapters left out
        self._folder: TemporaryDirectory[str] | None = None  # of the adapters that are in use
        self._asleep: list[dict[str, int | None]] | None = None  # marks of what it held when it went to sleep
        on_gpu = torch.cuda.is_available()
        if settings.sleep and not on_gpu:
            raise UserError("sampling.sleep gives a GPU's memory back, and torch sees no GPU here: leave it out.")
        self._sleeps = settings.sleep
        shape = load_config(str(model), trust_remote_code=settings.trust_remote_code)
        prompter.family.require_engine(shape)
        if settings.lora_rank:
            require_adapters(prompter.family, in_tower=settings.lora_in_tower)
        self._room = TemporaryDirectory(prefix="engine-")
        folder = prompter.family.engine_folder(str(model), Path(self._room.name))
        # Known by class, vLLM need not start a process that imports everything again just to look at it.
        module, _, name = prompter.family.vllm_class.partition(":")
        for architecture in prompter.family.architectures:
            ModelRegistry.register_model(architecture, getattr(import_module(module), name))
        prompter.family.ready_engine(on_gpu=on_gpu)
        if not on_gpu and InputBatch.add_request is _add_request:
            InputBatch.add_request = _add_request_on_cpu  # type: ignore[method-assign]
        set_num_threads = torch.set_num_threads
        with torch.random.fork_rng():  # the engine seeds torch's global generator
            try:
                self._llm: Any = LLM(**_options(folder, prompter, settings, on_gpu=on_gpu))
            except ValueError as error:  # pydantic's: what vLLM says of settings that do not go together
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                raise UserError(f"Model {model}: vLLM refuses it: {lines[min(1, len(lines) - 1)][:300]}") from None
        torch.set_num_threads = set_num_threads  # the CPU worker swaps it for one that does nothing
        self._rest()  # a run may learn for long before it samples

    def sample(self, prompts: Sequence[tuple[Page, Prompt]], how: Sampling) -> Iterator[Group]:
        engine = self._engine()
        self._wake()
        waiting: dict[str, tuple[Page, Prompt]] = {}
        for _, prompt in prompts:
            require_room(prompt, how, self._max_model_len)
        left = iter(prompts)
        try:
            while True:
                # Not all at once: the engine holds the image of each page that it was asked for.
                while engine.get_num_unfinished_requests() < AHEAD * self._max_num_seqs and (asked := next(left, None)):
                    waiting[self._ask(*asked, how)] = asked
                if not waiting:
                    return
                for output in engine.step():
                    if output.finished:
                        yield self._group(*waiting.pop(output.request_id), output, how)
        finally:  # an error, or a caller who has seen enough
            if waiting:
                engine.abort_request(list(waiting))
            self._rest()

    def load(self, weights: Weights, policy: int) -> None:
        self._wake()
        if isinstance(weights, Adapter):
            self._take_adapter(weights)
        else:
            if (state := state_of(weights)) is None or state != self._state:
                self._take_all(weights)
                self._state = state
            self._base = self._lora = None
        self._empty_caches()
        self.policy = policy

    def _empty_caches(self) -> None:
        # Both sides of each cache: with one side left the next request dies ("Encoder cache miss"), with both left it
        # silently reuses what the old vision tower saw.
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM could not empty its prefix cache; are samples still being written?")
        self._llm.reset_mm_cache()
        self._engine().reset_encoder_cache()

    def _rest(self) -> None:
        """Weights go to the host's memory, keys and values nowhere."""
        if self._sleeps and self._asleep is None:
            self._asleep = self._marks()
            self._llm.sleep(level=1)

    def _wake(self) -> None:
        """RuntimeError where it wakes with other weights than it fell asleep with."""
        if self._asleep is None:
            return
        torch.cuda.empty_cache()  # what the learner gave back lies with torch until then
        self._llm.wake_up()
        self._empty_caches()  # of what lay in memory that was given back
        before, self._asleep = self._asleep, None
        if self._marks() != before:
            raise RuntimeError("vLLM woke with other weights than it fell asleep with (sampling.sleep)")

    def _marks(self) -> list[dict[str, int | None]]:
        """Of all that the engine holds."""
        held = self._llm.collective_rpc(held_weights, args=(self._dtype,))
        return held + (self._llm.collective_rpc(held_adapter, args=(self._lora.lora_int_id,)) if self._lora else [])

    def _take_all(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        given: dict[str, int] = {}
        self._state = self._base = None  # whatever goes wrong
        named = marked(self._prompter.family.engine_names(weights), given, self._dtype)
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": named})
        self._require_base(given, self._dtype, "weights")

    def _take_adapter(self, adapter: Adapter) -> None:
        """A LoRA request of its own for each load: what vLLM caches goes by the request's name."""
        engine = self._engine()
        if self._base != adapter.base:
            self._take_all(self._read_base(adapter.base).state_dict().items())
        if self._base != adapter.base or self._lora is None:
            self._require_base(adapter.marks, BASE_DTYPE, "base weights")
        self._base = adapter.base
        old, folder = self._lora, TemporaryDirectory(prefix="adapter-")
        adapter.save(Path(folder.name))
        number = 1 if old is None else old.lora_int_id + 1
        self._lora = LoRARequest(f"adapter-{number}", number, folder.name)
        if old is not None:
            engine.remove_lora(old.lora_int_id)
        try:
            engine.add_lora(self._lora)
        except ValueError as error:
            raise UserError(f"vLLM refuses the adapters (policy.lora_…): {str(error)[:300]}") from None
        self._folder = folder  # and the old one goes
        (held,) = self._llm.collective_rpc(held_adapter, args=(number,))
        (given,) = self._llm.collective_rpc(adapter_marks, args=(adapter, self._dtype))
        require_held(given, held, "adapters")

    def _require_base(self, given: Mapping[str, int], dtype: torch.dtype, what: str) -> None:
        (held,) = self._llm.collective_rpc(held_weights, args=(dtype,))
        (given,) = self._llm.collective_rpc(weight_marks, args=(given,))
        # Packed ones cannot be compared; a name that the engine does not know is wrong.
        require_held({name: value for name, value in given.items() if held.get(name, value) is not None}, held, what)

    def close(self) -> None:
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None

    def _engine(self) -> Any:
        if self._llm is None:
            raise RuntimeError("the sampler is closed")
        return self._llm.llm_engine

    def _ask(self, page: Page, prompt: Prompt, how: Sampling) -> str:
        """Queue one page: its image once, its prompt with one placeholder, which vLLM expands."""
        eos = self._prompter.eos_id
        params = SamplingParams(
            n=how.n,
            temperature=how.temperature,
            max_tokens=how.limit(page.id),
            seed=seed_for(how.seed, page.id),
            stop_token_ids=[eos],
            ignore_eos=True,  # stop at our EOS alone, not at whatever else the checkpoint lists
            logit_bias=dict.fromkeys(self._prompter.banned_ids, float("-inf")),
            logprobs=0,  # only the sampled token's own
            flat_logprobs=True,
            detokenize=False,
        )
        request = {
            "prompt_token_ids": list(prompt.token_ids),
            "multi_modal_data": {"image": self._prompter.image(prompt)},
        }
        # "12-3f9a...": vLLM adds random letters of its own, and leaves them out again in what it hands back.
        return self._llm.enqueue(request, params, lora_request=self._lora, use_tqdm=False)[0].partition("-")[0]

    def _group(self, page: Page, prompt: Prompt, output: RequestOutput, how: Sampling) -> Group:
        seen = tuple(output.prompt_token_ids or ())
        if seen != prompt.expanded_ids:
            raise RuntimeError(
                f"Page {page.id}: vLLM saw a prompt of {len(seen)} tokens, the learner computes with "
                f"{len(prompt.expanded_ids)}: their processors or chat formats differ."
            )
        return Group(
            page=page,
            prompt=prompt,
            samples=tuple(map(self._read, sorted(output.outputs, key=lambda written: written.index))),
            temperature=how.temperature,
            banned_ids=self._prompter.banned_ids,
        )

    def _read(self, written: Any) -> Sample:
        ids, finish = tuple(written.token_ids), written.finish_reason
        if (finish == "stop") != (ids[-1:] == (self._prompter.eos_id,)):
            raise RuntimeError(f"vLLM finished a sample by {finish!r} but its last token is {ids[-1:]}")
        return Sample(
            token_ids=ids,
            logprobs=tuple(written.logprobs.logprobs),
            text=self._prompter.decode(ids),
            finish=finish,
            policy=self.policy,
        )


def _options(folder: str, prompter: Prompter, settings: EngineSettings, *, on_gpu: bool) -> dict[str, Any]:
    """What `LLM` is opened with."""
    cache_gib = settings.kv_cache_gib
    if cache_gib is None and not on_gpu:
        cache_gib = CPU_CACHE_GIB
    adapters: dict[str, Any] = {}
    if settings.lora_rank:
        adapters = {"enable_lora": True, "max_lora_rank": lora_room(settings.lora_rank), "max_loras": 1}
        if settings.lora_in_tower:  # without it vLLM leaves a tower's adapters out and says nothing
            adapters["enable_tower_connector_lora"] = True
    return {
        **adapters,
        "model": folder,
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "kv_cache_memory_bytes": None if cache_gib is None else int(cache_gib * 2**30),
        "gpu_memory_utilization": settings.gpu_share,
        "enable_sleep_mode": settings.sleep,
        # The largest image to make room for; by default that of the processor, 16,384 tokens.
        "limit_mm_per_prompt": {
            "image": {"count": 1, "width": prompter.longest_px, "height": prompter.longest_px},
            "video": 0,
        },
        # vLLM's default, raw_logprobs, leaves out temperature and banned ids: not what was sampled from.
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",  # not the checkpoint's: it may hold a repetition penalty or a second EOS
        "enforce_eager": not on_gpu,
        # Without a GPU a prompt is read whole: no token of a seeded request is drawn and thrown away.
        "enable_chunked_prefill": on_gpu,
        "max_num_batched_tokens": max(MAX_BATCHED_TOKENS, settings.max_model_len),
        "trust_remote_code": settings.trust_remote_code,
        **prompter.family.engine_options(on_gpu=on_gpu),
    }


# vLLM throws away the token drawn from a prompt that is only partly read (as when the budget for images is spent) and
# sets the request's random generator back by an offset. A CPU generator has none: it raises, and the engine dies with
# every sample in it. One that stays where it is draws just as validly.
_add_request = InputBatch.add_request


class _CpuGenerator(torch.Generator):
    def get_offset(self) -> int:
        return 0

    def set_offset(self, offset: int) -> None:
        pass


def _add_request_on_cpu(batch: InputBatch, request: Any) -> int:
    if request.generator is not None:
        generator = _CpuGenerator()
        generator.set_state(request.generator.get_state())
        request.generator = generator
    return _add_request(batch, request)
