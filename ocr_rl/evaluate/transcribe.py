"""Pages -> transcripts: the one code path of `transcribe`, of evaluation and of benchmarks.

Greedy first; where a transcript does not end by itself, it is asked for again at rising temperatures, and where the
policy says in its front matter that the page is turned, again with the page turned upright. A page that cannot be
drawn is handed back with its reason and the job goes on. Knows nothing about scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from ocr_rl.contract import Page, Transcript
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.flow import Prompt
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling
from ocr_rl.text.front_matter import split_front_matter

RETRY_TEMPERATURES = (0.2, 0.5, 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One answer of a policy to one page. The last attempt of a page is the one that counts."""

    transcript: Transcript
    temperature: float
    rotation: int  # degrees clockwise by which the image was turned, on top of the page's own


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
    for page, found in attempts(
        pages,
        sampler,
        prompter,
        max_tokens=max_tokens,
        temperature=temperature,
        retries=retries,
        seed=seed,
        label=label,
    ):
        yield page, found if isinstance(found, PageError) else found[-1].transcript


def attempts(
    pages: Sequence[Page],
    sampler: Sampler,
    prompter: Prompter,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    retries: Sequence[float] = (),
    seed: int = 0,
    batch: int = 64,
    label: str = "transcribing",
) -> Iterator[tuple[Page, Sequence[Attempt] | PageError]]:
    """All attempts at each page, in page order.

    `retries`: temperatures tried in turn while a transcript does not end. With any, a page that the policy calls
    turned (is_rotation_valid is false) is asked for once more, turned by its rotation_correction, at the temperature
    of that attempt; further retries keep the turned image.
    """
    with tqdm(total=len(pages), desc=label, unit="page", leave=False) as bar:
        for start in range(0, len(pages), batch):
            chunk = pages[start : start + batch]
            made: dict[int, list[Attempt]] = {i: [] for i in range(len(chunk))}
            asked, refused = _prompts(chunk, prompter)
            place = {page.id: i for i, page in enumerate(chunk)}
            for attempt, at in enumerate((temperature, *retries)):
                how = Sampling(temperature=at, max_tokens=max_tokens, seed=seed + attempt)
                _ask(chunk, asked, sampler, how, place, made)
                if retries:
                    turned = _turned(chunk, asked, prompter, made)
                    _ask(chunk, turned, sampler, how, place, made)
                    asked = {**asked, **turned}
                asked = {i: prompt for i, prompt in asked.items() if made[i][-1].transcript.finish != "stop"}
            bar.update(len(chunk))
            for i, page in enumerate(chunk):
                yield page, refused[i] if i in refused else made[i]


def _prompts(pages: Sequence[Page], prompter: Prompter) -> tuple[dict[int, Prompt], dict[int, PageError]]:
    asked: dict[int, Prompt] = {}
    refused: dict[int, PageError] = {}
    for i, page in enumerate(pages):
        try:
            asked[i] = prompter.prompt(page)
        except PageError as error:
            refused[i] = error
    return asked, refused


def _ask(
    pages: Sequence[Page],
    asked: Mapping[int, Prompt],
    sampler: Sampler,
    how: Sampling,
    place: Mapping[str, int],
    made: Mapping[int, list[Attempt]],
) -> None:
    """Append one attempt to each page that is asked for."""
    if not asked:
        return
    for group in sampler.sample([(pages[i], prompt) for i, prompt in asked.items()], how):
        made[place[group.page.id]].append(
            Attempt(
                transcript=group.samples[0].transcript(),
                temperature=how.temperature,
                rotation=group.prompt.image.rotation,
            )
        )


def _turned(
    pages: Sequence[Page], asked: Mapping[int, Prompt], prompter: Prompter, made: Mapping[int, Sequence[Attempt]]
) -> dict[int, Prompt]:
    """Prompts with the page turned upright, for those that were not turned yet and whose last answer asks for it."""
    turned: dict[int, Prompt] = {}
    for i, prompt in asked.items():
        found, _ = split_front_matter(made[i][-1].transcript.raw)
        if found and not found.is_rotation_valid and found.rotation_correction and not prompt.image.rotation:
            try:
                turned[i] = prompter.prompt(pages[i], found.rotation_correction)
            except PageError:  # turned, its prompt may be too long: then the answer there is has to do
                continue
    return turned
