"""Run a function over many jobs in worker processes, which may hang, crash or eat memory and do not take us along.

Such a job comes back as a `Refusal` with the reason, in its place among the results. So does a job whose function
raises. The jobs after it go on. Knows nothing about PDFs.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from ocr_rl.contract import NoWorker

MEMORY_BYTES = 2**31  # private writable memory of one worker (RLIMIT_DATA)
START_S = 300.0  # imports of a busy machine

# Every worker is a fresh interpreter. multiprocessing's spawn would run the caller's main module again in each, with
# whatever it imports; a fork would copy the locks of the parent's threads.
_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from {0} import serve; serve(int(sys.argv[2]))"

Job = TypeVar("Job")
Result = TypeVar("Result")


class Refusal(Exception):
    """Why a job has no result. The function raises it, or the pool makes it for a job that hung, crashed or raised."""


class OutOfMemory(Refusal):
    """The worker's memory is full. Earlier jobs may have filled it, so the next job gets a fresh worker."""


@dataclass(slots=True)
class _Slot:
    """A job on its way, and its result once there is one. Results leave in the order of the jobs."""

    job: Any
    result: Any = None
    done: bool = False


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    conn: Connection
    slot: _Slot | None = None
    ready: bool = False  # whether its imports are done
    deadline_s: float = 0.0


class Pool:
    """Workers for one function, kept from call to call. `close` ends them, as does leaving a `with` block.

    The function must be importable by name; jobs and results must pickle. `timeout_s` is the time of one job, without
    the start of its worker. Workers start when they are needed and serve until they have to be killed. `memory_bytes`
    bounds the memory that a worker writes to; address space that it only reserves, as V8 does, does not count.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        workers: int,
        timeout_s: float,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        if workers < 1 or timeout_s <= 0:
            raise ValueError(f"workers and timeout_s must be positive, got {workers} and {timeout_s}")
        self._function, self._workers, self._timeout_s, self._memory_bytes = function, workers, timeout_s, memory_bytes
        self._pool: list[_Worker] = []

    def run(self, jobs: Iterable[Any]) -> Generator[tuple[Any, Any], None, None]:
        """(job, result or Refusal) in the order of the jobs. At most 2 * workers jobs are read ahead."""
        source, order, pool = iter(jobs), deque[_Slot](), self._pool
        try:
            while True:
                while len(order) < 2 * self._workers and len(_busy(pool)) < self._workers:
                    try:
                        order.append(_Slot(next(source)))
                    except StopIteration:
                        break
                    worker = next((worker for worker in pool if worker.slot is None), None)
                    if worker is None:
                        worker = _start(self._function, self._timeout_s, self._memory_bytes)
                        pool.append(worker)
                    _hand(order[-1], worker, self._timeout_s)
                if not order:
                    return
                _collect(pool, self._timeout_s)
                while order and order[0].done:
                    done = order.popleft()
                    yield done.job, done.result
        finally:
            for worker in _busy(pool):  # the caller gave up half-way
                pool.remove(worker)
                _stop(worker)

    def close(self) -> None:
        while self._pool:
            _stop(self._pool.pop())

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def guarded(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int,
    timeout_s: float,
    memory_bytes: int = MEMORY_BYTES,
) -> Generator[tuple[Job, Result | Refusal], None, None]:
    """(job, function(job)) in the order of the jobs, from a `Pool` that lives as long as the jobs do."""
    with Pool(function, workers=workers, timeout_s=timeout_s, memory_bytes=memory_bytes) as pool:
        yield from pool.run(jobs)


def _busy(pool: list[_Worker]) -> list[_Worker]:
    return [worker for worker in pool if worker.slot is not None]


def _hand(slot: _Slot, worker: _Worker, timeout_s: float) -> None:
    worker.slot = slot
    worker.deadline_s = time.monotonic() + (timeout_s if worker.ready else START_S)
    with contextlib.suppress(OSError):  # the worker has died meanwhile, which _collect notices
        worker.conn.send(slot.job)


def _collect(pool: list[_Worker], timeout_s: float) -> None:
    """Wait until a worker answers or its time is up, and remove dead workers from the pool."""
    busy = {worker.conn: worker for worker in _busy(pool)}
    wait_s = min(worker.deadline_s for worker in busy.values()) - time.monotonic()
    heard = wait(list(busy), max(0.0, wait_s))
    for conn, worker in busy.items():
        if conn in heard:
            try:
                message = conn.recv()
            except (EOFError, OSError):
                message = _end(worker, pool, "it crashed its process")
            except (Exception, SystemExit) as error:  # noqa: BLE001 unpickling a result may run code of the job
                message = Refusal(f"its result cannot be read back: {type(error).__name__}: {error}")
            if not worker.ready:
                worker.ready, worker.deadline_s = True, time.monotonic() + timeout_s
                continue
            if isinstance(message, OutOfMemory):
                _end(worker, pool, "")
        elif time.monotonic() >= worker.deadline_s:
            message = _end(worker, pool, f"it took longer than {timeout_s:g} s")
        else:
            continue
        assert worker.slot is not None
        worker.slot.result, worker.slot.done, worker.slot = message, True, None


def _end(worker: _Worker, pool: list[_Worker], reason: str) -> Refusal:
    pool.remove(worker)
    _stop(worker)
    if not worker.ready:  # it is no job's fault, and the next worker would fare no better
        raise NoWorker(
            f"A worker process died before its first job, or did not begin within {START_S:g} s. What it said is on "
            "stderr; if that is nothing, the machine is too busy or its memory is full."
        )
    return Refusal(reason)


def _start(function: Callable[[Any], Any], timeout_s: float, memory_bytes: int) -> _Worker:
    ours, theirs = Pipe()
    process = subprocess.Popen(
        # -P: nothing of the working folder's is imported before the caller's own path is set
        [sys.executable, "-P", "-c", _BOOT.format(__name__), json.dumps(sys.path), str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        start_new_session=True,  # Ctrl-C is for the parent
    )
    theirs.close()
    ours.send((function, timeout_s, memory_bytes))
    return _Worker(process, ours)


def _stop(worker: _Worker) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.process.pid, signal.SIGKILL)  # the worker leads a session: what its job started ends too
    worker.process.wait()
    worker.conn.close()


def serve(fd: int) -> None:
    """A worker's life: it takes jobs and sends results or refusals until the parent goes away."""
    conn = Connection(fd)
    with contextlib.suppress(EOFError, OSError):  # the parent has gone
        function, timeout_s, memory_bytes = conn.recv()
        _limit_memory(memory_bytes)
        conn.send(None)
        own = os.getpid()
        while True:
            job = conn.recv()
            signal.alarm(math.ceil(timeout_s) + 5)  # ends a hung worker even if the parent is gone
            result = _attempt(function, job, memory_bytes)
            signal.alarm(0)
            if os.getpid() != own:
                os._exit(1)  # this is a fork that the job left behind; its answer would pass for the next job's
            conn.send(result)


def _attempt(function: Callable[[Any], Any], job: Any, memory_bytes: int) -> Any:
    try:
        return function(job)
    except Refusal as refusal:
        return refusal
    except MemoryError:
        return OutOfMemory(f"it needs more than {memory_bytes / 2**30:.0f} GiB of memory")
    except Exception as error:  # noqa: BLE001 the boundary: whatever went wrong is the fault of this job alone
        return Refusal(f"{type(error).__name__}: {error}")


def _limit_memory(limit_bytes: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # not every system has such limits
        import resource

        # not RLIMIT_AS: V8 reserves far more address space than it uses
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
