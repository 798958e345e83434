"""What a vLLM engine holds, as marks (`models.weights`) under vLLM's names. Written for vLLM 0.32.

These run in the engine's worker. On a CPU vLLM packs the weights of linear layers for its kernels and drops them: what
is left (embeddings, norms, biases) is compared there, on a GPU everything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from vllm.model_executor.utils import get_packed_modules_mapping

from ocr_rl.models.weights import Adapter, mark


def held_weights(worker: Any, dtype: torch.dtype) -> dict[str, int]:
    """A mark for each weight that is there as an ordinary tensor, in that dtype."""
    own = dict(worker.model_runner.model.named_parameters())
    return {name.replace(".base_layer", ""): mark(w, dtype) for name, w in own.items() if w.numel()}


def weight_marks(worker: Any, marks: Mapping[str, int]) -> dict[str, int]:
    """Marks of a checkpoint under the engine's names; those of layers that it stacks are added up."""
    return _summed((_engine_name(worker, name), value) for name, value in marks.items())


def held_adapter(worker: Any, number: int) -> dict[str, int]:
    """Marks of the adapters in the slot that requests with this number use: those that are switched on."""
    manager = worker.model_runner.lora_manager._adapter_manager
    slot = manager.lora_index_to_id.index(number)
    return {
        f"{name}.{part}": sum(mark(stacked[slot], stacked.dtype) for stacked in getattr(layer, f"lora_{part}_stacked"))
        for name, layer in manager.modules.items()
        for part in "ab"
        if hasattr(layer, f"lora_{part}_stacked")
    }


def adapter_marks(worker: Any, adapter: Adapter, dtype: torch.dtype) -> dict[str, int]:
    """What `held_adapter` is to say: rounded to the engine's dtype, the scale taken into B."""
    scale = adapter.config.lora_alpha / adapter.config.r
    marks = []
    for name, tensor in adapter.tensors.items():
        layer, _, part = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".lora_")
        held = tensor.to(dtype) if part == "A" else tensor.to(dtype) * scale
        marks.append((f"{_engine_name(worker, layer)}.{part.lower()}", mark(held, dtype)))
    return _summed(marks)


def _engine_name(worker: Any, name: str) -> str:
    model = worker.model_runner.model
    stacks = {part: stack for stack, parts in get_packed_modules_mapping(model).items() for part in parts}
    (renamed,) = model.hf_to_vllm_mapper.apply_list([name])
    parts: list[str] = renamed.split(".")
    return ".".join(stacks.get(part, part) for part in parts)


def _summed(marks: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: defaultdict[str, int] = defaultdict(int)
    for name, value in marks:
        sums[name] += value
    return dict(sums)
