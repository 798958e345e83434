"""Pages -> transcripts: the one code path of `transcribe`, of evaluation and of benchmarks.

Greedy first; where a transcript does not end by itself, it is asked for again at rising temperatures. A page that
cannot be drawn is handed back with its reason and the job goes on. Knows nothing about scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tqdm import tqdm

from ocr_rl.contract import Page, Transcript
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.flow import Group, Prompt
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling

RETRY_TEMPERATURES = (0.2, 0.5, 0.8)


def transcribe(
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
) -> Iterator[tuple[Page, Transcript | PageError]]:
    """One transcript per page, in page order. `retries`: temperatures tried in turn while a transcript does not end."""
    with tqdm(total=len(pages), desc=label, unit="page", leave=False) as bar:
        for start in range(0, len(pages), batch):
            chunk = pages[start : start + batch]
            found: dict[int, Transcript | PageError] = {}
            asked: dict[int, Prompt] = {}
            for i, page in enumerate(chunk):
                try:
                    asked[i] = prompter.prompt(page)
                except PageError as error:
                    found[i] = error
            for attempt, at in enumerate((temperature, *retries)):
                if not asked:
                    break
                how = Sampling(temperature=at, max_tokens=max_tokens, seed=seed + attempt)
                place = {chunk[i].id: i for i in asked}
                for group in sampler.sample([(chunk[i], prompt) for i, prompt in asked.items()], how):
                    found[place[group.page.id]] = _only(group)
                asked = {i: prompt for i, prompt in asked.items() if not _ended(found[i])}
            bar.update(len(chunk))
            for i, page in enumerate(chunk):
                yield page, found[i]


def _only(group: Group) -> Transcript:
    return group.samples[0].transcript()


def _ended(found: Transcript | PageError) -> bool:
    return isinstance(found, Transcript) and found.finish == "stop"
