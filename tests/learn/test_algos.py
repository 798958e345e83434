"""SFT and GRPO as generators of steps: which pages, which rows, when to stop, and going on after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")


from ocr_rl import config
from ocr_rl.contract import Page, Score, Transcript, UserError
from ocr_rl.learn.algos.grpo import grpo, reweighted, split_by_group
from ocr_rl.learn.algos.sft import reference_rows, sft, target_text
from ocr_rl.learn.fit import fit, resume
from ocr_rl.learn.step import Step
from ocr_rl.objectives.losses import nll
from ocr_rl.pages.epochs import draw
from ocr_rl.pages.raster import ImageRef
from ocr_rl.pages.synth.make import make_document
from ocr_rl.rollout.flow import Group, Prompt, Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.scoring import FaultBudget, ScoredGroup, WeightedReward, score
from ocr_rl.run import Run
from ocr_rl.text.front_matter import split_front_matter
from tests.fakes import FakeSampler
from tests.learn.conftest import MakeLearner

PAGES = [Page(id=f"{n:08x}:p1", pdf=Path(f"{n}.pdf"), number=1) for n in range(5)]


# --- which pages ------------------------------------------------------------------------------------------------------


def test_every_epoch_is_all_pages_in_another_order() -> None:
    drawn = draw(PAGES, 15, 0, "seed")
    epochs = [drawn[i : i + 5] for i in (0, 5, 10)]
    assert all(sorted(page.id for page in epoch) == [page.id for page in PAGES] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert draw(PAGES, 15, 0, "another seed") != drawn


@pytest.mark.parametrize("at", [0, 1, 4, 5, 7, 12])
def test_what_is_drawn_depends_on_how_many_were_drawn_alone(at: int) -> None:
    assert draw(PAGES, at, 0, "seed") + draw(PAGES, 15 - at, at, "seed") == draw(PAGES, 15, 0, "seed")


# --- SFT --------------------------------------------------------------------------------------------------------------


def lessons(*steps: int) -> config.Sft:
    lesson = {"pages_per_step": 2, "front_matter": False}
    stages = [{**lesson, "steps": n, "pages": {"synth": "nano", "seed": i}} for i, n in enumerate(steps)]
    return config.Sft.model_validate({"stages": stages})


@pytest.fixture
def open_pages(tiny_pages: list[Page]) -> Callable[[config.PageSource], list[Page]]:
    return lambda source: tiny_pages[:3] if source.seed == 0 else tiny_pages[3:] * 2


def read(rows: Sequence[Row], prompter: Prompter) -> list[str]:
    return [prompter.decode(row.completion_ids) for row in rows]


def test_a_curriculum_is_its_stages_one_after_the_other(open_pages, prompter: Prompter) -> None:
    steps = list(sft(lessons(3, 2), 0, 0, open_pages, prompter))
    assert [step.metrics["stage"] for step in steps] == [0, 0, 0, 1, 1]
    texts = [text for step in steps for text in read(step.rows, prompter)]
    assert sorted(texts[:6]) == ["Page 1", "Page 1", "Page 2", "Page 2", "Page 3", "Page 3"]  # two epochs of three
    assert texts[6:] == ["Page 4"] * 4


@pytest.mark.parametrize("start", [1, 3, 4, 5])
def test_sft_goes_on_where_it_was(open_pages, prompter: Prompter, start: int) -> None:
    rows = [step.rows for step in sft(lessons(3, 2), 0, 0, open_pages, prompter)]
    assert [step.rows for step in sft(lessons(3, 2), 0, start, open_pages, prompter)] == rows[start:]


def test_reference_rows_end_with_eos_and_every_token_counts_the_same(
    tiny_pages: list[Page], prompter: Prompter
) -> None:
    pages = [tiny_pages[0], replace(tiny_pages[1], reference="")]
    rows = reference_rows([(page, prompter.prompt(page)) for page in pages], prompter, front_matter=False)
    assert [len(row.completion_ids) for row in rows] == [7, 1]  # six bytes and EOS; a blank page is EOS alone
    assert all(row.completion_ids[-1] == prompter.eos_id for row in rows)
    assert {row.weight for row in rows} == {1 / 8}
    assert len({row.group_id for row in rows}) == 2


def test_pages_without_a_reference_are_left_out_or_named(tiny_pages: list[Page], prompter: Prompter) -> None:
    mixed = [replace(tiny_pages[0], reference=None), tiny_pages[1]]
    (step,) = sft(lessons(1), 0, 0, lambda source: mixed, prompter)
    assert read(step.rows, prompter) == ["Page 2", "Page 2"]
    with pytest.raises(UserError, match=r"sft\.stages\.0\.pages: no page has a reference"):
        next(sft(lessons(1), 0, 0, lambda source: mixed[:1], prompter))


@pytest.mark.parametrize("front_matter", [True, False])
@pytest.mark.parametrize("kind", ["chars", "line", "nano", "notice"])
def test_a_target_survives_the_tokenizer(prompter: Prompter, kind: str, front_matter: bool) -> None:
    document = make_document(kind, 21, 0, 4 if kind == "notice" else 25)
    for number, reference in enumerate(document.references, 1):
        page = Page(id=f"ab:p{number}", pdf=Path("a.pdf"), number=number, reference=reference)
        text = target_text(page, front_matter=front_matter)
        ids = prompter.encode(text)
        assert prompter.decode(ids) == text
        assert not set(ids) & {*prompter.banned_ids, prompter.eos_id}
        assert split_front_matter(text)[1].strip() == reference.strip()
        assert (split_front_matter(text)[0] is not None) == front_matter


# --- GRPO, with a learner that only counts ----------------------------------------------------------------------------


class Counter:
    """What GRPO needs of a learner, without a model."""

    def __init__(self, prompter: Prompter, policy: int = 0) -> None:
        self.prompter, self.policy = prompter, policy

    def weights(self) -> Iterator:
        return iter([("w", self.policy)])

    def annotate(self, rows: Sequence[Row], *, old: bool, reference: bool) -> list[Row]:
        return [replace(row, old_logprobs=row.sampler_logprobs if old else None) for row in rows]


class Asked(FakeSampler):
    """A fake that remembers what it was asked, and answers in reverse order."""

    def __init__(self, prompter: Prompter, script: Callable[[Page, int], str]) -> None:
        super().__init__(prompter, script)
        self.pages: list[list[int]] = []
        self.seeds: list[int] = []
        self.policies: list[int] = []

    def sample(self, asked, how) -> Iterator[Group]:
        self.pages.append([page.number for page, _ in asked])
        self.seeds.append(how.seed)
        self.policies.append(self.policy)
        return iter(list(super().sample(asked, how))[::-1])


def settings(**changes) -> config.Grpo:
    return config.Grpo.model_validate(
        {
            "pages": {"synth": "nano"},
            "steps": 4,
            "pages_per_step": 2,
            "samples_per_page": 2,
            "rewards": [{"name": "longer"}],
            **changes,
        }
    )


def longer(page: Page, group: Sequence[Transcript]) -> list[Score]:
    """A reward: 0.1 a character."""
    return [Score(value=len(transcript.body) / 10, parts={"characters": len(transcript.body)}) for transcript in group]


def graded(groups: Sequence[Group]) -> list[ScoredGroup]:
    return list(score(groups, [WeightedReward(name="longer", reward=longer)]))


SAMPLING = config.Sampling(temperature=0.7, max_tokens=8)
DIFFERENT = lambda page, k: "abc" * k


def flat_on(*numbers: int) -> Callable[[Page, int], str]:
    return lambda page, k: "same" if page.number in numbers else DIFFERENT(page, k)


def run_grpo(
    cfg: config.Grpo, pages: Sequence[Page], sampler: FakeSampler, learner: Counter, state: dict | None = None
) -> Iterator[Step]:
    """Steps, the learner's version going up after each as `fit` does it."""
    for step in grpo(cfg, SAMPLING, 0, state or {}, pages, sampler, learner, graded):  # type: ignore[arg-type]
        learner.policy += 1
        yield step


