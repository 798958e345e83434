"""Advantages of tokens against numbers worked by hand, and their sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ocr_rl import config
from ocr_rl.contract import Earned, Page, Score, Transcript, UserError, per_transcript
from ocr_rl.objectives.advantages import ADVANTAGES
from ocr_rl.pages.raster import ImageRef
from ocr_rl.pages.workers import _attempt
from ocr_rl.plugins import load_reward
from ocr_rl.rollout.compare import upside_down, with_advantages
from ocr_rl.rollout.credit import MOST, Parts, Piece, by_siblings, by_spans, of_tests, pieces
from ocr_rl.rollout.crediting import SiblingCredit, SpanCredit, locate_group, open_credit
from ocr_rl.rollout.flow import ComparedGroup, Group, Prompt, Sample
from ocr_rl.rollout.scoring import ScoredGroup, WeightedReward, score
from ocr_rl.text.checks import load_check

PROMPT = Prompt(page_id="ab:p1", image=ImageRef(pdf=Path("a.pdf"), number=1), token_ids=(5,), expanded_ids=(5,))
TESTS = ({"type": "present", "text": "alpha"}, {"type": "present", "text": "beta"})
# A letter a token; the last one is the end.
TOKENIZER = SimpleNamespace(
    convert_ids_to_tokens=lambda ids: [chr(i) if i else "<end>" for i in ids],
    added_tokens_decoder={0: SimpleNamespace(special=True)},
)


def page(tests: Sequence[dict[str, Any]] = TESTS) -> Page:
    checks = [load_check({"pdf": "a.pdf", "page": 1, "id": f"t{k}", **test}) for k, test in enumerate(tests)]
    return Page(id="ab:p1", pdf=Path("a.pdf"), number=1, checks=checks)


def scored(texts: Sequence[str], rewards: Sequence[WeightedReward], of: Page | None = None) -> ScoredGroup:
    samples = [
        Sample(token_ids=(*map(ord, text), 0), logprobs=(-1.0,) * (len(text) + 1), text=text, finish="stop", policy=0)
        for text in texts
    ]
    group = Group(page=of or page(), prompt=PROMPT, samples=tuple(samples), temperature=1.0, banned_ids=())
    return next(score([group], rewards))


def unit_tests(name: str = "pass_rate", weight: float = 1.0, **options: Any) -> WeightedReward:
    return WeightedReward(name=name, reward=load_reward(name, options), weight=weight)


class InThisProcess:
    """The pool's `run` without workers."""

    def __init__(self, function: Callable[[Any], Any], **_: Any) -> None:
        self.function = function

    def run(self, jobs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        return ((job, _attempt(self.function, job, 2**31)) for job in jobs)

    def close(self) -> None: ...


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocr_rl.rollout.crediting.Pool", InThisProcess)


def credited(texts: Sequence[str], rewards: Sequence[WeightedReward], how: str = "centred") -> ComparedGroup:
    group = scored(texts, rewards)
    (compared,) = with_advantages([group], how)
    credit = SpanCredit(rewards=rewards, tokenizer=TOKENIZER, share=1.0, workers=1, timeout_s=60.0)
    try:
        return credit([(group, compared)])[0]
    finally:
        credit.close()


def parts_of(group: ScoredGroup, reward: WeightedReward) -> Parts:
    checks, texts = group.group.page.checks, [sample.text for sample in group.group.samples]
    return of_tests(reward.reward, checks, locate_group(checks, texts, "strict"))  # type: ignore[arg-type]


def test_a_failed_test_is_charged_to_the_letter_that_failed_it() -> None:
    group = credited(["alpha and beta", "alpha and bets"], [unit_tests()])
    assert group.advantages == (0.25, -0.25)  # 1 and 1/2
    assert group.token_advantages is not None
    good, bad = group.token_advantages
    # 15 tokens with the end. The gain stands on the 4 of "beta": 0.25 * 15 / 4 each. The loss on the "s" alone.
    assert good == pytest.approx([0.0] * 10 + [0.9375] * 4 + [0.0])
    assert bad == pytest.approx([0.0] * 13 + [-3.75] + [0.0])
    assert sum(good) == pytest.approx(15 * 0.25)
    assert sum(bad) == pytest.approx(15 * -0.25)


def test_what_belongs_to_no_test_stands_on_all_tokens() -> None:
    """Half the weight is of a reward without tests: its piece is even; an alike test has none."""
    group = scored(["alpha and beta", "alpha and bet"], [unit_tests(), unit_tests("length", max_tokens=14)])
    (compared,) = with_advantages([group], "centred")
    own = pieces(compared, group.scores, [unit_tests()], [parts_of(group, unit_tests())])
    for k, (of_beta, rest) in enumerate(own):
        assert of_beta.amount == pytest.approx((0.125, -0.125)[k])
        assert of_beta.amount + rest.amount == pytest.approx(compared.advantages[k])
        assert rest.spans == ()
    assert own[0][0].spans == ((10, 14),)
    assert own[1][0].spans == ((13, 13),)  # the last letter is missing there
    tokens = by_spans(own, [range(1, 15), range(1, 14)], [0, 0])
    rest = own[1][1].amount
    # 13 tokens; the missing letter's neighbour is the last one, as no end is given here.
    assert tokens[1] == pytest.approx([rest] * 12 + [rest - 0.125 * 13])


def by_elements(texts: Sequence[str]) -> tuple[WeightedReward, ScoredGroup, ComparedGroup, list[list[Piece]]]:
    """The element reward on a page of two blocks, of 5 and 4 letters, and the pieces of its samples."""
    of = replace(page(()), reference="alpha\n\nbeta")
    reward = load_reward("elements", {"part": "content"})
    elements = WeightedReward(name="elements", reward=reward, weight=1.0)
    group = scored(texts, [elements], of)
    (compared,) = with_advantages([group], "centred")
    places = [reward.place(of, text) for text in texts]  # type: ignore[attr-defined]
    return elements, group, compared, pieces(compared, group.scores, [elements], [places])


@pytest.mark.usefixtures("no_workers")
def test_an_element_that_is_misread_or_invented_is_charged_to_its_own_letters() -> None:
    """Of the samples one misreads a letter of the second, and one adds five letters."""
    texts = ["alpha\n\nbeta", "alpha\n\nbxta", "alpha\n\nbeta\n\nkappa"]
    elements, group, compared, own = by_elements(texts)
    misread = 4 * 0.75 / 9  # of the second block: one of its four letters is wrong
    assert group.scores.rewards == pytest.approx([1.0, 5 / 9 + misread, 9 / 14])
    mean = (2 * 4 / 9 + misread) / 3
    assert [piece.amount for piece in own[1]][0] == pytest.approx(misread - mean)
    assert own[1][0].spans == ((7, 11),)
    lost = 1 - 9 / 14
    assert own[2][-2].amount == pytest.approx(-lost + lost / 3) and own[2][-2].spans == ((13, 18),)
    for pieces_of, advantage in zip(own, compared.advantages, strict=True):
        assert sum(piece.amount for piece in pieces_of) == pytest.approx(advantage)
        assert pieces_of[-1].amount == pytest.approx(0.0, abs=1e-9)  # content is elements and inventions, and no more
    credit = SpanCredit(rewards=[elements], tokenizer=TOKENIZER, share=1.0, workers=1, timeout_s=60.0)
    tokens = credit([(group, compared)])[0].token_advantages
    credit.close()
    assert tokens is not None and min(range(12), key=lambda k: tokens[1][k]) in range(7, 11)
    assert min(range(19), key=lambda k: tokens[2][k]) in range(13, 18)
    assert [sum(row) / len(row) for row in tokens] == pytest.approx(compared.advantages)


def test_to_invent_less_than_a_sibling_is_no_gain_of_what_is_invented() -> None:
    texts = ["alpha\n\nbeta\n\nkappa", "alpha\n\nbeta\n\nkappa and more that nobody wrote", "zzzzzzzz"]
    _, _, compared, own = by_elements(texts)
    assert compared.advantages[0] > 0 > compared.advantages[1]
    for of_text, advantage in zip(own, compared.advantages, strict=True):
        assert sum(piece.amount for piece in of_text) == pytest.approx(advantage)
    (less,), (more,), (nothing,) = ([p for p in of_text[2:-1]] for of_text in own)
    assert (less.amount > 0, less.spans) == (True, ()) and (nothing.amount > 0, nothing.spans) == (True, ())
    assert more.amount < 0 and more.spans == ((13, len(texts[1])),)


@dataclass(frozen=True)
class Strange:
    """A reward of one's own whose `place` says `parts` of each body in turn."""

    parts: dict[str, Any]

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        return Score(value=len(transcript.body) / 20)

    def place(self, page: Page, body: str) -> Any:
        return self.parts[body]


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(
    "said",
    [[], None, 0, [0.5], [Earned(adds="much")], [Earned(adds=0.5, spans=("ab",))], [Earned(adds=0.5)] * 2],  # type: ignore[arg-type]
)
def test_a_reward_whose_places_cannot_be_taken_leaves_a_group_as_it_was(said: Any) -> None:
    reward = Strange({"alpha": [Earned(adds=0.25, spans=((0, 5),))], "beta": said})
    assert credited(["alpha", "beta"], [WeightedReward(name="own", reward=reward)]).token_advantages is None


def test_no_token_gets_more_than_its_bound_and_the_sum_is_kept() -> None:
    ends = range(1, 101)
    (tokens,) = by_spans([[Piece(1.0, ((50, 51),))]], [ends], [0])
    even = (100 - MOST) / 100
    assert tokens[50] == pytest.approx(MOST + even)
    assert tokens[0] == tokens[99] == pytest.approx(even)
    assert sum(tokens) == pytest.approx(100.0)


def test_a_share_of_it_stays_on_all_tokens_and_a_place_counts_from_the_body() -> None:
    (tokens,) = by_spans([[Piece(1.0, ((0, 2),)), Piece(0.5)]], [range(1, 9)], [4], share=0.5)
    assert tokens == pytest.approx([1.0] * 4 + [3.0] * 2 + [1.0] * 2)  # 0.5 + 0.5 * 1, and 8 / 2 * 0.5 more


@pytest.mark.usefixtures("no_workers")
def test_a_gate_charges_the_sample_as_a_whole() -> None:
    gate = WeightedReward(name="repetition", reward=load_reward("repetition", {}), weight=0.0, gate=0.99)
    loop = "alpha and beta " + "so " * 40
    group = credited([loop, "alpha and beta", "alpha and bets"], [unit_tests(), gate])
    assert group.rewards[0] == 0.0
    assert group.token_advantages is not None
    assert group.token_advantages[0] == pytest.approx([group.advantages[0]] * len(group.token_advantages[0]))


def test_what_a_floor_takes_away_is_charged_to_no_test_that_passes() -> None:
    """The second sample has "alpha" as the first does; its order fails, and the floor of orders makes it all 0."""
    tests = ({"type": "present", "text": "alpha"}, {"type": "order", "before": "alpha", "after": "beta"})
    rewards = [unit_tests(floors={"order": 1.0})]
    group = scored(["alpha and beta", "beta and alpha"], rewards, page(tests))
    (compared,) = with_advantages([group], "centred")
    assert compared.advantages == (0.5, -0.5)
    parts = [parts_of(group, rewards[0])]
    for own, sign in zip(pieces(compared, group.scores, rewards, parts), (1, -1), strict=True):
        assert [piece.amount for piece in own] == pytest.approx([0.25 * sign, 0.25 * sign])  # the order's, and the rest
        assert own[0].spans and not own[1].spans


@pytest.mark.parametrize("holds", [(), ("pass_rate",)])
def test_a_gate_of_all_rewards_or_of_one_charges_no_test(holds: tuple[str, ...]) -> None:
    gate = WeightedReward(name="repetition", reward=load_reward("repetition", {}), weight=0.0, gate=0.99, holds=holds)
    rewards, texts = [unit_tests(), gate], ["alpha and beta " + "so " * 40, "alpha and beta", "alpha and bets"]
    group = scored(texts, rewards)
    (compared,) = with_advantages([group], "centred")
    own = pieces(compared, group.scores, rewards, [parts_of(group, rewards[0])])
    assert group.scores.rewards[0] == 0.0
    assert own[0] == [Piece(compared.advantages[0])]
    assert len(own[1]) == 3  # a piece a test, and the rest


def test_a_sample_without_tokens_has_no_advantages() -> None:
    assert by_spans([[Piece(1.0, ((0, 2),)), Piece(0.5)]], [()], [0]) == ((),)
    assert by_siblings([(), (1,)], [0.0, 1.0], [-0.5, 0.5]) == ((), (0.5,))


MIXES = (
    [unit_tests(by="macro")],
    [unit_tests(by="weighted", weights={"present": 2.0, "absent": 0.5}), unit_tests("length", max_tokens=60)],
    [unit_tests("pass_degree", 3.0, floors={"order": 0.9}), unit_tests(floors={"present": 1.0})],
)


@pytest.mark.parametrize("how", sorted(set(ADVANTAGES) - {"gdpo"}))
@pytest.mark.parametrize("rewards", MIXES, ids=("macro", "weighted", "floors"))
def test_sums_are_kept_whatever_the_mix_and_the_scale(rewards: list[WeightedReward], how: str) -> None:
    tests = (
        *TESTS,
        {"type": "order", "before": "alpha", "after": "beta"},
        {"type": "absent", "text": "Page header"},
        {"type": "baseline"},
    )
    texts = ["alpha and beta", "beta and alpha, a longer one", "Page header\n\nalfa und bets", "", "alp"]
    groups = [scored(texts, rewards, page(tests)), scored(texts[:2], rewards, page(tests))]
    for group, compared in zip(groups, with_advantages(groups, how), strict=True):
        bodies = [sample.text for sample in group.group.samples]
        parts = [parts_of(group, reward) for reward in rewards if reward.name != "length"]
        own = pieces(compared, group.scores, rewards, parts)
        tokens = by_spans(own, [range(1, len(text) + 2) for text in bodies], [0] * len(bodies))
        for advantage, text, of_text, values in zip(compared.advantages, bodies, own, tokens, strict=True):
            assert len(values) == len(text) + 1
            assert sum(values) == pytest.approx(advantage * len(values), abs=1e-9)
            assert abs(of_text[-1].amount) < 1e-9 or len(rewards) > 1 or how != "centred"  # tests are all there is


def test_siblings_differ_where_the_decision_was() -> None:
    tokens = by_siblings([(1, 2, 3, 0), (1, 9, 3, 0)], [1.0, 0.0], [0.5, -0.5])
    assert tokens == (pytest.approx((0.0, 2.0, 0.0, 0.0)), pytest.approx((0.0, -2.0, 0.0, 0.0)))
    # What is lacking is charged to what stands there instead.
    tokens = by_siblings([(1, 2, 3, 0), (1, 3, 0)], [1.0, 0.0], [0.5, -0.5])
    assert tokens == (pytest.approx((0.0, 2.0, 0.0, 0.0)), pytest.approx((0.0, -1.5, 0.0)))


def test_a_sibling_counts_by_how_far_its_reward_is_off() -> None:
    # The second token differs from a sibling 1.0 off, the third from one 0.5 off: 2 to 1 of 3 * 0.5.
    tokens = by_siblings([(1, 2, 3), (1, 9, 3), (1, 2, 9)], [1.0, 0.0, 0.5], [0.5, -0.5, 0.0])
    assert tokens[0] == pytest.approx((0.0, 1.0, 0.5))
    assert tokens[2] == pytest.approx((0.0, 0.0, 0.0))


def test_siblings_that_are_alike_share_evenly_and_a_bound_holds() -> None:
    assert by_siblings([(1, 2), (1, 2)], [1.0, 0.0], [0.5, -0.5]) == ((0.5, 0.5), (-0.5, -0.5))
    assert by_siblings([(1, 2), (3, 4)], [1.0, 1.0], [0.5, 0.5]) == ((0.5, 0.5), (0.5, 0.5))
    one, other = by_siblings([(7,) * 99 + (1,), (7,) * 99 + (2,)], [1.0, 0.0], [1.0, -1.0])
    assert max(one) == pytest.approx(MOST + 0.84)
    assert min(one) == pytest.approx(0.84)
    assert sum(one) == pytest.approx(100.0)
    assert sum(other) == pytest.approx(-100.0)
    long = by_siblings([(1,) * 9000, (2,) * 9000], [1.0, 0.0], [0.5, -0.5])
    assert set(long[0]) == {0.5}


@pytest.mark.usefixtures("no_workers")
def test_label_noise_turns_tokens_upside_down_too() -> None:
    group = credited(["alpha and beta", "alpha and bets"], [unit_tests()])
    turned = upside_down(group, 1.0, "key")
    assert group.token_advantages and turned.token_advantages
    assert turned.token_advantages[1] == tuple(-value for value in group.token_advantages[1])


def recipe(**grpo: Any) -> config.Recipe:
    given = {"pages": {"synth": "nano"}, "steps": 1, **grpo}
    return config.Recipe.model_validate(
        {"policy": {"path": "nano"}, "grpo": given, "rewards": [{"name": "diff_ratio"}]}
    )


def test_what_a_recipe_may_ask_for() -> None:
    assert open_credit(recipe(), [], TOKENIZER) is None
    siblings = open_credit(recipe(credit="siblings", credit_share=0.5), [], TOKENIZER)
    assert siblings == SiblingCredit(share=0.5)
    with pytest.raises(UserError, match="reward of this recipe is one: add pass_degree, pass_rate or elements"):
        open_credit(recipe(credit="spans"), [unit_tests("diff_ratio")], TOKENIZER)
    with pytest.raises(ValueError, match="and gdpo is not: set advantage"):
        recipe(credit="spans", advantage="gdpo")
    with pytest.raises(ValueError, match="credit_share is for credit"):
        recipe(credit_share=0.5)
    for credit in ("spans", "siblings"):  # one ratio a sample has one gradient, whoever has the advantage
        with pytest.raises(ValueError, match=f'credit = "{credit}" tells tokens apart, and ratio = "geometric" moves'):
            recipe(credit=credit, ratio="geometric")
    assert recipe(credit="siblings", ratio="geometric", surrogate="cispo").algorithm.name == "grpo"


def test_what_hangs_or_dies_in_a_worker_leaves_one_advantage_a_sample(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ocr_rl.pages.workers import Refusal

    rewards = [unit_tests()]
    group = scored(["alpha and beta", "alpha"], rewards)
    (compared,) = with_advantages([group], "centred")
    credit = SpanCredit(rewards=rewards, tokenizer=TOKENIZER, share=1.0, workers=1, timeout_s=60.0)
    monkeypatch.setattr(type(credit._pool), "run", lambda _, jobs: ((job, Refusal("hung")) for job in jobs))
    assert credit([(group, compared), (group, compared)]) == [compared, compared]
    (said,) = capsys.readouterr().out.splitlines()  # once
    assert said == f"No credit by spans for samples of page {group.group.page.id}: hung. They keep one advantage each."


@pytest.mark.parametrize(
    "rewards",
    [[unit_tests("elements", part="order")], [unit_tests(), unit_tests("bleu")]],
    ids=["a part that does not split", "tests that both pass"],
)
def test_where_nothing_that_tells_siblings_apart_has_a_place_there_is_no_credit(
    rewards: list[WeightedReward], capsys: pytest.CaptureFixture[str]
) -> None:
    of = replace(page(), reference="alpha\n\nbeta")
    group = scored(["alpha\n\nbeta", "beta\n\nalpha"], rewards, of)
    (compared,) = with_advantages([group], "centred")
    assert compared.advantages[0] > 0.05
    with closing(SpanCredit(rewards=rewards, tokenizer=TOKENIZER, share=1.0, workers=1, timeout_s=60.0)) as credit:
        assert credit([(group, compared)]) == [compared] and compared.token_advantages is None
    assert "nothing that tells them apart has a place in their texts" in capsys.readouterr().out
