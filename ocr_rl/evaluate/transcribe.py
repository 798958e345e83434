"""Pages -> transcripts: the one code path of `transcribe`, of evaluation and of benchmarks.

The first attempt is greedy. Where a transcript does not end by itself, the policy tries again at rising temperatures.
Where its front matter says that the page is turned, it tries again with the page turned upright. A page that cannot be
drawn comes back as the reason, and the job goes on. Knows nothing about scores.
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
    for page, of_page in attempts(
        pages,
        sampler,
        prompter,
        max_tokens=max_tokens,
        temperature=temperature,
        retries=retries,
        seed=seed,
        label=label,
    ):
        yield page, of_page if isinstance(of_page, PageError) else of_page[-1].transcript


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

    `retries`: temperatures of further attempts while a transcript does not end. With any, a page that the policy calls
    turned (is_rotation_valid is false) gets one more attempt at the same temperature, its image turned by
    rotation_correction. Further retries keep the turned image.
    """
    with tqdm(total=len(pages), desc=label, unit="page", leave=False) as bar:
        for start in range(0, len(pages), batch):
            chunk = pages[start : start + batch]
            tries: list[list[Attempt]] = [[] for _ in chunk]
            prompts, refused = _prompts(chunk, prompter)  # by the page's place in the chunk, as `tries`
            for number, heat in enumerate((temperature, *retries)):
                how = Sampling(temperature=heat, max_tokens=max_tokens, seed=seed + number)
                _try(chunk, prompts, sampler, how, tries)
                if retries:
                    turned = _turned(chunk, prompts, prompter, tries)
                    _try(chunk, turned, sampler, how, tries)
                    prompts = {**prompts, **turned}
                prompts = {i: prompt for i, prompt in prompts.items() if tries[i][-1].transcript.finish != "stop"}
            bar.update(len(chunk))
            for i, page in enumerate(chunk):
                yield page, refused[i] if i in refused else tries[i]


def _prompts(pages: Sequence[Page], prompter: Prompter) -> tuple[dict[int, Prompt], dict[int, PageError]]:
    prompts: dict[int, Prompt] = {}
    refused: dict[int, PageError] = {}
    for i, page in enumerate(pages):
        try:
            prompts[i] = prompter.prompt(page)
        except PageError as error:
            refused[i] = error
    return prompts, refused


def _try(
    pages: Sequence[Page],
    prompts: Mapping[int, Prompt],
    sampler: Sampler,
    how: Sampling,
    tries: Sequence[list[Attempt]],
) -> None:
    """Append one attempt to each page that has a prompt."""
    if not prompts:
        return
    place = {page.id: i for i, page in enumerate(pages)}
    for group in sampler.sample([(pages[i], prompt) for i, prompt in prompts.items()], how):
        tries[place[group.page.id]].append(
            Attempt(
                transcript=group.samples[0].transcript(),
                temperature=how.temperature,
                rotation=group.prompt.image.rotation,
            )
        )


def _turned(
    pages: Sequence[Page], prompts: Mapping[int, Prompt], prompter: Prompter, tries: Sequence[Sequence[Attempt]]
) -> dict[int, Prompt]:
    """Prompts with the page turned upright, for pages not yet turned whose last transcript calls them turned."""
    turned: dict[int, Prompt] = {}
    for i, prompt in prompts.items():
        front, _ = split_front_matter(tries[i][-1].transcript.raw)
        if front and front.clockwise and not prompt.image.rotation:
            try:
                turned[i] = prompter.prompt(pages[i], front.clockwise)
            except PageError:  # the prompt of the turned page may be too long; then the last transcript counts
                continue
    return turned