@pytest.fixture
def counter(prompter: Prompter) -> Counter:
    return Counter(prompter)


def test_every_rollout_is_sampled_with_the_weights_of_the_last_update(tiny_pages, prompter, counter) -> None:
    sampler = Asked(prompter, DIFFERENT)
    steps = list(run_grpo(settings(), tiny_pages, sampler, counter))
    assert len(steps) == counter.policy == 4
    assert sampler.policies == [0, 1, 2, 3]
    assert len(set(sampler.seeds)) == 4
    assert sum(sampler.pages, []) == [page.number for page in draw(tiny_pages, 8, 0, "0")]


def test_rows_and_figures_of_a_step(tiny_pages, prompter, counter, capsys: pytest.CaptureFixture[str]) -> None:
    step = next(run_grpo(settings(samples_per_page=4), tiny_pages, Asked(prompter, DIFFERENT), counter))
    # "", "abc", "abcabc" and, cut off at 8 tokens, "abcabcab": 1, 4, 7 and 8 tokens, rewards 0, 0.3, 0.6 and 0.8
    assert [len(row.completion_ids) for row in step.rows] == 2 * [1, 4, 7, 8]
    assert [row.group_id for row in step.rows] == [0] * 4 + [1] * 4
    assert [group.group.page.number for group in step.groups] == [p.number for p in draw(tiny_pages, 2, 0, "0")]
    assert step.metrics["reward"] == pytest.approx(0.425)
    assert step.metrics["longer"] == pytest.approx(0.425)
    assert step.metrics["longer/characters"] == pytest.approx(17 / 4)
    assert step.metrics["length"] == 5
    assert step.metrics["finished"] == 0.75
    assert step.metrics["flat_groups"] == 0
    assert {(row.temperature, row.banned_ids) for row in step.rows} == {(0.7, prompter.banned_ids)}
    assert json.loads(json.dumps(step.state)) == {"drawn": 2}
    assert "share of the advantage on the first 2 groups: longer 100%" in capsys.readouterr().out


