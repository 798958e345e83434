"""Several processes, one policy: what `torchrun` starts shares the learner's weights and its rows (PyTorch's FSDP2).

The first rank alone has a run: it draws pages, samples, scores, writes and decides. The others `follow`: they are sent
each call of the learner that needs them, with its rows, and make the same call. So no rank can take another turn than
the others, and an algorithm knows nothing about ranks. With one process nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from ocr_rl.learn.rows import micro_batches, packed_length
from ocr_rl.learn.undrawn import Undrawn
from ocr_rl.rollout.flow import Row

# The others wait for the next call while the first rank samples and evaluates. Who dies ends the run at once: torchrun
# sees to that. Inside a call all ranks work, so one that others wait for this long hangs, and they say so and end.
_PATIENCE = timedelta(days=7)
_LONGEST_SUM = timedelta(minutes=30)
_CUTS = 2  # of a group: into halves, then quarters
_WORTH = 0.1  # of the longest share of a step
_calls: dist.ProcessGroup | None = None  # the group that calls are sent in


@contextmanager
def group() -> Iterator[bool]:
    """Join the processes that torchrun started; True on the first rank, and where there is only one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Weights and gradients travel by NCCL where they lie on GPUs; calls and rows always by gloo.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_LONGEST_SUM)
    global _calls
    _calls = dist.new_group(backend="gloo", timeout=_PATIENCE)  # type: ignore[assignment]
    yield rank() == 0
    # Not after an error: the others may be waiting in the middle of a sum, and torchrun ends them.
    if rank() == 0:
        _send(None)
    dist.destroy_process_group()


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def tell(learner: str, method: str, *args: Any, **options: Any) -> None:
    """On the first rank: have the others call that method of their learner of that name; arguments can be pickled.

    The learner "" is what opens the others.
    """
    if world() > 1 and rank() == 0:
        _send((learner, method, args, options))


def follow(open_learner: Callable[..., Any]) -> None:
    """On the others: make the calls that the first rank tells, until it ends.

    `open_learner` takes what a learner "" is told, and returns one; several may be opened, each known by its name.
    """
    learners: dict[str, Any] = {}
    while (call := _send(None)) is not None:
        name, method, args, options = call
        if not name:
            learner = open_learner(*args, **options)
            learners[learner.name] = learner
            continue
        # Raised on the first rank too, which decides what becomes of the run.
        with suppress(FloatingPointError, Undrawn):
            getattr(learners[name], method)(*args, **options)


def _send(message: Any) -> Any:
    """The first rank's message, on every rank."""
    box = [message]
    dist.broadcast_object_list(box, src=0, group=_calls, device=torch.device("cpu"))
    return box[0]


