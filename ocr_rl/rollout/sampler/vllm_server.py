"""vLLM's own server over HTTP, or several: for engines on other devices, or other machines, than the learner's.

It knows nothing about scoring or training. Token ids go in with the page's image, token ids and log-probabilities come
out (`/inference/v1/generate`); weights are sent (`vllm_transfer`), or written to a folder that the servers read too. A
server serves one run at a time.

A server that is dead, too slow, or holds other weights is reported in one line and waited for; the pages that it has
not answered go to the others meanwhile, or to itself once it is back and has the weights. Seeds are by page and sample,
so whoever answers writes the samples of an undisturbed run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ocr_rl.contract import Page, UserError
from ocr_rl.models.load import DTYPES, load_config
from ocr_rl.models.weights import Weights
from ocr_rl.rollout.flow import Group, Prompt
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampling, require_room
from ocr_rl.rollout.sampler.server import Server
from ocr_rl.rollout.sampler.shares import Shares
from ocr_rl.rollout.sampler.vllm_loads import Load, Loads
from ocr_rl.rollout.sampler.wire import ServerDown, Wire

LATE_S = 10.0  # for which the other servers are waited for at least, once one holds the weights


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    url: str | tuple[str, ...]  # of one server, or of each
    max_model_len: int = 2048  # of prompt and sample together; the servers' own must not be smaller
    max_num_seqs: int = 256  # samples that one server writes side by side
    dtype: str = "float32"  # that the servers compute in, as far as is known: weights travel in no longer one
    weights_dir: Path | None = None  # must have the same path here and there; None: the temporary folder
    deadline_s: float = 600.0  # for every remote call
    wait_s: float = 600.0  # for every wait for a server to come (back)

    @property
    def urls(self) -> tuple[str, ...]:
        return (self.url,) if isinstance(self.url, str) else self.url


class VllmServerSampler:
    """A `Sampler` over running `vllm serve`s that this run has to itself."""

    def __init__(self, model: str | Path, prompter: Prompter, settings: ServerSettings) -> None:
        """`model` is the folder that the servers read first.

        Raises UserError when none comes, or one was started with settings that do not fit.
        """
        prompter.family.require_engine(load_config(str(model)))
        self.policy = 0
        self.engines = len(settings.urls)
        self._settings = settings
        several = self.engines > 1
        self._servers = [
            Server(
                Wire(url, deadline_s=settings.deadline_s, wait_s=settings.wait_s, several=several),
                prompter,
                settings.max_model_len,
            )
            for url in settings.urls
        ]
        self._loads: Loads | None = Loads(model, prompter.family, settings.weights_dir, DTYPES[settings.dtype])
        try:
            self._have_it_held()
        except BaseException:
            self.close()
            raise

    def sample(self, prompts: Sequence[tuple[Page, Prompt]], how: Sampling) -> Iterator[Group]:
        load = self._open().now
        for _, prompt in prompts:
            require_room(prompt, how, self._settings.max_model_len)
        shares = Shares[Server](len(prompts))
        coming: dict[Future[Any], Server] = {server.come(self._now): server for server in self._servers}
        ready: list[Server] = []
        asked: dict[Future[Any], tuple[Server, int]] = {}

        def lose(server: Server, down: ServerDown) -> None:
            server.fails(down)
            ready.remove(server)
            shares.lose(server)
            _drop(asked, [future for future, (writer, _) in asked.items() if writer is server])
            coming[server.come(self._now)] = server

        try:
            while shares.left:
                for server, place in shares.hand_out(ready, self._room(len(prompts), how.n, ready, coming.values())):
                    asked[server.ask(*prompts[place], how, load)] = (server, place)
                for future in wait([*asked, *coming], return_when=FIRST_COMPLETED).done:
                    if future in coming:
                        self._welcome(coming, future, ready)
                    if future not in asked:  # it came, or was dropped by what came before it
                        continue
                    server, place = asked.pop(future)
                    try:
                        group = server.read(*prompts[place], future.result(), how, load)
                    except ServerDown as down:
                        lose(server, down)
                        continue
                    server.forgive()
                    shares.answered(place, server)
                    _drop(asked, [other for other, (_, same) in asked.items() if same == place])
                    yield group
        finally:
            _drop(asked, list(asked))

    def load(self, weights: Weights, policy: int) -> None:
        loads = self._open()
        self.policy = policy
        loads.take(weights, policy, keep=any(server.transfer.offered for server in self._servers))
        self._have_it_held()
        loads.forget_others()

    def close(self) -> None:
        if self._loads is not None:
            self._loads.close()
            self._loads = None
            for server in self._servers:
                server.transfer.close()
                server.wire.close()

    def _room(self, pages: int, n: int, ready: Sequence[Server], coming: Iterable[Server]) -> int:
        """Pages that may be on their way to one server: its share, so that those which are just asking what they hold
        find theirs; of several servers one page more than it writes side by side, so that none waits for the next.
        """
        well = len(ready) + sum(server.down is None for server in coming)
        share = -(-pages // max(1, well))
        return share if len(self._servers) == 1 else min(share, 1 + self._settings.max_num_seqs // n)

    def _have_it_held(self) -> None:
        """Until each server that is well holds the load, and one at least; the others get it when they are back.

        One that takes more than twice as long as the first may hang: `sample` asks it when it is there.
        """
        began, ready = time.monotonic(), list[Server]()
        trying = {server.come(self._now): server for server in self._servers if server.down is None}

        def hear(done: Iterable[Future[Any]]) -> None:
            for future in done:
                server = trying.pop(future)
                with suppress(ServerDown):  # any other error is one of settings
                    future.result()
                    ready.append(server)

        while trying and not ready:
            hear(wait(trying, return_when=FIRST_COMPLETED).done)
        hear(wait(trying, timeout=max(LATE_S, time.monotonic() - began)).done)
        for late in trying.values():
            tqdm.write(f"The vLLM server {late.wire.url} has not read the weights yet: the others begin without it.")
        coming: dict[Future[Any], Server] = {} if ready else {s.come(self._now): s for s in self._servers}
        while not ready:
            for future in wait(coming, return_when=FIRST_COMPLETED).done:
                self._welcome(coming, future, ready)

    def _welcome(self, coming: dict[Future[Any], Server], future: Future[Any], ready: list[Server]) -> None:
        """What became of a server's coming: it is ready, comes again, or is left out until somebody asks anew.

        UserError where no other one is ready or on its way.
        """
        server = coming.pop(future)
        try:
            future.result()
        except ServerDown:
            coming[server.come(self._now)] = server
        except UserError as error:
            if not ready and not coming:
                of_all = f"None of the {len(self._servers)} servers is left. " if len(self._servers) > 1 else ""
                raise UserError(f"{of_all}{error}") from None
            server.forgive()  # the next step gives it another chance
            tqdm.write(f"{error} The other servers go on without it.")
        else:
            ready.append(server)

    def _now(self) -> Load:
        return self._open().now

    def _open(self) -> Loads:
        if self._loads is None:
            raise RuntimeError("the sampler is closed")
        return self._loads


def _drop(asked: dict[Future[Any], tuple[Server, int]], futures: Sequence[Future[Any]]) -> None:
    """Give up what is no longer wanted; a server that is there ends it."""
    for future in futures:
        del asked[future]
        future.cancel()
