"""Pages -> transcripts: the one code path of `transcribe`, of evaluation and of benchmarks.

The first attempt is greedy. Where a transcript does not end by itself, the policy tries again at rising temperatures.
Where its front matter says that the page is turned, it tries again with the page turned upright. `ladder` is that rule
for one page; `attempts` climbs it with a sampler in this process, `evaluate.endpoint` with a server. A page that cannot
be drawn comes back as the reason, and the job goes on. Knows nothing about scores.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tqdm import tqdm

from ocr_rl.contract import Page, Transcript
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.flow import Prompt
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling
from ocr_rl.text.front_matter import split_front_matter

RETRY_TEMPERATURES = (0.2, 0.5, 0.8)
BATCH = 64  # pages that a sampler is given at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One answer of a policy to one page. The last attempt of a page is the one that counts."""

    transcript: Transcript
    temperature: float
    rotation: int  # degrees clockwise by which the image was turned, on top of the page's own
    prompt_tokens: int = 0  # 0 where nobody counted them
    seconds: float = 0.0  # from the question to the answer, beside those of other pages; 0 where not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What `ladder` wants to ask about its page."""

    step: int  # of the ladder, from 0; seeds count up with it
    temperature: float
    rotation: int  # degrees clockwise


Ladder = Generator[Question, Transcript | None, None]


def ladder(temperature: float, retries: Sequence[float]) -> Ladder:
    """The questions about one page. It is sent the transcript of each; None where the page cannot be asked like that.

    `retries`: temperatures of further attempts while a transcript does not end. With any, a page that the policy calls
    turned (is_rotation_valid is false) gets one more attempt at the same temperature, its image turned by
    rotation_correction. Further retries keep the turned image.
    """
    rotation = 0
    for step, heat in enumerate((temperature, *retries)):
        transcript = yield Question(step=step, temperature=heat, rotation=rotation)
        assert transcript is not None  # only a turned page may be refused
        if retries and not rotation and (clockwise := _clockwise(transcript)):
            upright = yield Question(step=step, temperature=heat, rotation=clockwise)
            if upright is not None:  # else its prompt may be too long; then the last transcript counts
                rotation, transcript = clockwise, upright
        if transcript.finish == "stop":
            return


def answered(walk: Ladder, transcript: Transcript | None) -> Question | None:
    """The next question of a ladder; None at its end."""
    try:
        return walk.send(transcript)
    except StopIteration:
        return None


def _clockwise(transcript: Transcript) -> int:
    front, _ = split_front_matter(transcript.raw)
    return front.clockwise if front else 0


def transcribe(
    pages: Sequence[Page],
    sampler: Sampler,
    prompter: Prompter,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    retries: Sequence[float] = (),
    seed: int = 0,
    label: str = "transcribing",
) -> Iterator[tuple[Page, Transcript | PageError]]:
    """One transcript per page, in page order: the last of its `attempts`."""
    of_pages = attempts(
        pages, sampler, prompter, max_tokens=max_tokens, temperature=temperature, retries=retries, seed=seed
    )
    for page, of_page in tqdm(of_pages, total=len(pages), desc=label, unit="page", leave=False):
        yield page, of_page if isinstance(of_page, PageError) else of_page[-1].transcript


def attempts(
    pages: Iterable[Page],
    sampler: Sampler,
    prompter: Prompter,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    retries: Sequence[float] = (),
    seed: int = 0,
    batch: int = BATCH,
) -> Iterator[tuple[Page, Sequence[Attempt] | PageError]]:
    """All attempts at each page, in page order: each page climbs its `ladder`, those of a batch together."""
    source = iter(pages)
    while chunk := list(islice(source, batch)):
        climb = _Climb(chunk, prompter, [ladder(temperature, retries) for _ in chunk])
        while climb.wanted:
            step = min(question.step for question in climb.wanted.values())
            here = [i for i, question in climb.wanted.items() if question.step == step]
            heat = climb.wanted[here[0]].temperature
            climb.take(here, sampler, Sampling(temperature=heat, max_tokens=max_tokens, seed=seed + step))
        for i, page in enumerate(chunk):
            yield page, climb.refused[i] if i in climb.refused else climb.tries[i]


class _Climb:
    """The pages of a batch on their ladders, by their place in it."""

    def __init__(self, pages: Sequence[Page], prompter: Prompter, walks: Sequence[Ladder]) -> None:
        self.tries: list[list[Attempt]] = [[] for _ in pages]
        self.refused: dict[int, PageError] = {}
        self.wanted: dict[int, Question] = {}
        self._prompts: dict[int, Prompt] = {}
        self._pages, self._prompter, self._walks = pages, prompter, walks
        for i, page in enumerate(pages):
            try:
                self._prompts[i] = prompter.prompt(page)
                self.wanted[i] = next(walks[i])
            except PageError as error:
                self.refused[i] = error

    def take(self, places: Sequence[int], sampler: Sampler, how: Sampling) -> None:
        """Ask about these pages, and note what is to be asked of them next."""
        place = {self._pages[i].id: i for i in places}
        start = time.perf_counter()
        for group in sampler.sample([(self._pages[i], self._prompts[i]) for i in places], how):
            transcript = group.samples[0].transcript()
            attempt = Attempt(
                transcript=transcript,
                temperature=how.temperature,
                rotation=group.prompt.image.rotation,
                prompt_tokens=len(group.prompt.expanded_ids),
                seconds=round(time.perf_counter() - start, 4),
            )
            self.tries[place[group.page.id]].append(attempt)
            self._follow(place[group.page.id], transcript)

    def _follow(self, i: int, transcript: Transcript) -> None:
        question = answered(self._walks[i], transcript)
        if question is not None and question.rotation != self._prompts[i].image.rotation:
            try:
                self._prompts[i] = self._prompter.prompt(self._pages[i], question.rotation)
            except PageError:
                question = answered(self._walks[i], None)
        if question is None:
            del self.wanted[i]
        else:
            self.wanted[i] = question
