"""`ocr-rl bench`: the unit tests of a dataset over folders, engines and policies; figures and report.

The figures are the public olmOCR-Bench's. Every PDF without a baseline test gets one on page 1, in a category of its
own. A test passes by the majority of its repeats. The score is the mean over the files that tests come from. Answers
and verdicts are written down as they come, so a rerun does nothing twice. Knows nothing about how answers are made.

    <out>/ settings.json · candidates/<name>/{settings.json, answers.jsonl, verdicts.jsonl} · floors.jsonl
    report.{json,md,html}
"""

from __future__ import annotations

import hashlib
import os.path
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ocr_rl import outputs
from ocr_rl.contract import Page, Reading, Transcript, UserError
from ocr_rl.evaluate import journal
from ocr_rl.evaluate.bench_notes import asking_note, changes_note, cost_note, front_matter_note, notes_of
from ocr_rl.evaluate.candidates import (
    Answer,
    Candidate,
    EngineCandidate,
    FrontMatterOf,
    Missing,
    PolicyCandidate,
    SamplerName,
    answers,
    folder_answers,
)
from ocr_rl.evaluate.endpoint_candidate import endpoint_candidate
from ocr_rl.evaluate.figures import ClusterBy, tallies
from ocr_rl.evaluate.floors import floors_of
from ocr_rl.evaluate.report import FILES, write_report
from ocr_rl.evaluate.results import CheckVerdict, PageResult, from_json, judge_page, to_json
from ocr_rl.evaluate.stats import benchmark_score
from ocr_rl.pages.images import image_of
from ocr_rl.pages.raster import PageError
from ocr_rl.pages.subset import Subset, load_subset
from ocr_rl.pages.workers import Refusal, guarded
from ocr_rl.run import environment
from ocr_rl.text.checks import load_check

REPEAT_TEMPERATURE = 0.7  # of a policy that reads a page several times
_SHOWN_PX = 900
_PAGE_TIMEOUT_S = 300.0  # all tests of one page

_ALL = Subset()

Key = tuple[str, int, str, str, int]  # page id, repeat, text, finish, tokens


