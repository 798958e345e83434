"""A candidate of a benchmark -> answers, page by page. It is a folder of Markdown files, an OCR engine or a policy.

Answers of engines and policies are written down as they come, so that a killed run goes on where it stood. Knows
nothing about tests or scores.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar
from unicodedata import normalize

from tqdm import tqdm

from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate import journal
from ocr_rl.evaluate.engines import changes_of, open_engine, read_pages
from ocr_rl.evaluate.transcribe import RETRY_TEMPERATURES, Attempt, attempts
from ocr_rl.files import require_text
from ocr_rl.pages.documents import other_names
from ocr_rl.pages.raster import PageError
from ocr_rl.pages.workers import Refusal
from ocr_rl.text.front_matter import split_front_matter

if TYPE_CHECKING:
    from ocr_rl.models.settings import PromptSettings

Missing = Literal["error", "fail"]
FrontMatterOf = Literal["keep", "strip"]  # a candidate's files
SamplerName = Literal["vllm", "transformers"]
SEEDS_APART = 1000  # between the repeats of a policy; retries count up from each
_FILE = re.compile(r"(?P<stem>.+)_pg(?P<number>[1-9][0-9]*)_repeat(?P<repeat>[0-9]+)\.md")

Item = TypeVar("Item")
Todo = Mapping[int, Sequence[Page]]  # by repeat, counted from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a candidate wrote of one page: at least one attempt (several only by a policy), or why there is none."""

    page: str
    repeat: int = 1
    attempts: tuple[Attempt, ...] = ()
    error: str = ""
    seconds: float = 0.0  # wall clock since the answer before; 0 where it was not measured


class Candidate(Protocol):
    """A reader of pages that is run here."""

    @property
    def name(self) -> str: ...
    @property
    def repeats(self) -> int: ...

    def settings(self) -> Mapping[str, Any]:
        """What must not change between the two halves of a run. Raises UserError where the candidate cannot run."""
        ...

    def answers(self, todo: Todo) -> Iterator[Answer]:
        """One answer per page and repeat, repeat by repeat."""
        ...


def answers(candidate: Candidate, pages: Sequence[Page], path: Path) -> list[Answer]:
    """Answers to every page and repeat. Those that the JSONL file `path` holds are taken from there."""
    done = {(answer.page, answer.repeat): answer for answer in (_from_json(row, path) for row in journal.resume(path))}
    repeats = range(1, candidate.repeats + 1)
    todo = {repeat: [page for page in pages if (page.id, repeat) not in done] for repeat in repeats}
    if any(todo.values()):
        for answer in candidate.answers(todo):
            journal.append(path, asdict(answer))
            done[answer.page, answer.repeat] = answer
    return [done[page.id, repeat] for page in pages for repeat in repeats]


def _from_json(row: Mapping[str, Any], path: Path) -> Answer:
    try:
        attempts = [
            Attempt(**{**fields, "transcript": Transcript(**fields["transcript"])}) for fields in row["attempts"]
        ]
        return Answer(**{**row, "attempts": tuple(attempts)})
    except (KeyError, TypeError, ValueError) as fault:
        raise UserError(f"{path}: a line is no answer of a candidate ({fault}); delete the file.") from None


# --- folders ----------------------------------------------------------------------------------------------------------


def folder_answers(
    folder: Path, pages: Sequence[Page], root: Path, missing: Missing, front_matter: FrontMatterOf = "keep"
) -> list[Answer]:
    """All repeats in a folder of the public layout, `<pdf below root, without .pdf>_pg<N>_repeat<M>.md`.

    Any of a PDF's names counts, also that of a link. A page without a file is a UserError. With `missing` "fail" it is
    an answer that gives this as the reason. A file is judged as it is, like in the public benchmark; with
    `front_matter` "strip" without its front matter.
    """
    read = _whole if front_matter == "keep" else _plain
    if not folder.is_dir():
        raise UserError(f"--candidate {folder}: there is no such folder.")
    files = _files(folder)
    links: dict[Path, list[str]] = {}
    for name, pdf in other_names(root).items():
        links.setdefault(pdf, []).append(name)
    answers: list[Answer] = []
    lost: list[str] = []
    for page in pages:
        stem, *stems = (_stem(name) for name in (page.pdf.relative_to(root).as_posix(), *links.get(page.pdf, ())))
        places = ((normalize("NFC", own), page.number) for own in (stem, *stems))
        repeats = sorted(next((files[place] for place in places if place in files), ()))
        answers += [
            Answer(page=page.id, repeat=repeat, attempts=(read(require_text(path)),)) for repeat, path in repeats
        ]
        if not repeats:
            lost.append(f"{stem}_pg{page.number}_repeat1.md")
            answers.append(Answer(page=page.id, error="there is no file for this page"))
    if lost and missing == "error":
        raise UserError(
            f"{folder}: has no transcript of {len(lost)} of {len(pages)} pages, the first is {lost[0]}; add it, or let "
            "such pages fail their tests with --missing fail."
        )
    return answers


