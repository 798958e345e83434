"""Pages over several machines: Ray Data hands them to workers, each with the same reader, and brings answers back.

Workers see the files under the same paths as this process, which alone writes rows: so a page is there once, whatever
happens to a worker or its machine. Ray gives the pages of one that is lost to another. On a machine with GPUs a worker
of a policy takes one.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ocr_rl.contract import Page
from ocr_rl.evaluate.endpoint import Read
from ocr_rl.evaluate.readers import Ask, AtEndpoint, Reader
from ocr_rl.extras import require
from ocr_rl.models.settings import PromptSettings

BATCH = 64  # pages that a worker is given at once; what a lost one costs


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRay:
    """A reader whose pages are read by workers of a Ray cluster."""

    reader: Reader
    address: str  # as ray.init takes it; "local" starts a cluster of this machine
    workers: int

    @property
    def model(self) -> str:
        return self.reader.model

    @property
    def settings(self) -> PromptSettings:
        return self.reader.settings

    def bound(self) -> Mapping[str, Any]:
        return self.reader.bound()

    @contextmanager
    def opened(self) -> Iterator[Ask]:
        require("ray", "--ray")
        import ray  # pyright: ignore[reportMissingImports]: an extra

        begun = not ray.is_initialized()
        if begun:
            ray.init(address=self.address, log_to_driver=False, logging_level="warning")
        try:
            yield self._read
        finally:
            if begun:
                ray.shutdown()

    def _read(self, pages: Iterable[Page]) -> Iterator[tuple[Page, Read]]:
        import ray  # pyright: ignore[reportMissingImports]

        todo = list(pages)
        ray.data.DataContext.get_current().enable_progress_bars = False
        gpus = 0 if isinstance(self.reader, AtEndpoint) or not ray.cluster_resources().get("GPU") else 1
        answers = ray.data.from_items([{"page": pickle.dumps(page)} for page in todo]).map_batches(
            _Worker,
            fn_constructor_args=(self.reader,),
            batch_size=min(BATCH, -(-len(todo) // self.workers)),
            compute=ray.data.ActorPoolStrategy(size=self.workers),
            num_gpus=gpus,
        )
        for row in answers.iter_rows():
            yield pickle.loads(row["read"])  # noqa: S301 our own workers wrote it


class _Worker:
    """A reader that stays open while its worker lives."""

    def __init__(self, reader: Reader) -> None:
        self._open = reader.opened()
        self._ask = self._open.__enter__()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        pages = [pickle.loads(page) for page in batch["page"]]  # noqa: S301
        return {"read": [pickle.dumps(pair) for pair in self._ask(pages)]}
