"""Run a function over many jobs in worker processes that may hang, crash or eat memory without taking us along.

A job that does so, or whose function raises, comes back as a `Refusal` with the reason, in its place among the
results, and the jobs after it go on. Knows nothing about PDFs.
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
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

MEMORY_BYTES = 2**31  # private writable memory of one worker (RLIMIT_DATA)
START_S = 120.0

# A fresh interpreter rather than multiprocessing's spawn: that would run the caller's main module again in every
# worker, with whatever it imports. A fork would copy the locks of the parent's threads.
_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from {0} import serve; serve(int(sys.argv[2]))"

Job = TypeVar("Job")
Result = TypeVar("Result")


class Refusal(Exception):
    """Why a job has no result: raised by the function itself, or made up for one that hung, crashed or raised."""


class OutOfMemory(Refusal):
    """The worker is full, maybe of what earlier jobs left: it is ended, and the next job gets a fresh one."""


@dataclass(slots=True)
class _Slot:
    """A job on its way; results leave in the order of the jobs."""

    job: Any
    result: Any = None
    done: bool = False


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    conn: Connection
    slot: _Slot | None = None
    ready: bool = False  # its imports are done
    deadline_s: float = 0.0


class Pool:
    """Workers for one function, kept from call to call; `close` ends them, as does leaving a `with` block.

    The function must be importable by name; jobs and results must pickle. `timeout_s` is for one job, the start of a
    worker not counted. Workers start when they are needed and are used again until they have to be killed.
    `memory_bytes` bounds the memory that a worker may write to; address space that is only reserved (V8 does) does not
    count.
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
        """(job, result or Refusal) in the order of the jobs, at most 2 * workers of them read ahead."""
        source, order, pool = iter(jobs), deque[_Slot](), self._pool
        try:
            while True:
                while len(order) < 2 * self._workers and sum(each.slot is not None for each in pool) < self._workers:
                    try:
                        order.append(_Slot(next(source)))
                    except StopIteration:
                        break
                    worker = next((each for each in pool if each.slot is None), None)
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
            for worker in [each for each in pool if each.slot is not None]:  # given up half-way
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
) -> Iterator[tuple[Job, Result | Refusal]]:
    """(job, function(job)) in the order of the jobs, from a `Pool` that lives as long as the jobs do."""
    with Pool(function, workers=workers, timeout_s=timeout_s, memory_bytes=memory_bytes) as pool:
        yield from pool.run(jobs)


def _hand(slot: _Slot, worker: _Worker, timeout_s: float) -> None:
    worker.slot = slot
    worker.deadline_s = time.monotonic() + (timeout_s if worker.ready else START_S)
    with contextlib.suppress(OSError):  # it has died meanwhile, which _collect finds out
        worker.conn.send(slot.job)


def _collect(pool: list[_Worker], timeout_s: float) -> None:
    """Wait until a worker has something to say or its time is up; takes the dead out of the pool."""
    busy = {worker.conn: worker for worker in pool if worker.slot is not None}
    wait_s = min(worker.deadline_s for worker in busy.values()) - time.monotonic()
    heard = wait(list(busy), max(0.0, wait_s))
    for conn, worker in busy.items():
        if conn in heard:
            try:
                message = conn.recv()
            except (EOFError, OSError):
                message = _end(worker, pool, "it crashed its process")
            except (Exception, SystemExit) as error:  # noqa: BLE001 reading a result back may run what the job made
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
    if not worker.ready:  # no job's fault, and the next worker would fare no better
        raise RuntimeError("a worker process died or hung before its first job; its words are on stderr")
    return Refusal(reason)


def _start(function: Callable[[Any], Any], timeout_s: float, memory_bytes: int) -> _Worker:
    ours, theirs = Pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", _BOOT.format(__name__), json.dumps(sys.path), str(theirs.fileno())],
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
        os.killpg(worker.process.pid, signal.SIGKILL)  # its session is its own: what the job started ends with it
    worker.process.wait()
    worker.conn.close()


def serve(fd: int) -> None:
    """A worker's life: jobs in, results or refusals out, until the parent goes away."""
    conn = Connection(fd)
    with contextlib.suppress(EOFError, OSError):  # the parent has gone
        function, timeout_s, memory_bytes = conn.recv()
        _limit_memory(memory_bytes)
        conn.send(None)
        own = os.getpid()
        while True:
            job = conn.recv()
            signal.alarm(math.ceil(timeout_s) + 5)  # ends a hung worker even when the parent is no more
            result = _attempt(function, job, memory_bytes)
            signal.alarm(0)
            if os.getpid() != own:
                os._exit(1)  # a copy that the job left behind: its answer would be taken for the next job's
            conn.send(result)


def _attempt(function: Callable[[Any], Any], job: Any, memory_bytes: int) -> Any:
    try:
        return function(job)
    except Refusal as refusal:
        return refusal
    except MemoryError:
        return OutOfMemory(f"it needs more than {memory_bytes / 2**30:.0f} GiB of memory")
    except Exception as error:  # noqa: BLE001 the boundary: whatever went wrong is this job's fault alone
        return Refusal(f"{type(error).__name__}: {error}")


def _limit_memory(limit_bytes: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # not every system has such limits
        import resource

        # not RLIMIT_AS: V8 reserves far more address space than it uses
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