def _stem(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


def _files(folder: Path) -> dict[tuple[str, int], list[tuple[int, Path]]]:
    """(repeat, file) by PDF (without .pdf) and page."""
    files: dict[tuple[str, int], list[tuple[int, Path]]] = defaultdict(list)
    for path in folder.rglob("*.md"):
        named = _FILE.fullmatch(normalize("NFC", path.relative_to(folder).as_posix()))
        if named and path.is_file():
            files[named["stem"], int(named["number"])].append((int(named["repeat"]), path))
    return files


def _plain(raw: str) -> Attempt:
    """The only attempt of a candidate that has no temperature, no tokens and no limit of length."""
    transcript = Transcript(raw=raw, body=split_front_matter(raw)[1], finish="stop", num_tokens=0)
    return Attempt(transcript=transcript, temperature=0.0, rotation=0)


def _whole(raw: str) -> Attempt:
    """The same of a text that is judged with its front matter."""
    attempt = _plain(raw)
    return replace(attempt, transcript=replace(attempt.transcript, body=raw))


def with_front_matter(answers: Sequence[Answer]) -> int:
    """How many of a folder's files begin with front matter."""
    raws = (attempt.transcript.raw for answer in answers for attempt in answer.attempts)
    return sum(split_front_matter(raw)[1] != raw for raw in raws)


# --- engines ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCandidate:
    """An OCR engine. It reads a page once, because engines give the same text every time."""

    name: str  # the engine with its options, as `open_engine` reads it
    workers: int
    repeats: int = 1

    def settings(self) -> Mapping[str, Any]:
        engine = open_engine(self.name)
        changes = changes_of(engine)
        return {"engine": repr(engine), "version": engine.version(), **({"changes": changes} if changes else {})}

    def answers(self, todo: Todo) -> Iterator[Answer]:
        for repeat, pages in todo.items():
            texts = tqdm(
                read_pages(self.name, pages, workers=self.workers),
                total=len(pages),
                desc=self.name,
                unit="page",
                leave=False,
            )
            for (page, text), seconds in timed(texts):
                answer = Answer(page=page.id, repeat=repeat, seconds=seconds)
                if isinstance(text, Refusal):
                    yield replace(answer, error=str(text))
                else:
                    yield replace(answer, attempts=(_plain(text),))


# --- policies ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCandidate:
    """A policy that reads as in `ocr-rl transcribe`: again at rising temperatures, and again with the page upright."""

    name: str
    model: str  # a folder or hub name
    sampler: SamplerName
    repeats: int
    temperature: float  # of the first attempt
    preset: str | None = None  # a known model that it is asked like
    instruction: str | None = None

    def settings(self) -> Mapping[str, Any]:
        return {
            "model": self.model,
            "files": fingerprint(self.model),
            "sampler": self.sampler,
            "repeats": self.repeats,
            "temperature": self.temperature,
            **asdict(self._asked()),
        }

    def _asked(self) -> PromptSettings:
        from ocr_rl.models.known import read_settings

        settings = read_settings(model_place(self.model), self.preset)
        return settings if self.instruction is None else replace(settings, instruction=self.instruction)

    def answers(self, todo: Todo) -> Iterator[Answer]:
        with _open_policy(self) as policy:
            for repeat, pages in todo.items():
                of_pages = attempts(
                    pages,
                    policy.sampler,
                    policy.prompter,
                    max_tokens=policy.settings.max_tokens,
                    temperature=self.temperature,
                    retries=retries_above(self.temperature),
                    seed=SEEDS_APART * (repeat - 1),
                )
                yield from as_answers(of_pages, repeat, len(pages), self.name)


def retries_above(temperature: float) -> tuple[float, ...]:
    """Temperatures of the attempts after the first one."""
    return tuple(at for at in RETRY_TEMPERATURES if at > temperature)


def as_answers(
    of_pages: Iterable[tuple[Page, Sequence[Attempt] | PageError]], repeat: int, total: int, name: str
) -> Iterator[Answer]:
    """What became of the pages, as it comes, with a bar."""
    for (page, of_page), seconds in timed(tqdm(of_pages, total=total, desc=name, unit="page", leave=False)):
        answer = Answer(page=page.id, repeat=repeat, seconds=seconds)
        if isinstance(of_page, PageError):
            yield replace(answer, error=of_page.reason)
        else:
            yield replace(answer, attempts=tuple(of_page))


def _open_policy(policy: PolicyCandidate) -> AbstractContextManager[Any]:
    from ocr_rl.policy import open_policy  # torch and all; only once there is a page to read

    return open_policy(policy.model, engine=policy.sampler, preset=policy.preset, instruction=policy.instruction)


def model_place(model: str) -> str:
    """The model's folder or hub name; "nano" is the embedded policy."""
    if Path(model).is_dir():
        return model
    from ocr_rl.models.load import model_folder

    return model_folder(model)


def fingerprint(model: str) -> dict[str, list[int]]:
    """Size in bytes and time of change of a policy's files, by name.

    Weights are too large to hash at every start, and a checkpoint that was trained further has another time.
    """
    folder = Path(model_place(model))
    files = sorted(path for pattern in ("*.safetensors", "*.json") for path in folder.glob(pattern))
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}


def timed(items: Iterable[Item]) -> Iterator[tuple[Item, float]]:
    """Each item with the seconds that it took to come."""
    source = iter(items)
    while True:
        start = time.perf_counter()
        try:
            item = next(source)
        except StopIteration:
            return
        yield item, time.perf_counter() - start
