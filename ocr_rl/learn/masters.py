"""Float32 masters of weights that are kept in bfloat16: gradients are summed there, and optimisers move them.

A bfloat16 number has 8 bits: at a rate of 2e-6 an Adam step is below half the distance to the next one for a weight of
0.02, and is rounded away every time. The master remembers it (Micikevicius et al. 2018, arXiv 1710.03740). A weight in
float32 is its own master. Works on parts of weights too, as FSDP2 cuts them up.

A master does not begin at its weight, but anywhere among the numbers that are rounded to it (dither, Schuchman 1964).
Begun in the middle, every master would have half the distance to go before its weight moves at all: nothing is learnt
at first, and small moves never arrive. So a share of weights moves at once, and all together move as their masters do.
"""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import torch
from torch import Tensor, nn

from ocr_rl.learn import ranks

HALF = 2**15
"""Of float32's numbers that lie between a bfloat16 number and the next one, which has 16 bits less."""


class Masters:
    """What the optimisers of a module move, by the names of its learnt weights."""

    def __init__(self, module: nn.Module, head: nn.Module | None = None, seed: int = 0) -> None:
        """`head`: a part that is learnt beside the module; its names begin with "head.". `seed`: of the dither."""
        weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if head is not None:
            weights |= {f"head.{name}": p for name, p in head.named_parameters()}
        self.by_name: Mapping[str, Tensor] = {
            name: _master(f"{seed} {name}", weight) for name, weight in weights.items()
        }
        pairs = [(weight, self.by_name[name]) for name, weight in weights.items()]
        self._copies = [(weight, master) for weight, master in pairs if master is not weight]

    def take_gradients(self) -> None:
        """Move what a backward pass left on the weights, so that the passes of a step are summed in float32."""
        for weight, master in self._copies:
            if weight.grad is not None:
                gradient = weight.grad.float()
                master.grad = gradient if master.grad is None else master.grad.add_(gradient)
                weight.grad = None

    @torch.no_grad()
    def hand_back(self) -> None:
        """Round the masters to their weights, after a step or a load."""
        for weight, master in self._copies:
            weight.copy_(master)


def _master(key: str, weight: nn.Parameter) -> Tensor:
    if weight.dtype == torch.float32:
        return weight
    generator = torch.Generator(weight.device).manual_seed(crc32(key.encode()))  # of all ranks: each takes its part
    offset = torch.randint(-HALF + 1, HALF, weight.shape, generator=generator, device=weight.device, dtype=torch.int32)
    return dithered(weight.detach(), ranks.cut_like(offset, weight)).requires_grad_()


def dithered(weight: Tensor, offset: Tensor) -> Tensor:
    """float32 numbers that are rounded to the bfloat16 `weight`: so many of float32's steps away, fewer than HALF.

    To count steps is to count up the bits of a number, over powers of two as well. Nothing stands below 0 so.
    """
    exact = weight.float()
    return torch.where(exact == 0, exact, (exact.view(torch.int32) + offset).view(torch.float32))
