"""What other programs call: pages, rewards, checks, transcripts and benchmarks, without the command line.

Users import these names from `ocr_rl`. Rewards run in this process; the training of this project runs them in workers.
Wrong input is a UserError, as everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ocr_rl.config import Recipe, RewardChoice, load_recipe
from ocr_rl.contract import Check, Page, Reading, Score, Transcript, UserError
from ocr_rl.evaluate.results import CheckVerdict, PageResult, check_verdicts
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.plugins import REWARDS, names
from ocr_rl.rollout.reward_pool import weighted
from ocr_rl.rollout.scoring import RewardFault, WeightedReward, score_page
from ocr_rl.text.checks import load_check
from ocr_rl.text.front_matter import split_front_matter

if TYPE_CHECKING:
    from ocr_rl.pages.harvest import Harvest

Text = str | Transcript


# ---- pages


def load_pages(folder: Path | str) -> list[Page]:
    """The pages of a dataset folder, with their tests and references (docs/formats.md describes the folder)."""
    return load_dataset(Path(folder))


def make_page(
    tests: str | Iterable[Mapping[str, Any]] = (), *, reference: str | None = None, page_id: str = "page"
) -> Page:
    """A page without a PDF, for scoring: `tests` as in a dataset's *.jsonl files, and the true transcript.

    `tests` is a sequence of mappings, or a JSON list, or JSON lines. A test may leave out `pdf`, `page` and `id`. The
    fields of the reference's front matter, if it has one, become tags of the page.
    """
    front, body = (None, None) if reference is None else split_front_matter(reference)
    return Page(
        id=page_id,
        pdf=Path("none.pdf"),
        number=1,
        reference=body,
        checks=tuple(_check(test, number) for number, test in enumerate(_tests(tests), 1)),
        tags=front.tags if front else frozenset(),
    )


def _tests(tests: str | Iterable[Mapping[str, Any]]) -> Iterable[Any]:
    if not isinstance(tests, str | Iterable):
        raise UserError(f"make_page: tests are a list, JSON or JSON lines, not {type(tests).__name__}.")
    if not isinstance(tests, str):
        return tests
    try:
        if tests.lstrip().startswith("["):
            return json.loads(tests)
        return [json.loads(line) for line in tests.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise UserError(f"make_page: the tests are neither a JSON list nor JSON lines ({error}).") from None


def _check(test: Any, number: int) -> Check:
    try:
        return load_check({"pdf": "none.pdf", "page": 1, "id": f"test{number}", **test})
    except (ValueError, TypeError) as error:
        raise UserError(f"make_page: test {number}: {error}; write it as in a dataset's *.jsonl files.") from None


# ---- checks


def judge(page: Page, text: Text, reading: Reading = "strict") -> tuple[CheckVerdict, ...]:
    """The verdict of each of the page's tests, in order: `.id`, `.type`, `.passed` and `.why`.

    "strict" is what rewards use; "compatible" gives the public olmOCR-Bench's verdicts. A test that breaks has failed,
    and its reason names the fault.
    """
    if reading not in get_args(Reading):
        raise UserError(f"judge: reading is {reading!r}; give one of {', '.join(get_args(Reading))}.")
    return check_verdicts(page, _transcript(text).body, reading)


# ---- rewards


@dataclass(frozen=True, slots=True, kw_only=True)
class MixScore:
    """What a mix gives one text."""

    reward: float  # in [0, 1]: the weighted mean of the rewards that apply, 0 where a gate holds the text back
    parts: Mapping[str, float]  # by reward, gates included; a reward that does not apply to the page is left out
    why: str  # one line for people
    scores: Mapping[str, Score]  # as the rewards gave them, with their own parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Rewards with their weights and gates."""

    rewards: Sequence[WeightedReward]

    def score(self, page: Page, texts: Sequence[Text]) -> list[MixScore]:
        """One result a text. The texts are siblings of one page, which matters to rewards such as `medoid`.

        A string is a transcript as a policy writes it, perhaps with front matter, that ended by itself, of unknown
        length. Give a Transcript where the recipe has a reward for the finish or the number of tokens. UserError where
        a reward fails, and where none with a weight applies to the page.
        """
        if isinstance(texts, str):
            raise UserError("score: give a list of texts, as in mix.score(page, [text]).")
        if not texts:
            return []
        try:
            scores = score_page(page, [_transcript(text) for text in texts], self.rewards)
        except RewardFault as fault:
            raise UserError(f"{fault}.") from fault
        return [
            _mix_score(reward, passed, {name: of_reward[k] for name, of_reward in scores.by_reward.items()})
            for k, (reward, passed) in enumerate(zip(scores.rewards, scores.passes, strict=True))
        ]


