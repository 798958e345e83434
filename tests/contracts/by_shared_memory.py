"""A backend of vLLM's weight transfer that needs no GPU, registered in the tests' own servers and processes alone.

As CUDA IPC does it hands over a piece of memory at a time and its name, and the server reads it; the memory is a file
that both see. What is around it (vLLM's session, the layers that are loaded piece by piece) is that of NCCL and IPC.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from torch import Tensor

from ocr_rl.rollout.sampler import vllm_transfer

from ocr_rl.rollout.sampler.vllm import sending  # isort: skip  (before vLLM: it says what vLLM reads when it is imported)
from vllm.distributed.weight_transfer import WeightTransferEngineFactory, WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

NAME = "shared_memory"
PIECE = 7  # weights at once
SPOILT = "OCR_RL_TEST_SPOILS"  # a file: while it is there, the server breaks off, or changes what it reads


@dataclass
class Init(WeightTransferInitInfo):
    folder: str


@dataclass
class Update(WeightTransferUpdateInfo):
    path: str


class Receiver(WeightTransferEngine[Init, Update]):
    init_info_cls, update_info_cls = Init, Update

    def init_transfer_engine(self, init_info: Init) -> None:
        self.folder = Path(init_info.folder)

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: Update) -> None:
        assert self.folder in Path(update_info.path).parents
        weights: dict[str, Tensor] = torch.load(update_info.path, weights_only=True)
        self.model.load_weights(iter(self._spoilt(weights)))

    def _spoilt(self, weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        fault = Path(os.environ[SPOILT]).read_text() if Path(os.environ.get(SPOILT, "/nowhere")).exists() else ""
        for name, weight in weights.items():
            if fault == "breaks off" and ".layers.2.self_attn.v_proj" in name:  # the engine stacks it with two others
                raise RuntimeError("broken off")
            yield name, weight * 1.5 if fault == "rounds" else weight

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None:
        pass


@dataclass
class SenderInit(TrainerInitInfo):
    backend: ClassVar[str] = NAME
    folder: str


class Sender(TrainerWeightTransferEngine[SenderInit]):
    init_info_cls = SenderInit

    @classmethod
    def trainer_init(cls, init_info: SenderInit, *, client: Any, source: Any = None) -> Self:
        client.init_weight_transfer_engine({"folder": init_info.folder})
        sender = cls(client=client, source=source)
        sender.folder = Path(init_info.folder)
        return sender

    folder: Path

    def send_weights(self) -> None:
        assert self.source is not None
        self.client.start_weight_update()
        for i, piece in enumerate(self._pieces()):
            path = self.folder / f"{i}.pt"
            torch.save(piece, path)
            self.client.update_weights({"path": str(path)})
            path.unlink()
        self.client.finish_weight_update()

    def _pieces(self) -> Iterator[dict[str, Tensor]]:
        assert self.source is not None
        weights = list(self.source)
        for start in range(0, len(weights), PIECE):
            yield dict(weights[start : start + PIECE])


def open_way(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From this process too, as from one with a GPU: pieces go through `folder`."""
    register()
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(vllm_transfer, "can_send", lambda backend=NAME: backend == NAME)
    monkeypatch.setitem(sending.INITS, NAME, lambda wire, piece: SenderInit(rank=0, folder=str(folder)))


def register() -> None:
    """An entry point of vLLM's in the test's servers; called by the test in its own process."""
    if NAME not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(NAME, Receiver)
        WeightTransferTrainerFactory.register_engine(NAME, Sender)
