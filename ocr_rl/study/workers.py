"""Worker processes that share a study's jobs: each takes the next one whose needs are there.

Knows nothing about what a job does.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from ocr_rl.contract import UserError
from ocr_rl.study.folder import Folder
from ocr_rl.study.jobs import Job, needs
from ocr_rl.study.plan import Study

_POLL_S = 0.5

Work = Callable[[Study, Folder, Iterator[Job]], None]  # does them one by one, in one process


@dataclass(frozen=True, slots=True)
class Queue:
    """What is left to do, shared by the workers: iterating takes job after job until none is left to begin."""

    jobs: Sequence[Job]
    study: Study
    folder: Folder
    until: float  # time.monotonic() after which no job begins
    lock: Any  # of multiprocessing, as is the next
    taken: Any  # a flag a job

    def __iter__(self) -> Iterator[Job]:
        while any(not taken for taken in self.taken) and time.monotonic() < self.until:
            with self.lock:
                free = (k for k, taken in enumerate(self.taken) if not taken)
                ready = next((k for k in free if self._is_ready(self.jobs[k])), None)
                if ready is not None:
                    self.taken[ready] = True
            if ready is not None:
                yield self.jobs[ready]
            else:
                time.sleep(_POLL_S)  # another worker is at what this one would need

    def _is_ready(self, job: Job) -> bool:
        names = needs(self.study, job)
        return all(self.folder.holds_model(name) or self.folder.failed(name).exists() for name in names)


def left_of(jobs: Sequence[Job], study: Study, folder: Folder) -> list[Job]:
    """Those that have not ended; and those that have, but whose models others need and which lie on another machine."""
    left: list[Job] = []
    wanted: set[str] = set()
    for job in reversed(jobs):  # nobody needs a later one
        if not folder.has_ended(job) or (job.name in wanted and not folder.holds_model(job.name)):
            left.append(job)
            wanted |= {*needs(study, job)}
    return left[::-1]


def side_by_side(label: str, work: Work, jobs: Sequence[Job], study: Study, folder: Folder, until: float) -> None:
    """`work` on what is left of the jobs, in `study.workers` processes. Raises UserError where one of them stops."""
    left = left_of(jobs, study, folder) if time.monotonic() < until else []
    for job in left:
        folder.failed(job.name).unlink(missing_ok=True)
    os.environ["OMP_NUM_THREADS"] = str(len(_cores(study.workers, 0)))  # read when a worker imports torch
    spawn = multiprocessing.get_context("spawn")
    queue = Queue(left, study, folder, until, spawn.Lock(), spawn.Array("b", len(left), lock=False))
    workers = [
        spawn.Process(target=_worker, args=(work, queue, k, os.getpid()), daemon=False)
        for k in range(min(study.workers, len(left)))
    ]
    try:
        for worker in workers:
            worker.start()
        with tqdm(total=len(jobs), initial=len(jobs) - len(left), desc=label, unit="run") as bar:
            while any(worker.is_alive() for worker in workers) and not any(worker.exitcode for worker in workers):
                time.sleep(_POLL_S)
                bar.update(max(0, sum(map(folder.has_ended, jobs)) - bar.n))
            bar.update(max(0, sum(map(folder.has_ended, jobs)) - bar.n))
    finally:
        for worker in workers:
            worker.terminate()
    if any(worker.exitcode for worker in workers):
        raise UserError(f"A worker of the study stopped: see {folder.root}/worker*.log; the same command goes on.")


def _worker(work: Work, queue: Queue, k: int, parent: int) -> None:
    """On its own share of the cores, with a log of its own. The parent may be gone before it gets here."""
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    log = (queue.folder.root / f"worker{k}.log").open("a", encoding="utf-8", buffering=1)
    os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(log.fileno(), sys.stderr.fileno())
    os.sched_setaffinity(0, _cores(queue.study.workers, k))
    work(queue.study, queue.folder, iter(queue))


def _end_with_parent(parent: int) -> None:
    """A study that is killed must not go on by halves: two workers would then write into one run."""
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os._exit(1)


def _cores(workers: int, k: int) -> list[int]:
    """Worker k's share. Threads of several processes on the same cores would mostly wait for each other."""
    every = sorted(os.sched_getaffinity(0))
    return every[k::workers] or every
