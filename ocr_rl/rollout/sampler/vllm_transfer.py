"""Weights to one vLLM server by vLLM's own transfer, where server and learner have one in common. It knows no files.

A server says by which one it was started (`--weight-transfer-config`): "nccl" reaches GPUs other than the learner's,
here or on other machines, "ipc" (CUDA IPC) the learner's own. Nothing is to be chosen here.

What comes that way is compared once with what the server reads from a file of the same weights, by its own digests; a
transfer that fails or differs is not used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from ocr_rl.rollout.sampler.wire import ServerDown, Wire

if TYPE_CHECKING:
    from ocr_rl.rollout.sampler.vllm.sending import Channel

TRIES = 2  # servers of one place, started one after the other, that may fail before it is left at files


class Transfer:
    """To whoever serves at one address."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._backend: str | None = None
        self._channel: Channel | None = None
        self._failed = 0
        self.proven = False  # what came was what a file says
        self.torn = False  # one broke off, and what the server holds is neither old nor new

    @property
    def offered(self) -> bool:
        """Whether the server is to be sent weights, so that they need not be written."""
        return self._backend is not None

    def meet(self, *, used: bool) -> None:
        """A server that this one has not spoken to: what does it offer?

        `used`, by another run: a transfer may have broken off with that one's process, and nobody has told.
        """
        self.close()
        self.proven = self.torn = False
        sends = self._failed < TRIES and can_send()
        if sends or used:
            info = self._wire.call("/server_info", method="GET", params={"config_format": "json"})
            offer = ((info.get("vllm_config") or {}).get("weight_transfer_config") or {}).get("backend")
            self._backend = offer if sends and can_send(offer) else None
            self.torn = used and offer is not None

    def send(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether the server took them. Where not, it is `torn`, and a line has said why."""
        from ocr_rl.rollout.sampler.vllm.sending import Channel

        assert self._backend is not None  # `offered`
        self.torn = True
        try:
            if self._channel is None:
                self._channel = Channel(self._backend, self._wire, weights)
            self._channel.send(weights)
        except Exception as error:  # the caller goes on by file, whatever NCCL, CUDA or the server said
            why = str(error).strip().splitlines() or [type(error).__name__]
            self.give_up(f"it {why[0][:200]}" if isinstance(error, ServerDown) else why[0][:200])
            return False
        self.torn = False
        return True

    def give_up(self, why: str) -> None:
        """Not by this way any more: the server reads files."""
        tqdm.write(f"The vLLM server {self._wire.url} gets its weights as files, not by {self._backend}: {why}.")
        self._failed += 1
        self.close()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._backend = self._channel = None


def can_send(backend: str | None = "nccl") -> bool:
    """Whether this process could send so: from a GPU, with vLLM's code, and with IPC as the only learner."""
    if backend not in ("nccl", "ipc") or not torch.cuda.is_available() or find_spec("vllm") is None:
        return False
    return backend == "nccl" or not dist.is_initialized() or dist.get_world_size() == 1
