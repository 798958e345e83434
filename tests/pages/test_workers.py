"""Jobs that hang, crash or eat memory cost themselves alone. The functions are the standard library's own."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ocr_rl.contract import NoWorker, UserError
from ocr_rl.pages.workers import Refusal, guarded


def _results(function: Callable[..., Any], jobs: Sequence[Any], workers: int = 1, timeout_s: float = 30.0) -> list[Any]:
    pairs = list(guarded(function, jobs, workers=workers, timeout_s=timeout_s))
    assert [job for job, _ in pairs] == list(jobs)
    return [str(result) if isinstance(result, Refusal) else result for _, result in pairs]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(workers: int) -> None:
    assert _results(math.factorial, range(7), workers) == [1, 1, 2, 6, 24, 120, 720]


def test_no_jobs_no_workers() -> None:
    assert _results(math.factorial, []) == []


def test_one_worker_serves_many_jobs() -> None:
    ids = set(_results(os.getsid, [0, 0, 0]))
    assert len(ids) == 1 and ids != {os.getsid(0)}


def test_a_copy_of_the_worker_that_a_job_leaves_behind_answers_nothing() -> None:
    """Otherwise each page after it would get the score of the one before."""
    results = _results(forks, [1, 2, 3])
    assert results == [1, 2, 3]


def forks(job: int) -> int:
    if os.fork() == 0:
        time.sleep(0.2)
    return job


def test_a_worker_whose_memory_is_full_is_ended() -> None:
    first, second, third = _results(full, ["", "full", ""])
    assert "GiB of memory" in second
    assert first != third, "another process"


def full(job: str) -> str:
    if job == "full":
        raise MemoryError
    return str(os.getpid())


def test_a_job_that_hangs_costs_itself_alone() -> None:
    assert _results(time.sleep, [0, 60, 0], timeout_s=2) == [None, "it took longer than 2 s", None]


def test_a_job_that_crashes_costs_itself_alone() -> None:
    # The real os._exit: the process ends there and then, as in a segmentation fault.
    assert _results(os._exit, [1, 0]) == ["it crashed its process"] * 2


def test_what_a_hung_job_has_started_ends_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    assert _results(os.system, [f"sleep 1000 & echo $! > {pid_file}; sleep 1000"], timeout_s=2) == [
        "it took longer than 2 s"
    ]
    child = int(pid_file.read_text())
    state = Path(f"/proc/{child}/stat")
    for _ in range(100):  # until its new parent has heard of it
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the job's child outlived it")


class Trap:
    """A result that runs something where it is read."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.trap = (call, arguments)

    def __reduce__(self) -> Any:
        return self.trap


def test_a_result_that_cannot_be_read_back_costs_itself_alone() -> None:
    assert _results(trapped, ["int", "exit", ""]) == [
        "its result cannot be read back: ValueError: invalid literal for int() with base 10: 'x'",
        "its result cannot be read back: SystemExit: x",
        "",
    ]


def trapped(job: str) -> Any:
    return Trap({"int": int, "exit": sys.exit}[job], "x") if job else job


def test_a_job_that_eats_memory_costs_itself_alone() -> None:
    small, large, again = _results(bytearray, [3, 2**33, 2])
    assert (small, again) == (bytearray(3), bytearray(2))
    assert large == "it needs more than 2 GiB of memory"


def test_an_exception_names_itself() -> None:
    assert _results(math.factorial, [-1, 3]) == ["ValueError: factorial() not defined for negative values", 6]


def test_a_worker_that_cannot_begin_is_no_jobs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor any input's: who goes on after a UserError, as a study does with its next run, stops here."""
    monkeypatch.setattr("ocr_rl.pages.workers._BOOT", "raise SystemExit({0!r})")
    with pytest.raises(NoWorker, match="A worker process died before its first job, or did not begin within 300 s"):
        _results(math.factorial, [3])
    monkeypatch.setattr("ocr_rl.pages.workers._BOOT", "import time; time.sleep(60) # {0}")
    monkeypatch.setattr("ocr_rl.pages.workers.START_S", 0.2)
    with pytest.raises(NoWorker, match="did not begin within 0.2 s"):
        _results(math.factorial, [3])
    assert not issubclass(NoWorker, (UserError, OSError, RuntimeError))


def test_a_consumer_that_stops_early_leaves_no_process() -> None:
    results = guarded(os.getsid, [0] * 5, workers=1, timeout_s=30)
    _, worker = next(results)
    assert isinstance(worker, int)
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_jobs_are_read_only_a_little_ahead() -> None:
    read: list[int] = []

    def jobs():
        for job in range(100):
            read.append(job)
            yield job

    results = guarded(math.factorial, jobs(), workers=1, timeout_s=30)
    next(results)
    assert len(read) <= 3
