"""The wire to a vLLM server: calls with a deadline, and waiting for a server that is dead or starting.

Knows nothing about pages or weights.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

import httpx
from tqdm import tqdm

from ocr_rl.contract import UserError

REDOS = 3  # failures in a row without one new group, after which waiting helps no more
IN_FLIGHT = 256  # requests at most; more than an engine runs side by side, and fewer than a process may have sockets
CONNECT_S = 10.0
POLL_S = 1.0
HOW_TO_START = (
    "start vLLM with VLLM_SERVER_DEV_MODE=1, --enable-scale-out and --logprobs-mode processed_logprobs (docs/gpu.md)"
)


class ServerDown(Exception):
    """The server is dead, too slow, or not what it was: worth asking again once it is back."""


class Wire:
    """Calls to one server. `deadline_s` bounds each of them, `wait_s` every wait for the server to come (back).

    Where there are `several` servers, the line that says so speaks of the others.
    """

    def __init__(self, url: str, *, deadline_s: float, wait_s: float, several: bool = False) -> None:
        self.url = url.rstrip("/")
        self.deadline_s, self._wait_s = deadline_s, wait_s
        self._meanwhile = "its pages go to the others, it is tried again" if several else "waiting for it"
        self._closed = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._client = httpx.AsyncClient(
            base_url=self.url,
            timeout=httpx.Timeout(None, connect=CONNECT_S),  # `post` bounds the whole call, not each read
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),  # none left over from a dead server
            trust_env=False,
        )

    def close(self) -> None:
        """Give up the calls that are not answered, and waiting."""
        self._closed = True
        self.start(self._give_up()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _give_up(self) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await self._client.aclose()

    def wait(self, down: ServerDown, failures: int) -> None:
        """Say what happened and return once the server is well again. UserError when it does not get well."""
        if failures >= REDOS:
            raise UserError(
                f"The server {self.url} failed {failures} times in a row; the last time it {down}. Look into its "
                "log, then go on with --resume."
            )
        tqdm.write(f"The vLLM server {self.url} {down}: {self._meanwhile}, for at most {self._wait_s:g} s.")
        end = time.monotonic() + self._wait_s
        while not self._is_well():
            if self._closed:
                raise ServerDown("is given up")
            if time.monotonic() > end:
                raise UserError(
                    f"The server {self.url} {down}, and was not back within {self._wait_s:g} s "
                    f"(sampling.server_wait_s): {HOW_TO_START}, then go on with --resume."
                )
            time.sleep(POLL_S)

    def _is_well(self) -> bool:
        try:
            self.call("/health", method="GET", deadline_s=CONNECT_S)
        except ServerDown:
            return False
        return True

    def call(self, path: str, body: Any = None, **how: Any) -> dict[str, Any]:
        if self._closed:
            raise ServerDown("is given up")
        return self.start(self.post(path, body, **how)).result()

    def start(self, doing: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(doing, self._loop)

    async def post(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "POST",
        params: dict[str, str] | None = None,
        deadline_s: float | None = None,
        sentence: bool = False,
    ) -> dict[str, Any]:
        """The answer's JSON object, {} for none or where it is a `sentence`.

        Raises ServerDown; UserError for what asking again cannot mend.
        """
        deadline_s = deadline_s or self.deadline_s
        async with self._slots:
            try:
                async with asyncio.timeout(deadline_s):
                    answer = await self._client.request(method, path, json=body, params=params)
            except TimeoutError:
                raise ServerDown(f"did not answer {path} within {deadline_s:g} s") from None
            except httpx.TransportError as error:
                raise ServerDown(f"cannot be reached ({type(error).__name__} {error}".rstrip() + ")") from None
        reason = answer.text[:300].replace("\n", " ")
        if answer.status_code >= 500:
            raise ServerDown(f"answered {path} with {answer.status_code}: {reason}")
        if answer.status_code == 404 and "does not exist" in reason:  # our adapter: it was started again
            raise ServerDown(f"answered {path} with {answer.status_code}: {reason}")
        if answer.status_code in (403, 404):
            raise UserError(f"The server {self.url} does not offer {path}: {HOW_TO_START}.")
        if answer.status_code >= 400:
            raise UserError(f"The server {self.url} refuses {path} with {answer.status_code}: {reason}")
        if sentence:
            return {}
        try:
            return answer.json() if answer.content else {}
        except ValueError:
            raise ServerDown(f"broke off its answer to {path}") from None