def bench(
    data: Path,
    *,
    out: Path,
    candidates: Sequence[str] = (),
    engines: Sequence[str] = (),
    models: Sequence[str] = (),
    reading: Reading = "compatible",
    repeats: int = 1,
    temperature: float | None = None,
    sampler: SamplerName = "vllm",
    preset: str | None = None,
    instruction: str | None = None,
    missing: Missing = "error",
    front_matter: FrontMatterOf = "keep",
    cluster: ClusterBy = "page",
    workers: int = 2,
    subset: Subset = _ALL,
    endpoints: Sequence[str] = (),
) -> str:
    """Judge every candidate on every page, write the report below `out`, return its Markdown.

    `candidates` are folders of transcripts, `engines` OCR engines, `models` folders or hub names of policies,
    `endpoints` servers (`endpoint_candidate` says how they are written); NAME=FOLDER gives a name of one's own. A
    policy reads every page `repeats` times, at `temperature` (default: greedy for one repeat, else REPEAT_TEMPERATURE),
    asked as the model is known for, as the known model `preset` is, or with `instruction`; the report says how. The
    first candidate is the one that the others are compared with. Front matter in a folder's files is judged with the
    rest, as the public benchmark does, unless `front_matter` is "strip".
    Raises UserError for wrong input, and where `out` holds such files that no bench wrote.
    """
    outputs.refuse_others(out, "settings.json", ("candidates", "floors.jsonl"))
    outputs.refuse_taken(out / name for name in FILES)
    folders = {name: Path(path) for name, path in map(_named, candidates)}
    policy = partial(
        PolicyCandidate,
        sampler=sampler,
        repeats=repeats,
        temperature=_temperature(repeats, temperature),
        preset=preset,
        instruction=instruction,
    )
    readers: list[Candidate] = [
        *(EngineCandidate(name=spec, workers=workers) for spec in engines),
        *(policy(name=name, model=model) for name, model in map(_named, models)),
        *(
            endpoint_candidate(
                spec,
                repeats=repeats,
                temperature=_temperature(repeats, temperature),
                preset=preset,
                instruction=instruction,
                workers=workers,
            )
            for spec in endpoints
        ),
    ]
    _refuse_twins([*(_named(text)[0] for text in candidates), *(reader.name for reader in readers)])
    pages, file_of = load_subset(data, subset)
    pages = with_baseline(pages, data / "pdfs") if subset.adds_baselines else pages
    common = {
        "ocr-rl": environment()["packages"].get("ocr-rl"),
        "reading": reading,
        "subset": subset.note().get("subset", "all pages"),
        "tests": _digest(pages),
    }
    with outputs.writing(out):
        journal.settle(out / "settings.json", common)
    settings = {reader.name: reader.settings() for reader in readers}  # all of them before the first begins
    transcripts = {
        name: folder_answers(folder, pages, data / "pdfs", missing, front_matter) for name, folder in folders.items()
    }
    for name, of_reader in settings.items():
        journal.settle(_place(out, name) / "settings.json", of_reader)

    rows: dict[str, list[PageResult]] = {}
    notes: dict[str, str] = {}
    for name, reader in {**dict.fromkeys(transcripts), **{reader.name: reader for reader in readers}}.items():
        place = _place(out, name)
        of_candidate = answers(reader, pages, place / "answers.jsonl") if reader else transcripts[name]
        rows |= _rows(name, of_candidate, pages, place / "verdicts.jsonl", reading, workers)
        notes |= notes_of(name, of_candidate, pages, str(settings.get(name, {}).get("version", "")))
        notes |= {} if reader else front_matter_note(name, of_candidate, front_matter)
        own = settings.get(name, {})
        notes |= asking_note(name, own) | cost_note(name, of_candidate, own) | changes_note(name, own)
    of_floor = partial(_floor_rows, path=out / "floors.jsonl", reading=reading, workers=workers)
    floors = floors_of(pages, list(rows.values())[-1], of_floor)
    judged = {**rows, **(floors.rows if floors else {})}
    env = environment()
    write_report(
        out,
        title=f"Benchmark {data.resolve().name}",
        candidates=rows,
        pages={page.id: page for page in pages},
        images=_image,
        notes={
            "reading": reading,
            **subset.note(),
            **notes,
            "date": env["date"],
            "python": env["python"],
            "cores": str(env["cores"]),
        },
        benchmark={name: benchmark_score(tallies(results, file_of), seed=0) for name, results in judged.items()},
        floors=floors,
        cluster=cluster,
    )
    return (out / "report.md").read_text(encoding="utf-8") + f"\nreport: {out / 'report.html'}"


def with_baseline(pages: Sequence[Page], root: Path) -> list[Page]:
    """Pages with the test that the public benchmark adds to every PDF without a baseline test, on its page 1."""
    all_pages: list[Page] = []
    for pdf, group in groupby(pages, key=lambda page: page.pdf):
        own = list(group)
        if not any(check.type == "baseline" for page in own for check in page.checks):
            name = pdf.relative_to(root).as_posix()
            added = load_check({"pdf": name, "page": 1, "id": f"{name}_baseline", "type": "baseline"})
            if own[0].number != 1:
                own.insert(0, Page(id=f"{own[0].id.rsplit(':p', 1)[0]}:p1", pdf=pdf, number=1))
            own[0] = replace(own[0], checks=(*own[0].checks, added))
        all_pages += own
    return all_pages


# --- arguments --------------------------------------------------------------------------------------------------------


def _named(text: str) -> tuple[str, str]:
    """(name, path): "after=runs/x/model" or, named by its last part, "runs/x/model"."""
    name, equals, path = text.partition("=")
    own = os.path.basename(os.path.abspath(text)) or text  # of "." too
    return (name, path) if equals and name and not Path(text).exists() else (own, text)


def _refuse_twins(names: Sequence[str]) -> None:
    if not names:
        raise UserError("bench: name at least one --candidate FOLDER, --engine NAME, --model MODEL or --endpoint URL.")
    for name in names:
        twins = [other for other in names if _slug(other) == _slug(name)]
        if len(twins) > 1:
            raise UserError(
                f"bench: two candidates are called {twins[1]!r}; give one a name, as in --model NAME=FOLDER."
            )


def _temperature(repeats: int, given: float | None) -> float:
    if repeats < 1:
        raise UserError(f"--repeats must be at least 1, got {repeats}.")
    temperature = given if given is not None else REPEAT_TEMPERATURE if repeats > 1 else 0.0
    if temperature and not 0.01 <= temperature <= 10:
        raise UserError(f"--temperature must be 0 (greedy) or from 0.01 to 10, got {temperature:g}.")
    if repeats > 1 and temperature == 0:
        raise UserError(f"--repeats {repeats} at --temperature 0 gives one transcript {repeats} times; raise it.")
    return temperature


