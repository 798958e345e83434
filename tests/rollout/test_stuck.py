"""Rewards that apply to few pages, gates that hold all back, policies that read nothing: what a run says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocr_rl.contract import Page, Score, Transcript
from ocr_rl.pages.raster import ImageRef
from ocr_rl.rollout.compare import with_advantages
from ocr_rl.rollout.coverage import require_rewards
from ocr_rl.rollout.describe import describe, held_back
from ocr_rl.rollout.flow import Group, Prompt, Sample
from ocr_rl.rollout.scoring import ScoredGroup, WeightedReward, score, score_or_fault
from ocr_rl.rollout.stuck import why_stuck


@dataclass(frozen=True)
class Of:
    """A reward of a transcript's text; None on pages that are not named."""

    value: Callable[[str], float]
    pages: frozenset[str] | None = None

    def __call__(self, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
        if self.pages is not None and page.id not in self.pages:
            return [Score(value=None, why="the page has no such thing") for _ in group]
        return [Score(value=self.value(transcript.body)) for transcript in group]


ALWAYS = WeightedReward(name="always", reward=Of(lambda text: 0.3))


def page(n: int) -> Page:
    return Page(id=f"0a1b2c3d:p{n}", pdf=Path("a.pdf"), number=n)


def group(n: int, *texts: str) -> Group:
    image = ImageRef(pdf=Path("a.pdf"), number=n, longest_px=100, rotation=0)
    prompt = Prompt(page_id=page(n).id, image=image, token_ids=(1,), expanded_ids=(1,))
    samples = tuple(Sample(token_ids=(2,), logprobs=(-0.1,), text=t, finish="stop", policy=0) for t in texts)
    return Group(page=page(n), prompt=prompt, samples=samples, temperature=1.0, banned_ids=())


def stuck(rewards: Sequence[WeightedReward], *groups: Group) -> str:
    def scored(some: Sequence[Group]) -> list[ScoredGroup]:
        return list(score(some, rewards))

    return why_stuck(scored(groups), scored)


# --- rewards and gates that apply to few pages ------------------------------------------------------------------------


def lines(*rewards: WeightedReward, pages: int = 20) -> list[str]:
    score_all = lambda groups: (score_or_fault(page, texts, rewards) for page, texts in groups)
    return require_rewards([page(n) for n in range(pages)], score_all).lines(rewards)


def on(*numbers: int) -> Of:
    return Of(lambda text: 1.0, frozenset(page(n).id for n in numbers))


def test_a_reward_that_applies_to_no_page_is_named_with_its_reason() -> None:
    (line,) = lines(ALWAYS, WeightedReward(name="formulas", reward=on()))
    assert line.startswith(
        "! The reward formulas applies to none of the 20 training pages (the page has no such thing)"
    )
    assert "teaches nothing" in line


def test_one_that_applies_to_few_is_named_with_the_share_and_one_that_applies_to_a_fifth_is_not() -> None:
    few, some = (WeightedReward(name=name, reward=on(*range(n))) for name, n in (("few", 3), ("some", 4)))
    (line,) = lines(ALWAYS, few, some)
    assert "reward few applies to 3 of the 20 training pages, 15.0%" in line


def test_an_inert_gate_is_named_as_open() -> None:
    (line,) = lines(ALWAYS, WeightedReward(name="budget", reward=on(), weight=0.0, gate=1.0))
    assert line.startswith("! The gate budget applies to none") and "stands open and holds nothing back" in line


def test_the_figures_of_a_rollout_say_to_how_many_pages_a_reward_applied_and_what_gates_held() -> None:
    rewards = [
        ALWAYS,
        WeightedReward(name="few", reward=on(1)),
        WeightedReward(name="long", reward=Of(lambda text: len(text) / 4), weight=0.0, gate=0.5),
    ]
    scored = list(score([group(1, "a", "abcd"), group(2, "ab", "abc"), group(3, "", "a"), group(4, "", "")], rewards))
    figures = describe(with_advantages(scored, "centred")) | held_back(scored)
    assert (figures["applies/always"], figures["applies/few"], figures["applies/long"]) == (1.0, 0.25, 1.0)
    assert figures["held/long"] == 5 / 8


# --- rollouts that teach nothing --------------------------------------------------------------------------------------


def gate(name: str, value: Callable[[str], float], at_least: float, holds: tuple[str, ...] = ()) -> WeightedReward:
    return WeightedReward(name=name, reward=Of(value), weight=0.0, gate=at_least, holds=holds)


def test_a_gate_that_holds_everything_back_is_named_with_its_share() -> None:
    outline = gate("outline", lambda text: 0.1, 0.25)
    budget = gate("budget", lambda text: float(len(text) < 3), 1.0)
    why = stuck([ALWAYS, outline, budget], group(1, "abcd", "ab"), group(2, "ab", "ab"))
    assert "gates hold everything back, of 4 samples of 2 pages: outline 100%, budget 25.0%" in why
    assert "the mean of outline is 0.10" in why and "SFT" in why


def test_two_gates_that_hold_everything_back_together_are_named_both() -> None:
    low = gate("low", lambda text: float(text != "a"), 1.0)
    high = gate("high", lambda text: float(text != "b"), 1.0)
    reads = WeightedReward(name="reads", reward=Of(lambda text: float(bool(text))))
    assert "low 50.0%, high 50.0%" in stuck([reads, low, high], group(1, "a", "b"))
    assert stuck([reads, low], group(1, "a", "b")) == ""


def test_a_gate_that_holds_one_reward_back_does_not_hold_everything() -> None:
    part = gate("part", lambda text: 0.0, 0.5, ("formulas",))
    formulas = WeightedReward(name="formulas", reward=Of(lambda text: 1.0))
    reads = WeightedReward(name="reads", reward=Of(lambda text: float(bool(text))))
    assert stuck([reads, formulas, part], group(1, "a", "a")) == ""


@pytest.mark.parametrize("texts", [("", ""), ("so so", "la la")])
def test_a_policy_that_earns_what_an_empty_transcript_earns_reads_none_of_the_pages(texts: tuple[str, str]) -> None:
    reads = WeightedReward(name="reads", reward=Of(lambda text: 0.2 + 0.8 * (text == "the truth")))
    why = stuck([reads], group(1, *texts), group(2, *texts))
    assert "the policy reads none of the pages: of 4 samples of 2 pages" in why
    assert "the best 0.20, empty ones 0.20" in why and "SFT" in why
    assert stuck([reads], group(1, *texts), group(2, "the truth", "the truth")) == ""  # flat, and read


def test_all_rewards_0_is_the_floor_too_and_a_page_that_is_learnt_is_none() -> None:
    reads = WeightedReward(name="reads", reward=Of(lambda text: float(text == "the truth")))
    assert "reads none of the pages" in stuck([reads], group(1, "x", "y"))
    assert stuck([reads], group(1, "the truth", "the truth")) == ""


def test_blank_pages_on_which_nothing_is_right_are_no_floor() -> None:
    blank = WeightedReward(name="blank", reward=Of(lambda text: float(not text)))
    assert stuck([blank], group(1, "", "")) == ""
    assert stuck([blank]) == ""