def test_trap_14_groups_without_signal_are_replaced_by_further_pages(tiny_pages, prompter, counter) -> None:
    order = [page.number for page in draw(tiny_pages, 4, 0, "0")]
    sampler = Asked(prompter, flat_on(order[1]))
    step = next(run_grpo(settings(refills=2), tiny_pages, sampler, counter))
    assert sampler.pages == [order[:2], order[2:3]]  # one was missing, one was drawn
    assert [group.group.page.number for group in step.groups] == [order[0], order[2]]
    assert step.metrics["flat_groups"] == pytest.approx(1 / 3)
    assert step.state == {"drawn": 3}


def test_a_page_that_teaches_nothing_rests_also_after_a_resume(tiny_pages, prompter, counter) -> None:
    flat = draw(tiny_pages, 1, 0, "0")[0]
    cfg = settings(refills=0, pages_per_step=1, steps=9, rest=4)
    alone = Asked(prompter, flat_on(flat.number))
    steps = list(run_grpo(cfg, tiny_pages, alone, counter))
    assert steps[0].state == {"drawn": 2, "rests": {flat.id: [1, 1]}}
    # Of epochs 0 to 3 the page is asked in the first and, after one without it, in the third; then it rests for two.
    assert [page for pages in alone.pages for page in pages].count(flat.number) == 2
    resumed = Asked(prompter, flat_on(flat.number))
    counter.policy = 3
    list(run_grpo(cfg, tiny_pages, resumed, counter, json.loads(json.dumps(steps[2].state))))
    assert alone.pages[-len(resumed.pages) :] == resumed.pages


def test_the_share_of_groups_that_teach_is_told_by_part(tiny_pages, prompter, counter) -> None:
    flat = draw(tiny_pages, 1, 0, "0")[0].number
    step = next(run_grpo(settings(refills=0), tiny_pages, Asked(prompter, flat_on(flat)), counter))
    assert step.metrics["live/longer/characters"] == 0.5


