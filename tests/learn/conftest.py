"""A policy that really depends on what it reads, rows to learn from, learners with any settings, and fakes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from PIL import Image
from torch import Tensor

from benchmarks.families.policies import save_loud
from ocr_rl import config
from ocr_rl.contract import Page, Score, Transcript
from ocr_rl.learn.algos.setting import OpenPages, SamplingSetting
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.rows import Batch
from ocr_rl.models.attention import packing
from ocr_rl.models.settings import PromptSettings
from ocr_rl.objectives.losses import NegativeLogLikelihood, Read
from ocr_rl.pages.images import page_image
from ocr_rl.pages.raster import ImageRef, PageError
from ocr_rl.rollout.collect import Score as ScoreGroups
from ocr_rl.rollout.flow import Group, Prompt, Row
from ocr_rl.rollout.prompt import Origin, Prompter
from ocr_rl.rollout.scoring import ScoredGroup, WeightedReward, score
from tests.fakes import FakeSampler

MakeLearner = Callable[..., Learner]
NLL = NegativeLogLikelihood()
PROMPT = Prompt(page_id="ab:p1", image=ImageRef(pdf=Path("a.pdf"), number=1), token_ids=(5, 6), expanded_ids=(5, 5, 6))
COMPLETIONS = ("Page 1", "a longer line of text", "?", "<td>3</td>")


@pytest.fixture(autouse=True)
def one_thread():
    """With several threads the order of a sum, and so its last bit, may change from one call to the next."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def policy_dir(nano_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random policy with weights three times as large: the fresh one says nearly the same whatever it sees."""
    folder = tmp_path_factory.mktemp("models") / "loud"
    save_loud(nano_dir, folder)
    return folder


@pytest.fixture
def make_learner(policy_dir: Path, prompter: Prompter) -> MakeLearner:
    """`make_learner(lr=1e-3, policy={"lora_rank": 2}, path=other, reference=True, micro_tokens=64, ...)`."""

    def make(*, policy: dict | None = None, path: Path = policy_dir, reference: bool = False, **optim) -> Learner:
        return Learner(
            Origin(path=str(path), settings=PromptSettings(), prompter=prompter),
            config.Policy.model_validate({"path": str(path), **(policy or {})}),
            config.Optim.model_validate({"lr": 1e-3, "max_grad_norm": 1e9, **optim}),
            steps=100,
            reference=reference,
        )

    return make


@pytest.fixture
def rows(tiny_pages: list[Page], prompter: Prompter) -> list[Row]:
    """Two pages of different shapes with four completions each; weights sum to 1 over the tokens."""
    rows = []
    for group_id, page in enumerate((tiny_pages[0], tiny_pages[3])):
        for k, text in enumerate(COMPLETIONS):
            ids = (*prompter.encode(text), prompter.eos_id)
            rows.append(
                Row(
                    prompt=prompter.prompt(page),
                    completion_ids=ids,
                    group_id=group_id,
                    weight=1 / (2 * len(COMPLETIONS) * len(ids)),
                    advantage=(1.0, -0.5, 0.25, -0.75)[k] * (1 + group_id),
                    temperature=0.7,
                    banned_ids=prompter.banned_ids,
                )
            )
    return rows


# --- what a loss looks at ---------------------------------------------------------------------------------------------


def batch_of(
    lengths: list[int],
    *,
    weight: list[float],
    advantage: list[float] | None = None,
    old: list[float] | None = None,
    sampler: list[float] | None = None,
    ref: list[float] | None = None,
) -> Batch:
    """Only what losses look at; one value a token."""
    values = lambda xs: None if xs is None else torch.tensor(xs, dtype=torch.float64)
    nothing = torch.empty(0)
    return Batch(
        input_ids_1X=nothing,
        position_ids_31X=nothing,
        packing=packing([[1, 1]]),
        pixel_values=nothing,
        image_sizes=nothing,
        source_N=nothing,
        target_N=nothing,
        row_N=torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)),
        last_B=torch.empty(0),
        rows=tuple(Row(prompt=PROMPT, completion_ids=(1,) * n, group_id=0, weight=0.0) for n in lengths),
        weight_N=torch.tensor(weight, dtype=torch.float64),
        advantage_N=torch.tensor(advantage or [0.0] * sum(lengths), dtype=torch.float64),
        sampler_N=values(sampler),
        old_N=values(old),
        ref_N=values(ref),
    )


def read_of(logprob_N: Tensor) -> Read:
    """What the model would have been read as; no loss looks at the entropies."""
    return Read(logprob_N=logprob_N, entropy_N=torch.zeros_like(logprob_N))