def _slug(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)


def _place(out: Path, name: str) -> Path:
    return out / "candidates" / _slug(name)


def _digest(pages: Sequence[Page]) -> str:
    questions = repr([(page.id, page.reference, page.checks) for page in pages])
    return hashlib.sha256(questions.encode("utf-8", "backslashreplace")).hexdigest()[:16]


# --- verdicts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    page: Page
    repeat: int
    transcript: Transcript
    reading: Reading


def _rows(
    name: str, answers: Sequence[Answer], pages: Sequence[Page], path: Path, reading: Reading, workers: int
) -> dict[str, list[PageResult]]:
    """Page results of a candidate. First attempts and last ones are two candidates where a policy tried again."""
    page_of = {page.id: page for page in pages}

    def job(answer: Answer, which: int) -> _Job:
        transcript = answer.attempts[which].transcript
        return _Job(page=page_of[answer.page], repeat=answer.repeat, transcript=transcript, reading=reading)

    retried = any(len(answer.attempts) > 1 for answer in answers)
    parts = {f"{name}, first attempt": 0, f"{name}, with retries": -1} if retried else {name: 0}
    jobs = [job(answer, which) for which in parts.values() for answer in answers if answer.attempts]
    results = _judged({_key_of(job): job for job in jobs}, path, workers, label=f"judging {name}")

    def row(answer: Answer, which: int) -> PageResult:
        if answer.attempts:
            return results[_key_of(job(answer, which))]
        return _failed(page_of[answer.page], answer.repeat, f"no transcript: {answer.error}", _EMPTY)

    return {part: [row(answer, which) for answer in answers] for part, which in parts.items()}


def _floor_rows(
    pairs: Sequence[tuple[Page, Transcript]], path: Path, reading: Reading, workers: int
) -> list[PageResult]:
    """Page results of transcripts that read nothing."""
    jobs = [_Job(page=page, repeat=1, transcript=text, reading=reading) for page, text in pairs]
    results = _judged({_key_of(job): job for job in jobs}, path, workers, label="judging the floor")
    return [results[_key_of(job)] for job in jobs]


def _judged(jobs: Mapping[Key, _Job], path: Path, workers: int, label: str) -> dict[Key, PageResult]:
    """A result per job. Results of the same text are taken from the JSONL file `path`; new ones are appended there."""
    results = {_key(row): row for row in (from_json(fields, where=str(path)) for fields in journal.resume(path))}
    todo = [job for key, job in jobs.items() if key not in results]
    judged = guarded(_judge, todo, workers=workers, timeout_s=_PAGE_TIMEOUT_S)
    for job, result in tqdm(judged, total=len(todo), desc=label, unit="page", leave=False):
        if isinstance(result, Refusal):
            row = _failed(job.page, job.repeat, f"the page could not be judged: {result}", job.transcript)
        else:
            row = result
        journal.append(path, to_json(row))
        results[_key_of(job)] = row
    return results


def _judge(job: _Job) -> PageResult:
    return judge_page(job.page, job.transcript, job.reading, repeat=job.repeat)


_EMPTY = Transcript(raw="", body="", finish="abort", num_tokens=0)


def _failed(page: Page, repeat: int, why: str, transcript: Transcript) -> PageResult:
    """All tests fail, also those that an empty text would pass."""
    row = judge_page(replace(page, checks=()), _EMPTY, repeat=repeat)
    return replace(
        row,
        checks=tuple(CheckVerdict(id=check.id, type=check.type, passed=False, why=why) for check in page.checks),
        finish=transcript.finish,
        num_tokens=transcript.num_tokens,
        text=transcript.body,
    )


def _key_of(job: _Job) -> Key:
    transcript = job.transcript
    return job.page.id, job.repeat, transcript.body, transcript.finish, transcript.num_tokens


def _key(row: PageResult) -> Key:
    return row.page, row.repeat, row.text, row.finish, row.num_tokens


def _image(page: Page) -> Image.Image:
    try:
        return image_of(page, longest_px=_SHOWN_PX)
    except PageError as error:
        raise UserError(error.reason) from None
