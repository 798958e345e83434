"""What a learner sends to a sampler: all weights, or adapters over weights that the sampler holds already.

Adapters travel as adapters, in float32. Added onto bfloat16 weights most of a small one is rounded away: half a unit in
the last place of a weight of 0.02 is 6e-5, and a first step of LoRA is below that nearly everywhere.

A *mark* is the sum of a tensor's bits as integers, in the dtype of whoever holds it. It is cheap, exact, the same in
whatever order and however padded with zeros or stacked with others the numbers lie, so an engine can be asked for it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from ocr_rl.contract import UserError
from ocr_rl.models.load import commit_of, hub_name_of

if TYPE_CHECKING:
    from peft import LoraConfig

BASE_DTYPE = torch.bfloat16  # of a base's marks: what float32 and bfloat16 copies of the same weights have in common
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM has kernels
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}

Marks = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """LoRA, and which weights it belongs on."""

    base: str  # folder or hub name of the weights under it
    marks: Marks  # of these, in BASE_DTYPE
    config: LoraConfig  # peft's
    tensors: Mapping[str, Tensor]  # under peft's names, float32, on the CPU

    def save(self, folder: Path) -> None:
        """A folder that `PeftModel.from_pretrained` and vLLM read, elsewhere too: a model of the hub is named by it."""
        folder.mkdir(parents=True, exist_ok=True)
        named = copy.copy(self.config)
        named.base_model_name_or_path, named.revision = hub_name_of(self.base), commit_of(self.base)
        named.save_pretrained(str(folder))
        save_file(dict(self.tensors), folder / "adapter_model.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """All weights of a learner under the names of a checkpoint, gathered anew by whoever goes through them.

    Two of equal `state` are the same numbers: whoever holds the first need not read the second.
    """

    state: object
    gather: Callable[[], Iterator[tuple[str, Tensor]]]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return self.gather()


Weights = Iterable[tuple[str, Tensor]] | Adapter  # all of them under the names of a checkpoint, or an adapter


def state_of(weights: Weights) -> object | None:
    """What equal ones have in common; None where nobody knows: they are to be read."""
    return weights.state if isinstance(weights, Named) else None


def lora_room(rank: int) -> int:
    """What vLLM is to be told as its largest rank."""
    return min(room for room in LORA_RANKS if room >= rank)


def mark(tensor: Tensor, dtype: torch.dtype) -> int:
    """The sum of the tensor's bits in that dtype."""
    held = tensor.detach().to(dtype).contiguous()
    return int(held.view(_BITS[held.element_size()]).sum(dtype=torch.int64))


def marks_of(named: Iterable[tuple[str, Tensor]], dtype: torch.dtype) -> dict[str, int]:
    """A mark for each name."""
    return {name: mark(tensor, dtype) for name, tensor in named}


def marked(
    named: Iterable[tuple[str, Tensor]], marks: dict[str, int], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """The same pairs; `marks` is filled as they pass."""
    for name, tensor in named:
        marks[name] = mark(tensor, dtype)
        yield name, tensor


def require_held(given: Marks, held: Mapping[str, int | None], what: str) -> None:
    """UserError where an engine does not hold all that it was given, or other numbers."""
    wrong = sorted(name for name in given if held.get(name) != given[name])
    if wrong or not given:
        which = f"{wrong[0]} differs ({len(wrong)} of {len(given)})" if wrong else "none of them is found there"
        raise UserError(
            f"The engine does not hold the {what} that it was given: {which}. It would sample from another policy than "
            'the one that learns; try another version of vLLM, or sampling.engine = "transformers".'
        )