# --- how far apart ----------------------------------------------------------------------------------------------------


def apart(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Length of the difference over length of the expected."""
    assert set(tensors) == set(expected)
    far = sum(float((tensors[name] - expected[name]).double().square().sum()) for name in expected)
    return math.sqrt(far / sum(float(g.double().square().sum()) for g in expected.values()))


def largest_gap(values: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> float:
    return max(abs(a - b) for x, y in zip(values, expected, strict=True) for a, b in zip(x, y, strict=True))


def weights(learner: Learner) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learner.module.named_parameters()}


def same(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return set(tensors) == set(expected) and all(torch.equal(tensors[name], expected[name]) for name in expected)


# --- in place of a learner, a sampler and rewards ---------------------------------------------------------------------


class Counter:
    """What an algorithm needs of a learner, without a model."""

    def __init__(self, prompter: Prompter, policy: int = 0) -> None:
        self.prompter, self.policy = prompter, policy

    def weights(self) -> Iterator:
        return iter([("w", self.policy)])

    def annotate(self, rows: Sequence[Row], *, old: bool, reference: bool) -> list[Row]:
        return [replace(row, old_logprobs=row.sampler_logprobs if old else None) for row in rows]


class Referee(Counter):
    """A counting learner whose log-probabilities are minus its version."""

    settings = config.Optim()
    reference = None

    def logprobs(self, rows: Sequence[Row], *, reference: bool = False) -> list[tuple[float, ...]]:
        return [(-float(self.policy),) * len(row.completion_ids) for row in rows]


@pytest.fixture
def counter(prompter: Prompter) -> Counter:
    return Counter(prompter)


@pytest.fixture
def open_pages(tiny_pages: list[Page]) -> OpenPages:
    """Three pages for a lesson of seed 0, the fourth one twice for any other."""
    return lambda source: tiny_pages[:3] if source.seed == 0 else tiny_pages[3:] * 2


class Asked(FakeSampler):
    """A fake that remembers what it was asked, and answers in reverse order."""

    def __init__(self, prompter: Prompter, script: Callable[[Page, int], str]) -> None:
        super().__init__(prompter, script)
        self.pages: list[list[int]] = []
        self.seeds: list[int] = []
        self.policies: list[int] = []

    def sample(self, prompts, how) -> Iterator[Group]:
        self.pages.append([page.number for page, _ in prompts])
        self.seeds.append(how.seed)
        self.policies.append(self.policy)
        return iter(list(super().sample(prompts, how))[::-1])


def longer(page: Page, group: Sequence[Transcript]) -> list[Score]:
    """A reward: 0.1 a character."""
    return [Score(value=len(transcript.body) / 10, parts={"characters": len(transcript.body)}) for transcript in group]


def score_length(groups: Sequence[Group]) -> list[ScoredGroup]:
    return list(score(groups, [WeightedReward(name="longer", reward=longer)]))


def sampling_setting(
    pages: Sequence[Page],
    sampler: FakeSampler,
    learner: Learner | Counter,
    folder: Path = Path("no folder"),
    *,
    score: ScoreGroups = score_length,
) -> SamplingSetting:
    """What GRPO, DPO and best-of-N work with, around fakes."""
    return SamplingSetting(
        seed=0,
        learner=learner,  # type: ignore[arg-type]
        open_pages=lambda source: pages,
        folder=folder,
        pages=pages,
        sampler=sampler,
        score=score,
        sampling=config.Sampling(temperature=0.7, max_tokens=8),
    )


def without_file(pages: Sequence[Page], *numbers: int) -> list[Page]:
    """The pages, those with these numbers of a file that is not there."""
    return [replace(page, pdf=Path("gone.pdf")) if page.number in numbers else page for page in pages]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind(Prompter):
    """One that cannot draw a page any more."""

    lacks: int

    def image(self, prompt: Prompt) -> Image.Image:
        if prompt.image.number == self.lacks:
            raise PageError(prompt.image.pdf, self.lacks, "there is no such file")
        return page_image(prompt.image)


def blind(prompter: Prompter, lacks: int) -> Prompter:
    return Blind(lacks=lacks, **{part.name: getattr(prompter, part.name) for part in fields(Prompter)})


def loud_head(learner: Learner) -> Learner:
    """The same learner; the numbers of its head, which begins at 0, are of size 1 now."""
    assert learner.head is not None
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(7)
        learner.head.linear.weight.normal_(std=1 / 16)
        learner.head.linear.bias.fill_(0.25)
    learner.masters.hand_back()
    return learner