def test_a_grader_fault_costs_its_group_alone_is_counted_and_refilled(tiny_pages, prompter, counter) -> None:
    order = [page.number for page in draw(tiny_pages, 4, 0, "0")]

    def breaks(page: Page, group: Sequence[Transcript]) -> list[Score]:
        return longer(page, group if page.number != order[1] else group[1:])

    budget = FaultBudget()
    judged = lambda groups: list(score(groups, [WeightedReward(name="breaks", reward=breaks)], budget))
    sampler = Asked(prompter, DIFFERENT)
    step = next(grpo(settings(refills=1), SAMPLING, 0, {}, tiny_pages, sampler, counter, judged))
    assert [group.group.page.number for group in step.groups] == [order[0], order[2]]
    assert step.metrics["faults"] == budget.total == 1
    assert step.metrics["reward"] == pytest.approx(0.15)  # of 0 and 0.3, twice: the fault is no 0


def test_refills_are_bounded_and_a_small_step_is_a_step(tiny_pages, prompter, counter) -> None:
    order = [page.number for page in draw(tiny_pages, 4, 0, "0")]
    sampler = Asked(prompter, flat_on(order[1], order[2]))
    step = next(run_grpo(settings(refills=1), tiny_pages, sampler, counter))
    assert sampler.pages == [order[:2], order[2:3]]
    assert len(step.groups) == 1
    assert sum(row.weight * len(row.completion_ids) for row in step.rows) == pytest.approx(1.0)


def test_a_refill_shares_the_batch_of_its_step(tiny_pages, prompter, counter) -> None:
    order = [page.number for page in draw(tiny_pages, 4, 0, "0")]
    sampler = Asked(prompter, flat_on(order[1]))
    step = next(run_grpo(settings(advantage="batch_std", refills=1), tiny_pages, sampler, counter))
    # Rewards 0 and 0.3 twice, and the flat page's 0.4 twice: one standard deviation, 0.18619, for all of them.
    assert [row.advantage for row in step.rows] == pytest.approx([-0.8052, 0.8052] * 2, abs=1e-3)


def test_pages_that_teach_nothing_stop_the_run(tiny_pages, prompter, counter) -> None:
    sampler = Asked(prompter, flat_on(1, 2, 3, 4))
    with pytest.raises(UserError, match="20 rollouts in a row gave no group"):
        list(run_grpo(settings(refills=0), tiny_pages, sampler, counter))
    assert len(sampler.pages) == 20
    assert len(set(sampler.seeds)) == 20  # the same weights and pages came again, other samples were asked for


def test_what_a_rollout_that_taught_nothing_cost_is_charged_to_the_next_step(tiny_pages, prompter, counter) -> None:
    flat = draw(tiny_pages, 1, 0, "0")[0].number
    cfg = settings(refills=0, pages_per_step=1)
    first, second, *_ = run_grpo(cfg, tiny_pages, Asked(prompter, flat_on(flat)), counter)
    assert first.metrics["generated"] == 2 * 5 + 1 + 4  # "same" twice, then "" and "abc"; each with its EOS
    assert second.metrics["generated"] == 1 + 4


def test_only_unfinished_samples_that_are_masked_stop_the_run_too(tiny_pages, prompter, counter) -> None:
    sampler = Asked(prompter, lambda page, k: "ab"[k] * (20 + k))
    first = lambda page, group: [Score(value=float(transcript.body[0] == "a")) for transcript in group]
    judged = lambda groups: list(score(groups, [WeightedReward(name="first", reward=first)]))
    steps = grpo(settings(mask_unfinished=True), SAMPLING, 0, {}, tiny_pages, sampler, counter, judged)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="20 rollouts in a row"):
        next(steps)


def without_file(pages: Sequence[Page], *numbers: int) -> list[Page]:
    """The pages, those with these numbers of a file that is not there."""
    return [replace(page, pdf=Path("gone.pdf")) if page.number in numbers else page for page in pages]


