"""The learner's end of vLLM's own weight transfer: from here to one server, with no file. Written for vLLM 0.32.

vLLM's code for trainers is asked as it stands (`WeightTransferTrainerFactory`); it drives the server through
our wire. NCCL waits for good for a peer that has died, so whichever fails first, the call or the transfer, ends both.
"""

from __future__ import annotations

import base64
import pickle
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch
from torch import Tensor
from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.base import ParamMeta, TrainerInitInfo, WeightSource
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from ocr_rl.rollout.aside import begin
from ocr_rl.rollout.sampler.wire import ServerDown, Wire

PIECE = 2**28  # bytes that are sent at once; a larger weight goes alone. NCCL has two on their way

T = TypeVar("T")


class Channel:
    """To one server, for as long as it runs."""

    def __init__(self, backend: str, wire: Wire, weights: Mapping[str, Tensor]) -> None:
        """Meet the server; `weights` says how large the largest one will be. Raises whatever goes wrong."""
        self._client = _Client(wire)
        self._source = _Source(weights)
        self._sender: Any = None
        init = INITS[backend](wire, max(PIECE, *(weight.nbytes for weight in weights.values())))
        meet = partial(WeightTransferTrainerFactory.trainer_init, init, client=self._client, source=self._source)
        self._sender = self._done(meet)

    def send(self, weights: Mapping[str, Tensor]) -> None:
        """The server holds these weights then, but has caches of the old ones. Raises whatever goes wrong."""
        self._source.weights = weights
        try:
            self._done(self._sender.send_weights)
        finally:
            self._source.weights = {}

    def close(self) -> None:
        """Also what ends a transfer whose other end is gone."""
        if self._sender is not None:
            self._sender.shutdown()

    def _done(self, act: Callable[[], T]) -> T:
        """What it answers, unless the server refuses meanwhile, or it takes longer than a call may."""
        doing: Future[Any] = begin(act)
        wait([doing, self._client.failed], self._client.wire.deadline_s, FIRST_COMPLETED)
        try:
            if self._client.failed.done():
                self._client.failed.result()
            if not doing.done():
                raise ServerDown(f"did not take the weights within {self._client.wire.deadline_s:g} s")
            return doing.result()
        except BaseException:
            self.close()
            raise


class _Client:
    """What vLLM's senders ask of a server (`VLLMWeightSyncClient`)."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.failed: Future[None] = Future()

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._call("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        self._call("/start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        if (handles := update_info.pop("ipc_handles", None)) is not None:  # tuples that JSON does not have
            update_info["ipc_handles_pickled"] = base64.b64encode(pickle.dumps(handles)).decode("ascii")
        self._call("/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._call("/finish_weight_update")  # the version is told once the caches are empty

    def _call(self, path: str, body: Any = None) -> None:
        try:
            self.wire.call(path, body)
        except Exception as error:
            if not self.failed.done():
                self.failed.set_exception(error)
            raise


class _Source(WeightSource):
    """Weights on the host, each on the device when its turn comes."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(name, weight.dtype, tuple(weight.shape)) for name, weight in self.weights.items()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, weight.to(self._device)) for name, weight in self.weights.items())


def _nccl(wire: Wire, piece: int) -> TrainerInitInfo:
    """The learner is the first of the group, each of the server's GPUs another; they meet at a free port here."""
    parts = urlsplit(wire.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    with socket.create_connection((parts.hostname or "127.0.0.1", port), timeout=wire.deadline_s) as towards:
        address = towards.getsockname()[0]
    with socket.socket() as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    others = int(wire.call("/get_world_size", method="GET")["world_size"])
    return NCCLTrainerInitInfo(
        rank=0,
        master_address=address,
        master_port=port,
        world_size=1 + others,
        packed=True,
        packed_buffer_size_bytes=piece,
    )


def _ipc(wire: Wire, piece: int) -> TrainerInitInfo:
    """One piece of memory of the GPU that both are on, used again and again."""
    return IPCTrainerInitInfo(rank=0, packed=True, packed_buffer_size_bytes=piece)


INITS: dict[str, Callable[[Wire, int], TrainerInitInfo]] = {"nccl": _nccl, "ipc": _ipc}