def gathered(value: Any) -> list[Any]:
    """Every rank's value, in the order of ranks, on every rank."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def passes(rows: Sequence[Row], budget: int) -> list[list[list[Row]]]:
    """This rank's micro-batches of a step (`micro_batches`).

    Each pass through the sharded model needs every rank. A rank with fewer micro-batches than another has empty ones.
    """
    shares = [micro_batches(share, budget) for share in deal(rows, world())] if world() > 1 else []
    own = shares[rank()] if shares else micro_batches(rows, budget)
    return own + [[]] * (max(map(len, shares), default=0) - len(own))


def deal(rows: Sequence[Row], ranks: int) -> list[list[Row]]:
    """The rows of each rank. Whole groups; where these are few, halves or quarters of them.

    A part of a group computes its page anew, so groups are cut only where the longest share shrinks by a tenth.
    """
    by_group: dict[int, list[Row]] = {}
    for row in rows:
        by_group.setdefault(row.group_id, []).append(row)
    parts = list(by_group.values())
    shares, tokens = _dealt(parts, ranks)
    for _ in range(_CUTS):
        parts = [half for part in parts for half in _halves(part)]
        finer, fewer = _dealt(parts, ranks)
        if max(fewer) < (1 - _WORTH) * max(tokens):
            shares, tokens = finer, fewer
    return shares


def _dealt(parts: Sequence[list[Row]], ranks: int) -> tuple[list[list[Row]], list[int]]:
    """The longest part first, each to who has the fewest tokens; the shares, and their tokens."""
    shares: list[list[Row]] = [[] for _ in range(ranks)]
    tokens = [0] * ranks
    for part in sorted(parts, key=packed_length, reverse=True):
        least = tokens.index(min(tokens))
        shares[least] += part
        tokens[least] += packed_length(part)
    return shares, tokens


def _halves(part: list[Row]) -> list[list[Row]]:
    middle = (len(part) + 1) // 2
    return [half for half in (part[:middle], part[middle:]) if half]


def shard(network: nn.Module, blocks: Sequence[nn.Module], *, short: bool, exact: Sequence[nn.Module] = ()) -> None:
    """Cut a network's weights up over the ranks (FSDP2), block by block; gradients are summed, in float32.

    All start as the first rank's, which alone has read them: each rank is sent its part, one weight at a time. `short`:
    weights travel in bfloat16 and are computed with so, as under autocast; those of `exact` parts (a head) do not.
    """
    if world() == 1:
        return
    first = {name: weight.detach() for name, weight in network.named_parameters()} if rank() == 0 else {}
    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (world(),))
    mixed, plain = (
        MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for dtype in (torch.bfloat16 if short else None, None)
    )
    # The root is freed after each pass too: a pass without gradients would otherwise leave weights that the next
    # update or checkpoint makes stale.
    for part, policy in (*((part, plain) for part in exact), *((part, mixed) for part in (*blocks, network))):
        sharded: Any = fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)  # the weights of rows are those of the whole step: sum, no mean
        sharded.set_force_sum_reduction_for_comms(True)  # gloo cannot multiply on the way
    with torch.no_grad():
        for name, weight in network.named_parameters():
            full = first.pop(name) if rank() == 0 else torch.empty(weight.shape, dtype=weight.dtype)
            weight.copy_(distribute_tensor(full, mesh, weight.placements))  # type: ignore[attr-defined]
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that is cut up over the ranks. Every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tree: Any) -> Any:
    """Nested dicts and lists with this rank's part of each tensor that is cut up, on the CPU, and all of the others."""

    def part(leaf: Any) -> Any:
        return leaf.to_local().detach().to("cpu", copy=True) if isinstance(leaf, DTensor) else leaf

    return tree_map(part, tree)


def joined(parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """A tensor of that shape from every rank's part of it (FSDP2 cuts rows); the first one where it was not cut up."""
    first = parts[0]
    cut = first.ndim == len(shape) and first.shape[1:] == torch.Size(shape[1:]) and first.shape != torch.Size(shape)
    return torch.cat(list(parts)) if cut else first


def file_of(path: Path, k: int) -> Path:
    """Where rank `k` keeps its part: optim.pt, optim.1.pt, ..."""
    return path.with_suffix(f".{k}{path.suffix}") if k else path


def each(act: Callable[[], None]) -> None:
    """Every rank acts; when all have, the first one raises what any of them could not do."""
    error = None
    try:
        act()
    except Exception as raised:  # noqa: BLE001 the first rank decides what becomes of the run
        error = raised
    failed = [error for error in gathered(error) if error is not None]
    if failed and rank() == 0:
        raise failed[0]


def cut_like(tensor: Tensor, other: Tensor) -> Tensor:
    """This rank's part of a whole tensor, where `other`, of the same shape, is cut up."""
    if not isinstance(other, DTensor) or tensor.shape != other.shape:
        return tensor
    return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)


def to_the_end(items: Iterator[Any]) -> Iterator[Any]:
    """The items, each of which every rank gathers; the rest of them too where the reader stops early."""
    try:
        for item in items:  # noqa: UP028 (`yield from` would close them)
            yield item
    finally:
        if world() > 1:
            for _ in items:
                pass
