"""Run a study: reward models, trials, arms, variations, and last the test pages. Goes on where it was cut off.

Every run is `train` with a sampler that its worker process keeps open. Knows nothing about what is made of the rows.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
from tqdm import tqdm

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.results import PageResult, to_json
from ocr_rl.learn.network import named_weights
from ocr_rl.models.load import load_model, model_folder
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_learning_origin, open_sampler
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler
from ocr_rl.run import read_json, write_atomically
from ocr_rl.study.folder import Folder, bind, choose, claim, fingerprint
from ocr_rl.study.jobs import Job, claim_jobs, digest, main_jobs, reward_model_jobs, start_jobs, tuning_jobs
from ocr_rl.study.pairs import write_both_bad
from ocr_rl.study.plan import START, Study
from ocr_rl.train import Lent, evaluate_policy, train

_POLL_S = 0.5
SIBLINGS = 4  # samples of a validation page after training: how alike are they?


def run_study(study: Study, out: Path) -> dict[str, int]:
    """All of it; returns the trial that was chosen, by arm. Raises UserError where `out` holds another study."""
    folder = Folder(out.resolve())
    claim(study, folder, fingerprint(study))
    begun = (study.start.pages,) if study.start else ()
    bind(folder, (*begun, study.pages, study.validation, study.test))
    _train_all("start", start_jobs(study), study, folder)
    _train_all("reward models", reward_model_jobs(study), study, folder)
    _train_all("trials", tuning_jobs(study), study, folder)
    chosen = choose(study, folder)
    _train_all("arms", main_jobs(study, chosen), study, folder)
    _train_all("variations", claim_jobs(study, chosen), study, folder)
    jobs = [
        job
        for job in (*main_jobs(study, chosen), *claim_jobs(study, chosen))
        if (folder.run(job.name) / "done.json").exists()
    ]
    _side_by_side(
        "test pages", _test, [None, *jobs], study, folder, lambda job: folder.test(job.name if job else "start")
    )
    return chosen


def _train_all(label: str, jobs: Sequence[Job], study: Study, folder: Folder) -> None:
    for job in jobs:
        done = folder.run(job.name) / "done.json"
        if done.exists() and read_json(done).get("recipe", digest(job)) != digest(job):
            raise UserError(
                f"{done.parent}: was trained by another recipe than this version of ocr-rl has for it; remove it to "
                "have it trained anew, or go on with the version that began the study."
            )
    _side_by_side(label, _train, jobs, study, folder, lambda job: folder.run(job.name) / "done.json")


def _side_by_side(label, work, jobs, study, folder, mark) -> None:  # type: ignore[no-untyped-def]
    """`work` on the jobs that have left no mark, in worker processes; a job that cannot be done leaves its reason."""
    todo = [job for job in jobs if not mark(job).exists()]
    for job in todo:
        folder.failed(job.name if job else "start").unlink(missing_ok=True)
    os.environ["OMP_NUM_THREADS"] = str(len(_cores(study.workers, 0)))  # read when a worker imports torch
    spawn = multiprocessing.get_context("spawn")
    workers = [
        spawn.Process(target=_worker, args=(work, todo[k :: study.workers], study, folder, k), daemon=False)
        for k in range(min(study.workers, len(todo)))
    ]
    try:
        for worker in workers:
            worker.start()
        with tqdm(total=len(jobs), initial=len(jobs) - len(todo), desc=label, unit="run") as bar:
            while any(worker.is_alive() for worker in workers):
                time.sleep(_POLL_S)
                if new := sum(mark(job).exists() for job in jobs) - bar.n:
                    bar.update(new)
            bar.update(sum(mark(job).exists() for job in jobs) - bar.n)
    finally:
        for worker in workers:
            worker.terminate()
    if any(worker.exitcode for worker in workers):
        raise UserError(f"A worker of the study stopped: see {folder.root}/worker*.log; the same command goes on.")


def _worker(work, jobs, study: Study, folder: Folder, k: int) -> None:  # type: ignore[no-untyped-def]
    """One engine for all its jobs, on its own share of the cores."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    log = (folder.root / f"worker{k}.log").open("a", encoding="utf-8", buffering=1)
    os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(log.fileno(), sys.stderr.fileno())
    _share_cores(k, study.workers)
    recipe = main_jobs(study, {})[0].recipe
    assert recipe.policy.path is not None
    origin = open_learning_origin(recipe, model_folder(recipe.policy.path))
    with closing(open_sampler(recipe.sampling, origin, recipe.policy)) as sampler:
        for job in jobs:
            try:
                work(job, study, folder, sampler, origin.prompter)
            except (UserError, FloatingPointError) as error:  # of this run alone: the others go on
                write_atomically(folder.failed(job.name if job else "start"), f"{error}\n")


