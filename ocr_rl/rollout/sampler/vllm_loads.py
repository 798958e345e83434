"""What servers are to hold: weights under a name that nothing else has, in a folder that they see too.

Where a server takes weights without files (`vllm_transfer`) they are kept on the host instead: the learner moves on
meanwhile, and a server that comes late is to get what the others have. They are written when one asks for a file.
It knows nothing about servers.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import torch
from safetensors.torch import save_file
from torch import Tensor

from ocr_rl.models.family import Family
from ocr_rl.models.load import load_model
from ocr_rl.models.weights import Adapter, Weights, state_of

ADAPTER = "ocr-rl-"  # what the names of our adapters on a server begin with


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One version of the policy. No other run and no other load has its `version`."""

    run: str
    number: int
    policy: int
    weights: Path  # all of them, or what lies under the adapters
    weights_number: int  # of the load that brought these
    tensors: Mapping[str, Tensor] | None = field(default=None, repr=False)  # the same on the host, where kept
    adapter: Adapter | None = None
    adapter_dir: Path | None = None

    @property
    def version(self) -> str:
        """The name of the weights that a server should hold."""
        return f"{self.base_version}-{self.number}"

    @property
    def base_version(self) -> str:
        """What the name begins with where a server holds these weights, if not yet these adapters over them."""
        return f"{self.run}-{self.weights_number}"

    @property
    def model(self) -> str | None:
        """The model to ask for: our adapter, or None for the weights themselves."""
        return None if self.adapter is None else f"{ADAPTER}{self.version}"

    def file(self) -> Path:
        """The folder of the weights, written by whoever asks first."""
        with _WRITING:
            if self.tensors is not None and not self.weights.exists():
                _write(self.tensors, self.weights)
        return self.weights


_WRITING = Lock()


class Loads:
    """Takes each load; `now` is the last one, and the files of those before it go when it is held."""

    def __init__(
        self, model: str | Path, family: Family, folder: Path | None, dtype: torch.dtype | None = None
    ) -> None:
        """`model` is the folder that servers read first; `folder` must have the same path here and there.

        `dtype`: that servers compute in, where it is known; larger numbers are rounded to it before they travel.
        """
        self._family, self._dtype = family, dtype
        self._state: object | None = None  # of the weights that are held, with nothing over them
        self._base: str | None = str(model)  # what lies under adapters; None: weights that came from a learner
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._dir = Path(tempfile.mkdtemp(prefix="weights-", dir=folder))
        self._run = uuid.uuid4().hex[:12]
        self._taking = Lock()
        self._now = Load(run=self._run, number=0, policy=0, weights=Path(model).absolute(), weights_number=0)

    @property
    def now(self) -> Load:
        """The last load; a server that comes back while one is taken waits for that one."""
        with self._taking:
            return self._now

    def take(self, weights: Weights, policy: int, *, keep: bool = False) -> None:
        """A new load; weights that are those of the last one (`models.weights.Named`) are not read again.

        `keep` them on the host, for a server that takes them from there.
        """
        with self._taking:
            self._take(weights, policy, keep=keep)

    def _take(self, weights: Weights, policy: int, *, keep: bool) -> None:
        number = self._now.number + 1
        folder = self._dir / f"{number:06d}"
        now = replace(self._now, number=number, policy=policy)
        if isinstance(weights, Adapter):
            weights.save(folder)
            if self._base != weights.base:
                # All names, as a learner's weights have them: from a folder without the tied head vLLM's CPU build
                # keeps the head that it had packed.
                base = load_model(weights.base).state_dict().items()
                now = self._hold(base, now, self._dir / f"{number:06d}-base", keep=keep)
                self._base = weights.base
            self._now = replace(now, adapter=weights, adapter_dir=folder)
        else:
            self._base = None
            state, held = state_of(weights), self._state
            if state is None or state != held:
                now = self._hold(weights, now, folder, keep=keep)
            self._now = replace(now, adapter=None, adapter_dir=None)
            self._state = state

    def _hold(self, weights: Iterable[tuple[str, Tensor]], now: Load, folder: Path, *, keep: bool) -> Load:
        """The load with these weights: written, or kept."""
        self._now, self._state = replace(self._now, tensors=None), None  # room for the new ones
        tensors = self._on_host(weights, apart=keep)
        if not keep:
            _write(tensors, folder)
        return replace(now, weights=folder, weights_number=now.number, tensors=tensors if keep else None)

    def forget_others(self) -> None:
        """Delete the files that the present load does not need."""
        now = self.now
        for path in self._dir.iterdir():
            if path not in (now.weights, now.adapter_dir):
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self._dir, ignore_errors=True)

    def _on_host(self, weights: Iterable[tuple[str, Tensor]], *, apart: bool) -> dict[str, Tensor]:
        """By vLLM's names, each with memory of its own; `apart` from the learner's too, which moves on."""
        own: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, weight in self._family.engine_names(weights):
            plain = _rounded(weight.detach(), self._dtype).cpu().contiguous()
            shared = plain.data_ptr() in seen or (apart and plain.data_ptr() == weight.data_ptr())
            own[name] = plain.clone() if shared else plain
            seen.add(plain.data_ptr())
        return own


def _rounded(weight: Tensor, dtype: torch.dtype | None) -> Tensor:
    shorter = dtype is not None and weight.is_floating_point() and weight.dtype.itemsize > dtype.itemsize
    return weight.to(dtype) if shorter else weight


def _write(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """One safetensors file, which has no two names for one piece of memory."""
    part = folder.with_name(f"{folder.name}.part")  # what is there is whole
    part.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), part / "model.safetensors")
    part.rename(folder)
