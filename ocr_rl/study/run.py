"""Run a study: trials, then seed by seed reward models, arms and variations, each tested. Goes on where it was cut off.

Every run is `train` with a sampler that its worker process keeps open. Knows nothing about what is made of the rows.
"""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

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
from ocr_rl.study.jobs import Job, digest, jobs_after_choice, jobs_before_choice, main_jobs, start_name
from ocr_rl.study.pairs import write_both_bad
from ocr_rl.study.plan import START, Study
from ocr_rl.study.workers import side_by_side
from ocr_rl.train import Lent, evaluate_policy, train

_POLL_S = 0.5  # between two looks at the memory
SIBLINGS = 4  # samples of a validation page after training: how alike are they?


def run_study(study: Study, out: Path, until: float = math.inf) -> None:
    """All of it, or what begins before `until` (time.monotonic()). Raises UserError where `out` holds another study."""
    folder = Folder(out.resolve())
    claim(study, folder, fingerprint(study))
    begun = (study.start.pages,) if study.start else ()
    bind(folder, (*begun, study.pages, study.validation, study.test))
    _run("trials", jobs_before_choice(study), study, folder, until)
    _run("runs", jobs_after_choice(study, choose(study, folder)), study, folder, until)


def _run(label: str, jobs: Sequence[Job], study: Study, folder: Folder, until: float) -> None:
    for job in jobs:
        done = folder.run(job.name) / "done.json"
        if done.exists() and read_json(done).get("recipe", digest(job)) != digest(job):
            raise UserError(
                f"{done.parent}: was trained by another recipe than the study now has for it (another version of "
                "ocr-rl, or a better trial that ended since); remove it to have it trained anew, or go on with the "
                "version that began the study."
            )
    side_by_side(label, _work, jobs, study, folder, until)


def _work(study: Study, folder: Folder, jobs: Iterator[Job]) -> None:
    """Trains and tests, with one engine for all the jobs of a process."""
    recipe = main_jobs(study, {})[0].recipe
    assert recipe.policy.path is not None
    origin = open_learning_origin(recipe, model_folder(recipe.policy.path))
    with closing(open_sampler(recipe.sampling, origin, recipe.policy)) as sampler:
        for job in jobs:
            try:
                if job.trains:
                    _train(job, study, folder, sampler, origin.prompter)
                if job.is_tested and not folder.test(job.name).exists():
                    _test(job, study, folder, sampler, origin.prompter)
            except (UserError, FloatingPointError) as error:  # of this run alone: the others go on
                write_atomically(folder.failed(job.name), f"{error}\n")


def _train(job: Job, study: Study, folder: Folder, sampler: Sampler, prompter: Prompter) -> None:
    run = folder.run(job.name)
    if folder.holds_model(job.name):
        return
    if (run / "done.json").exists():  # on another machine
        run = folder.again(job.name)
    elif not (run / "config.json").exists():  # rows of one that failed there
        shutil.rmtree(run, ignore_errors=True)
    recipe = _prepared(job, study, folder, sampler, prompter)
    with peak_memory() as peak:
        model = train(recipe, run, go_on=True, lent=Lent(sampler=sampler, pages=folder.pages))
    done = {"model": str(model.resolve().relative_to(folder.root)), "peak_gib": peak[0], "recipe": digest(job)}
    write_atomically(run / "done.json", json.dumps(done))
    for state in (*run.glob("ckpt/*/optim*.pt"), *run.glob("ckpt/*/critic*.pt")):
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
            write_both_bad(path, recipe, sampler, prompter, folder.pages)
        return recipe.model_copy(update={"algorithm": recipe.algorithm.model_copy(update={"preferences": path})})
    return recipe


def _test(job: Job, study: Study, folder: Folder, sampler: Sampler, prompter: Prompter) -> None:
    """Greedy transcripts of the test pages, and a few samples of each validation page; of the start more."""
    recipe = main_jobs(study, {})[0].recipe
    pages = open_pages(study.test, folder.pages)
    assert recipe.evaluation is not None
    model = str(folder.model(job.name)) if job.trains else _start_of(study, folder, recipe)
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

    if not job.trains:
        _write_rows(folder.test(f"{job.name}-samples"), drawn(pages, study.samples))
    if job.variation is None:
        likeness = drawn(open_pages(study.validation, folder.pages), SIBLINGS)
        _write_rows(folder.test(f"{job.name}-siblings"), likeness)
    _write_rows(folder.test(job.name), evaluate_policy(sampler, prompter, pages, max_tokens=tokens))


def _start_of(study: Study, folder: Folder, recipe: config.Recipe) -> str:
    if study.start:
        return str(folder.model(start_name(study)))
    assert recipe.policy.path is not None
    return model_folder(recipe.policy.path)


def _write_rows(path: Path, rows: Sequence[PageResult]) -> None:
    """Whole or not at all: the file says that the pages were looked at."""
    write_atomically(path, "".join(json.dumps(to_json(row)) + "\n" for row in rows))