def _end_with_parent(parent: int) -> None:
    """A study that is killed must not go on by halves: two workers would then write into one run."""
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os._exit(1)


def _cores(workers: int, k: int) -> list[int]:
    """Worker k's share. Threads of several processes on the same cores would mostly wait for each other."""
    every = sorted(os.sched_getaffinity(0))
    return every[k::workers] or every


def _share_cores(k: int, workers: int) -> None:
    os.sched_setaffinity(0, _cores(workers, k))


def _train(job: Job, study: Study, folder: Folder, sampler: Sampler, prompter: Prompter) -> None:
    recipe = _prepared(job, study, folder, sampler, prompter)
    run = folder.run(job.name)
    with peak_memory() as peak:
        model = train(recipe, run, go_on=True, lent=Lent(sampler=sampler, pages=folder.pages))
    done = {"model": str(model.resolve().relative_to(folder.root)), "peak_gib": peak[0], "recipe": digest(job)}
    write_atomically(run / "done.json", json.dumps(done))
    for state in (*run.glob("ckpt/*/optim.pt"), *run.glob("ckpt/*/critic.pt")):
        state.unlink()  # nobody trains on from here; the weights stay


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """The one element grows to the most memory (resident, GiB) that this process held while the block ran."""
    process, over, peak = psutil.Process(), threading.Event(), [0.0]

    def look() -> None:
        peak[0] = max(peak[0], process.memory_info().rss / 2**30)

    def watch() -> None:
        while not over.wait(_POLL_S):
            look()

    look()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
        look()


def _prepared(job: Job, study: Study, folder: Folder, sampler: Sampler, prompter: Prompter) -> config.Recipe:
    """The recipe, with the start, the pairs or the reward model that other runs of the study made."""
    recipe, variation = job.recipe, job.variation
    if study.start and job.arm != START:
        start = _start_of(study, folder, recipe)
        recipe = recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"path": start})})
    if job.scored_by is not None:
        learned = config.RewardChoice(name=f"{config.LEARNED}{folder.model(job.scored_by)}")
        recipe = recipe.model_copy(update={"rewards": (learned,)})
    if variation is None:
        return recipe
    if variation.reference is not None:
        reference = str(folder.model(f"{variation.reference}-seed{job.seed}"))
        data = recipe.model_dump(mode="json")
        return config.parse_recipe({**data, "policy": {**data["policy"], "reference": reference}}, [], f"of {job.name}")
    if variation.both_bad:
        path = folder.root / "pairs" / f"both_bad-seed{job.seed}.jsonl"  # one draw for all that learn from it
        if not path.exists():
            run = folder.run(f"{variation.of}-seed{job.seed}")
            write_both_bad(path, run, recipe, sampler, prompter, folder.pages)
        return recipe.model_copy(update={"algorithm": recipe.algorithm.model_copy(update={"preferences": path})})
    return recipe


def _test(job: Job | None, study: Study, folder: Folder, sampler: Sampler, prompter: Prompter) -> None:
    """Greedy transcripts of the test pages, and a few samples of each validation page; of the start (no job) more."""
    recipe = main_jobs(study, {})[0].recipe
    pages = open_pages(study.test, folder.pages)
    assert recipe.evaluation is not None
    model = str(folder.model(job.name)) if job else _start_of(study, folder, recipe)
    sampler.load(named_weights(load_model(model, dtype=recipe.policy.dtype)), 0)
    tokens = recipe.evaluation.max_tokens

    def drawn(pages: Sequence[Page], n: int) -> list[PageResult]:
        return [
            replace(row, repeat=k + 1)
            for k in range(n)
            for row in evaluate_policy(
                sampler, prompter, pages, max_tokens=tokens, temperature=recipe.sampling.temperature, seed=k
            )
        ]

    if job is None:
        _write_rows(folder.test("start-samples"), drawn(pages, study.samples))
    if job is None or job.variation is None:
        likeness = drawn(open_pages(study.validation, folder.pages), SIBLINGS)
        _write_rows(folder.test(f"{job.name if job else 'start'}-siblings"), likeness)
    _write_rows(folder.test(job.name if job else "start"), evaluate_policy(sampler, prompter, pages, max_tokens=tokens))


def _start_of(study: Study, folder: Folder, recipe: config.Recipe) -> str:
    if study.start:
        return str(folder.model(f"{START}-seed{study.seeds[0]}"))
    assert recipe.policy.path is not None
    return model_folder(recipe.policy.path)


def _write_rows(path: Path, rows: Sequence[PageResult]) -> None:
    """Whole or not at all: the file says that the pages were looked at."""
    write_atomically(path, "".join(json.dumps(to_json(row)) + "\n" for row in rows))