def load_rewards(spec: str | Path | Sequence[str]) -> Mix:
    """The rewards and gates of a recipe (a shipped one by name, or a TOML file); or single rewards in a list.

    A reward in a list is the name of a plug-in or "my_file.py:MyReward"; all weigh the same. UserError for one that
    cannot be loaded.
    """
    if not isinstance(spec, str | Path):
        if not spec or len(set(spec)) < len(spec):
            raise UserError("load_rewards: name at least one reward, and each of them once.")
        return Mix(rewards=weighted([RewardChoice(name=name) for name in spec]))
    if ".py:" in str(spec) or str(spec) in names(REWARDS):
        raise UserError(f"load_rewards: {str(spec)!r} is a reward, not a recipe; give a list, as in [{str(spec)!r}].")
    rewards = _of_recipe(load_recipe(str(spec)))
    if not rewards:
        raise UserError(f"load_rewards: the recipe {spec} has no rewards; give one that learns from its own samples.")
    return Mix(rewards=rewards)


def _of_recipe(recipe: Recipe) -> list[WeightedReward]:
    return weighted(recipe.mix, timeout_s=recipe.scoring.timeout_s)


def _mix_score(reward: float, passed: bool, scores: Mapping[str, Score]) -> MixScore:
    values = {name: score.value for name, score in scores.items()}
    lines = [f"{name}: {_value(score)}" for name, score in scores.items()]
    return MixScore(
        reward=reward,
        parts={name: value for name, value in values.items() if value is not None},
        why="; ".join(lines if passed else ["a gate holds it back", *lines]),
        scores=scores,
    )


def _value(score: Score) -> str:
    value = "does not apply" if score.value is None else f"{score.value:.3f}"
    return f"{value} ({score.why})" if score.why else value


def _transcript(text: Text) -> Transcript:
    if isinstance(text, Transcript):
        return text
    if not isinstance(text, str):
        raise UserError(f"a text is a string or a Transcript, not {type(text).__name__}.")
    return Transcript(raw=text, body=split_front_matter(text)[1], finish="stop", num_tokens=0)


# ---- policies, benchmarks, data


def transcribe(
    pages: Sequence[Page | Path | str],
    model: str = "nano",
    *,
    backend: Literal["vllm", "transformers"] = "vllm",
    longest_px: int | None = None,
    preset: str | None = None,
    instruction: str | None = None,
) -> list[tuple[Page, Transcript | UserError]]:
    """Every page with its transcript, or with the reason why it cannot be drawn, in the order given.

    A PDF file stands for all its pages. A page that is given twice is read once. `model`: a folder, a hub name, or
    "nano", the embedded policy. It is asked as it is known for, as the known model `preset` is, or with `instruction`.
    Tries again as `ocr-rl transcribe` does. Needs torch. UserError for a file that cannot be opened.
    """
    from ocr_rl.evaluate.transcribe import RETRY_TEMPERATURES
    from ocr_rl.evaluate.transcribe import transcribe as transcripts_of
    from ocr_rl.policy import open_policy
    from ocr_rl.transcription.job import pages_of

    refused, of_files = pages_of(dict.fromkeys(Path(item) for item in pages if not isinstance(item, Page)))
    if refused:
        raise refused[0]
    expanded = ([item] if isinstance(item, Page) else [p for p in of_files if p.pdf == Path(item)] for item in pages)
    all_pages = list({page.id: page for of_item in expanded for page in of_item}.values())
    with open_policy(model, engine=backend, longest_px=longest_px, preset=preset, instruction=instruction) as policy:
        limit = policy.settings.max_tokens
        results = transcripts_of(
            all_pages, policy.sampler, policy.prompter, max_tokens=limit, retries=RETRY_TEMPERATURES
        )
        return list(results)


def bench(
    data: Path | str,
    out: Path | str,
    *,
    candidates: Sequence[str] = (),
    engines: Sequence[str] = (),
    models: Sequence[str] = (),
    reading: Reading = "compatible",
    front_matter: Literal["keep", "strip"] = "keep",
    repeats: int = 1,
    backend: Literal["vllm", "transformers"] = "vllm",
    preset: str | None = None,
    instruction: str | None = None,
    workers: int = 2,
    endpoints: Sequence[str] = (),
    limit: int | None = None,
) -> dict[str, list[PageResult]]:
    """`ocr-rl bench`: the page results of every candidate, by its name. The report is written below `out`.

    `candidates` are folders of Markdown files, `engines` OCR engines, `models` policies, `endpoints` servers (written
    as for the command); "name=folder" names one. `limit`: of the pages, the first.
    `front_matter` of a folder's files is judged with the rest unless it is "strip". A rerun goes on with what `out`
    holds.
    """
    from ocr_rl.evaluate.bench import bench as run_bench
    from ocr_rl.evaluate.report import read_candidates
    from ocr_rl.pages.subset import Subset

    run_bench(
        Path(data),
        out=Path(out),
        candidates=candidates,
        engines=engines,
        models=models,
        reading=reading,
        front_matter=front_matter,
        repeats=repeats,
        sampler=backend,
        preset=preset,
        instruction=instruction,
        workers=workers,
        endpoints=endpoints,
        subset=Subset(limit=limit),
    )
    return read_candidates(Path(out) / "report.json")


def mine(folder: Path | str, out: Path | str, *, seed: int = 0) -> Harvest:
    """Make a dataset in `out` from the PDFs below a folder; gives `.pages`, `.tests` and `.left_out` with reasons."""
    from ocr_rl.pages.mined import mine_folder

    return mine_folder(Path(folder), Path(out), seed)
