"""What servers are to hold: weights written to a folder that they see too, under a name that nothing else has.

It knows nothing about servers.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from ocr_rl.models.family import Family
from ocr_rl.models.load import load_model
from ocr_rl.models.weights import Adapter, Weights

ADAPTER = "ocr-rl-"  # what the names of our adapters on a server begin with


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One version of the policy. No other run and no other load has its `version`."""

    run: str
    number: int
    policy: int
    weights: Path  # all of them, or what lies under the adapters
    weights_number: int  # of the load that brought these
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


class Loads:
    """Writes each load; `now` is the last one, and the files of those before it go when it is held."""

    def __init__(self, model: str | Path, family: Family, folder: Path | None) -> None:
        """`model` is the folder that servers read first; `folder` must have the same path here and there."""
        self._family = family
        self._base: str | None = str(model)  # what lies under adapters; None: weights that came from a learner
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._dir = Path(tempfile.mkdtemp(prefix="weights-", dir=folder))
        self._run = uuid.uuid4().hex[:12]
        self.now = Load(run=self._run, number=0, policy=0, weights=Path(model).absolute(), weights_number=0)

    def take(self, weights: Weights, policy: int) -> None:
        number = self.now.number + 1
        folder = self._dir / f"{number:06d}"
        now = replace(self.now, number=number, policy=policy)
        if isinstance(weights, Adapter):
            weights.save(folder)
            if self._base != weights.base:
                # All names, as a learner's weights have them: from a folder without the tied head vLLM's CPU build
                # keeps the head that it had packed.
                now = replace(now, weights=self._dir / f"{number:06d}-base", weights_number=number)
                self._write(load_model(weights.base).state_dict().items(), now.weights)
                self._base = weights.base
            self.now = replace(now, adapter=weights, adapter_dir=folder)
        else:
            self._base = None
            self._write(weights, folder)
            self.now = replace(now, weights=folder, weights_number=number, adapter=None, adapter_dir=None)

    def forget_others(self) -> None:
        """Delete the files that the present load does not need."""
        for path in self._dir.iterdir():
            if path not in (self.now.weights, self.now.adapter_dir):
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self._dir, ignore_errors=True)

    def _write(self, weights: Iterable[tuple[str, Tensor]], folder: Path) -> None:
        """One safetensors file. Tied weights share their memory, which the format does not have: each gets its own."""
        own: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, weight in self._family.engine_names(weights):
            plain = weight.detach().cpu().contiguous()
            own[name] = plain.clone() if plain.data_ptr() in seen else plain
            seen.add(plain.data_ptr())
        folder.mkdir(parents=True)
        save_file(own, folder / "model.safetensors")