def test_a_page_that_cannot_be_drawn_costs_itself_alone(
    tiny_pages, prompter, counter, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = without_file(tiny_pages, 2)
    cfg = settings(pages_per_step=4, refills=0)
    steps = list(run_grpo(cfg, pages, Asked(prompter, DIFFERENT), counter))
    assert [step.metrics["undrawable"] for step in steps] == [1] * 4
    assert all(
        {row.prompt.page_id for row in step.rows} == {page.id for page in pages} - {pages[1].id} for step in steps
    )
    assert all(sum(row.weight * len(row.completion_ids) for row in step.rows) == pytest.approx(1) for step in steps)
    assert [step.state for step in steps] == [{"drawn": n} for n in (4, 8, 12, 16)]
    assert capsys.readouterr().out.count("left out: gone.pdf, page 2: there is no such file") == 1


def test_a_page_that_cannot_be_drawn_is_refilled_like_one_without_signal(tiny_pages, prompter, counter) -> None:
    order = [page.number for page in draw(tiny_pages, 4, 0, "0")]
    sampler = Asked(prompter, DIFFERENT)
    step = next(run_grpo(settings(refills=2), without_file(tiny_pages, order[0], order[2]), sampler, counter))
    assert sampler.pages == [order[1:2], order[3:4]]  # the first refill had no page to sample
    assert (step.metrics["undrawable"], step.state) == (2, {"drawn": 4})


def test_a_prompt_that_is_too_long_costs_its_page_alone(tiny_pages, prompter: Prompter) -> None:
    most = len(prompter.prompt(tiny_pages[2]).expanded_ids)
    strict = replace(prompter, max_prompt_tokens=most)  # the last page is taller
    cfg = settings(pages_per_step=4, refills=0)
    step = next(run_grpo(cfg, tiny_pages, Asked(strict, DIFFERENT), Counter(strict)))
    too_long = [page.id for page in tiny_pages if len(prompter.prompt(page).expanded_ids) > most]
    assert step.metrics["undrawable"] == len(too_long) > 0
    assert not {row.prompt.page_id for row in step.rows} & set(too_long)


def test_a_step_without_any_page_left_stops_the_run(tiny_pages, prompter, counter) -> None:
    broken = without_file(tiny_pages, 1, 2, 3, 4)
    with pytest.raises(UserError, match=r"No page of a step is left.*gone\.pdf.*take such pages out of the dataset"):
        next(run_grpo(settings(refills=0), broken, Asked(prompter, DIFFERENT), counter))
    with pytest.raises(UserError, match=r"No page of a step is left.*gone\.pdf"):
        next(sft(lessons(3), 0, 0, lambda source: broken, prompter))


def test_sft_leaves_out_a_page_that_cannot_be_drawn(tiny_pages, prompter: Prompter) -> None:
    pages = without_file(tiny_pages[:3], 2)
    steps = list(sft(lessons(3), 0, 0, lambda source: pages, prompter))
    texts = [text for step in steps for text in read(step.rows, prompter)]
    assert sorted(texts) == ["Page 1", "Page 1", "Page 3", "Page 3"]  # two epochs, as with page 2
    assert sum(step.metrics.get("undrawable", 0) for step in steps) == 2
    assert all(sum(row.weight * len(row.completion_ids) for row in step.rows) == pytest.approx(1) for step in steps)
    again = list(sft(lessons(3), 0, 1, lambda source: pages, prompter))
    assert [step.rows for step in again] == [step.rows for step in steps[1:]]


@pytest.mark.parametrize("done", [1, 2, 3])
def test_grpo_goes_on_where_it_was(tiny_pages, prompter, done: int) -> None:
    whole = Asked(prompter, flat_on(2))
    steps = list(run_grpo(settings(), tiny_pages, whole, Counter(prompter)))
    rest = Asked(prompter, flat_on(2))
    state = json.loads(json.dumps(steps[done - 1].state))
    again = list(run_grpo(settings(), tiny_pages, rest, Counter(prompter, done), state))
    assert [step.rows for step in again] == [step.rows for step in steps[done:]]
    assert rest.pages == whole.pages[-len(rest.pages) :]
    assert rest.seeds == whole.seeds[-len(rest.seeds) :]


# --- minibatches ------------------------------------------------------------------------------------------------------


def test_minibatches_share_a_rollout_and_only_the_last_can_be_saved(tiny_pages, prompter, counter) -> None:
    sampler = Asked(prompter, DIFFERENT)
    steps = list(run_grpo(settings(minibatches=2), tiny_pages, sampler, counter))
    assert sampler.policies == [0, 2]
    assert [step.state for step in steps] == [None, {"drawn": 2}, None, {"drawn": 4}]
    assert [len(step.groups) for step in steps] == [0, 2, 0, 2]
    assert all(sum(row.weight * len(row.completion_ids) for row in step.rows) == pytest.approx(1) for step in steps)


def test_the_last_step_can_be_saved_even_in_the_middle_of_a_rollout(tiny_pages, prompter, counter) -> None:
    steps = list(run_grpo(settings(minibatches=2, steps=3), tiny_pages, Asked(prompter, DIFFERENT), counter))
    assert [step.state for step in steps] == [None, {"drawn": 2}, {"drawn": 4}]
    assert counter.policy == 3


def rows_of(*groups: int) -> list[Row]:
    ref = ImageRef(pdf=Path("a.pdf"), number=1)
    prompt = Prompt(page_id="ab:p1", image=ref, token_ids=(1,), expanded_ids=(1,))
    return [
        Row(prompt=prompt, completion_ids=(1,) * (i + 1), group_id=group, weight=0.1) for i, group in enumerate(groups)
    ]


@pytest.mark.parametrize(("parts", "sizes"), [(1, [6]), (2, [3, 3]), (3, [2, 1, 3]), (9, [2, 1, 3])])
def test_groups_are_not_torn_apart(parts: int, sizes: list[int]) -> None:
    rows = rows_of(0, 0, 1, 5, 5, 5)
    split = split_by_group(rows, parts)
    assert [len(part) for part in split] == sizes
    assert sum(split, []) == rows


def test_a_minibatch_weighs_as_much_as_the_whole() -> None:
    rows = rows_of(0, 0, 1)  # 1, 2 and 3 tokens of weight 0.1: 0.6 in all
    part = reweighted(rows[:2], rows, "dapo")  # 0.3: doubled
    assert [row.weight for row in part] == pytest.approx([0.2, 0.2])
    assert [row.weight for row in reweighted(rows, rows, "dapo")] == pytest.approx([0.1] * 3)


def test_a_dr_grpo_token_weighs_the_same_whatever_its_neighbours_lengths() -> None:
    rows = rows_of(0, 0, 1)
    assert [row.weight for row in reweighted(rows[:2], rows, "dr_grpo")] == pytest.approx([0.15, 0.15])
    assert [row.weight for row in reweighted(rows[2:], rows, "dr_grpo")] == pytest.approx([0.3])  # a third


# --- with a real policy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", ["token", "sequence", "geometric"])
def test_one_update_makes_the_better_sample_likelier(
    tiny_pages, prompter, make_learner: MakeLearner, ratio: str
) -> None:
    learner = make_learner(lr=2e-4)
    sampler = FakeSampler(prompter, lambda page, k: ("good", "b")[k])  # the longer one is the better one
    cfg = settings(ratio=ratio, steps=1)
    step = next(grpo(cfg, SAMPLING, 0, {}, tiny_pages, sampler, learner, graded))
    assert sampler.loaded == list(learner.module.state_dict())
    before = [sum(values) for values in learner.logprobs(step.rows)]
    metrics = learner.update(step.rows, step.loss)
    after = [sum(values) for values in learner.logprobs(step.rows)]
    gains = [now - was for was, now in zip(before, after, strict=True)]
    assert [row.advantage > 0 for row in step.rows] == [True, False, True, False]
    for better, worse in (gains[:2], gains[2:]):  # the worse one may rise too: both end with EOS
        assert better > 0
        assert better > worse
    assert metrics["clip_share"] == 0  # on policy: the ratio is 1


def test_the_kl_term_holds_the_policy_back(tiny_pages, prompter, make_learner: MakeLearner) -> None:
    learner = make_learner(lr=1e-3, reference=True)
    sampler = FakeSampler(prompter, lambda page, k: ("good", "b")[k])
    kls = []
    for step in grpo(settings(beta=0.1, steps=3), SAMPLING, 0, {}, tiny_pages, sampler, learner, graded):
        assert all(row.ref_logprobs is not None for row in step.rows)
        kls.append(learner.update(step.rows, step.loss)["kl"])
    assert kls[0] == pytest.approx(0, abs=1e-5)
    assert kls[2] > 1e-4


# --- the loop ---------------------------------------------------------------------------------------------------------


def train(learner, run: Run, open_pages, prompter: Prompter, *, stop_after: int | None = None) -> Path:
    """Five steps of SFT that save every second one; `stop_after` steps the process is killed."""
    done, _ = resume(learner, run)

    def steps() -> Iterator[Step]:
        for number, step in enumerate(sft(lessons(3, 2), 0, done, open_pages, prompter), done):
            if number == stop_after:
                raise KeyboardInterrupt
            yield step

    evaluate = lambda step: {"eval_pass_rate": step / 10}
    return fit(lambda state: steps(), learner, run, total=5, save_every=2, keep=1, evaluate_every=2, evaluate=evaluate)


def test_trap_17_a_killed_run_ends_as_an_uninterrupted_one(
    open_pages, prompter: Prompter, make_learner: MakeLearner, tmp_path: Path
) -> None:
    whole, killed = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    folder = train(make_learner(warmup=5), whole, open_pages, prompter)
    assert folder == whole.folder / "ckpt" / "000005" / "model"
    with pytest.raises(KeyboardInterrupt):
        train(make_learner(warmup=5), killed, open_pages, prompter, stop_after=3)
    assert [row["step"] for row in killed.metrics()] == [1, 2, 3]
    assert [path.name for path in killed.checkpoints()] == ["000002"]
    again = train(make_learner(warmup=5), killed, open_pages, prompter)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    keep = ("step", "loss", "nll", "lr", "stage", "eval_pass_rate")
    figures = lambda run: [{name: row[name] for name in keep if name in row} for row in run.metrics()]
    assert figures(killed) == figures(whole)
    assert [row.get("eval_pass_rate") for row in whole.metrics()] == [None, 0.2, None, 0.4, 0.5]
    assert [path.name for path in killed.checkpoints()] == ["000005"]  # the last, and the best
    assert train(make_learner(), killed, open_pages, prompter) == again  # nothing left to do


def test_a_step_in_the_middle_of_a_rollout_is_saved_after_it(
    tiny_pages, prompter, rows: list[Row], make_learner: MakeLearner, tmp_path: Path
) -> None:
    states = [{"drawn": 1}, None, {"drawn": 2}, {"drawn": 3}]
    steps = (Step(rows=rows[:1], loss=nll, state=state) for state in states)
    run = Run(tmp_path)
    fit(lambda state: steps, make_learner(), run, total=4, save_every=2, keep=5)
    assert [path.name for path in run.checkpoints()] == ["000003", "000004"]
    assert json.loads((run.checkpoints()[0] / "state.json").read_text()) == {"step": 3, "state": {"drawn": 2}}


def test_what_the_best_and_the_worst_sample_said_is_kept(
    tiny_pages, prompter, make_learner: MakeLearner, tmp_path: Path
) -> None:
    learner, run = make_learner(), Run(tmp_path)
    sampler = FakeSampler(prompter, lambda page, k: ("b", "good")[k])
    steps = grpo(settings(steps=1, pages_per_step=1), SAMPLING, 0, {}, tiny_pages, sampler, learner, graded)
    unwatched = config.Tripwires(gap=config.Tripwire(above=1e9))  # the fake sampler's log-probabilities are made up
    fit(lambda state: steps, learner, run, total=1, save_every=1, keep=1, tripwires=unwatched)
    (line,) = (tmp_path / "groups" / "000001.jsonl").read_text().splitlines()
    shown = json.loads(line)
    assert (shown["best"]["text"], shown["worst"]["text"]) == ("good", "b")
    assert shown["best"]["advantage"] > 0 > shown["worst"]["advantage"]
    assert shown["page"] == draw(tiny_pages, 1, 0, "0")[0].id
