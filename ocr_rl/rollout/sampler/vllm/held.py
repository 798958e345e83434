"""What a vLLM engine holds, as marks (`models.weights`) under vLLM's names. Written for vLLM 0.32.

These run in the engine's worker. On a CPU vLLM packs the weights of linear layers for its kernels and empties them:
what is left (embeddings, norms, biases) is compared there, on a GPU everything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from vllm.model_executor.utils import get_packed_modules_mapping

from ocr_rl.models.weights import Adapter, mark


def held_weights(worker: Any, dtype: torch.dtype) -> dict[str, int | None]:
    """A mark for each weight, in that dtype; None for one that is packed away. A tied one stands under both names."""
    own = dict(worker.model_runner.model.named_parameters(remove_duplicate=False))
    packed = lambda weight: weight.device.type == "cpu" and weight.numel() == 0
    return {name.replace(".base_layer", ""): None if packed(w) else mark(w, dtype) for name, w in own.items()}


def weight_marks(worker: Any, marks: Mapping[str, int]) -> dict[str, int]:
    """Marks of a checkpoint under the engine's names; those of layers that it stacks are added up."""
    rename = _naming(worker)
    return _summed((rename(name), value) for name, value in marks.items())


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
    scale, rename = adapter.config.lora_alpha / adapter.config.r, _naming(worker)
    packed = get_packed_modules_mapping(worker.model_runner.model)
    marks = []
    for name, tensor in adapter.tensors.items():
        layer, _, part = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".lora_")
        engines = rename(layer) or layer
        held = tensor.to(dtype) if part == "A" else tensor.to(dtype) * scale
        copies = _slices(worker, packed, layer, engines) if part == "A" else 1
        marks.append((f"{engines}.{part.lower()}", copies * mark(held, dtype)))
    return _summed(marks)


def _slices(worker: Any, packed: Mapping[str, Sequence[str]], layer: str, engines: str) -> int:
    """How many slices of the engine's layer are this one, each of which has the same A.

    Where it has more slices than layers, as for queries, keys and values in one and a gate in another, the first of
    these is what remains: vLLM's own rule (`expand_packed_lora`).
    """
    held = worker.model_runner.lora_manager._adapter_manager.modules.get(engines)
    slices = len(getattr(held, "lora_a_stacked", "?"))
    stack, name = engines.rpartition(".")[2], layer.rpartition(".")[2]
    parts = packed.get(stack, [name])
    return slices - len(parts) + 1 if name == parts[0] else 1


def _naming(worker: Any) -> Callable[[str], str | None]:
    """What the engine calls a weight of a checkpoint, None where it leaves it out: as its parts rename it in loading.

    Each part that reads weights may rename those below it, the whole model first, and say which layers it stacks; where
    a part of the model has no such stack (a tower whose layers stand apart, as the text's do not), they are not.
    """
    model = worker.model_runner.model
    parts = [(name, getattr(part, "hf_to_vllm_mapper", None)) for name, part in model.named_modules()]
    mappers = [(f"{name}." if name else "", mapper) for name, mapper in parts if mapper is not None]
    packed = get_packed_modules_mapping(model)
    stacks = {part: stack for stack, stacked in packed.items() for part in stacked}
    own = {*dict(parts), *dict(model.named_parameters(remove_duplicate=False))}
    there = {name.replace(".base_layer", "") for name in own}

    def rename(name: str) -> str | None:
        for above, mapper in mappers:
            if name.startswith(above):
                below = mapper.map_name(name.removeprefix(above))
                if below is None:
                    return None
                name = above + below
        stacked = ".".join(stacks.get(part, part) for part in name.split("."))
        return stacked if stacked in there else name

    return rename


def _summed(marks: Iterable[tuple[str | None, int]]) -> dict[str, int]:
    sums: defaultdict[str, int] = defaultdict(int)
    for name, value in marks:
        if name is not None:
            sums[name] += value
    return dict(sums)
