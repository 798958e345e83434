"""DPO and best-of-N SFT: the loss by hand, which pairs are made, and going on after a kill."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from ocr_rl.rollout.advantage import with_advantages

from ocr_rl import config
from ocr_rl.contract import Page, Score, UserError
from ocr_rl.learn.algos.rounds import Pair, best_and_worst, best_of_n, dpo, flipped, pair_rows, read_preferences
from ocr_rl.learn.fit import fit, resume
from ocr_rl.objectives.losses import dpo as dpo_loss
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.scoring import WeightedReward, score
from ocr_rl.run import Run
from tests.fakes import FakeSampler
from tests.learn.conftest import MakeLearner
from tests.learn.test_algos import SAMPLING, Asked, Counter, graded, longer, without_file
from tests.learn.test_losses import PROMPT, batch_of

LN2 = math.log(2)


# --- the loss ---------------------------------------------------------------------------------------------------------


def pairs_of(ref: list[float], *, weight: float = 0.5, swapped: bool = False):
    """Two pairs: tokens of lengths 2 and 1 (chosen, rejected), then 1 and 3."""
    lengths = [2, 1, 1, 3]
    signs = [-1.0, 1.0, -1.0, 1.0] if swapped else [1.0, -1.0, 1.0, -1.0]
    rows = tuple(
        Row(prompt=PROMPT, completion_ids=(1,) * n, group_id=7 + i // 2, weight=weight, advantage=sign)
        for i, (n, sign) in enumerate(zip(lengths, signs, strict=True))
    )
    return replace(batch_of(lengths, weight=[weight] * 7, ref=ref), rows=rows)


LOGP = torch.tensor([-1.0, -2.0, -1.5, -0.5, -1.0, -1.0, -2.0], dtype=torch.float64)
REF = [-1.5, -2.5, -1.0, -0.5, -1.0, -0.5, -1.0]
# Log-ratios of the rows: 0.5 + 0.5, -0.5, 0, 0 - 0.5 - 1: margins 1.5 and 1.5.


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_dpo_by_hand() -> None:
    value, parts = dpo_loss(beta=0.2)(LOGP, pairs_of(REF))
    assert float(value) == pytest.approx(softplus(-0.3))
    assert parts == pytest.approx(
        {
            "margin_mean": 1.5,
            "accuracy_mean": 1.0,
            "chosen_mean": (-3 - 0.5) / 2,
            "rejected_mean": (-1.5 - 4) / 2,
            "chosen_moved_mean": (1.0 + 0.0) / 2,
            "rejected_moved_mean": (-0.5 - 1.5) / 2,
        }
    )


def test_dpo_is_ln_2_where_policy_and_reference_agree() -> None:
    value, _ = dpo_loss(beta=0.7)(LOGP, pairs_of(LOGP.tolist()))
    assert float(value) == pytest.approx(LN2)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_a_swapped_pair_costs_beta_times_the_margin_more(beta: float) -> None:
    loss = dpo_loss(beta=beta)
    difference = float(loss(LOGP, pairs_of(REF, swapped=True))[0]) - float(loss(LOGP, pairs_of(REF))[0])
    assert difference == pytest.approx(beta * 1.5)


def test_gradients_of_a_swapped_pair_are_opposite_only_at_margin_0() -> None:
    def gradient(ref: list[float], swapped: bool) -> torch.Tensor:
        logp = LOGP.clone().requires_grad_()
        dpo_loss(beta=1.0)(logp, pairs_of(ref, swapped=swapped))[0].backward()
        assert logp.grad is not None
        return logp.grad

    at_zero = LOGP.tolist()
    assert torch.allclose(gradient(at_zero, False), -gradient(at_zero, True))
    assert not torch.allclose(gradient(REF, False), -gradient(REF, True))


def test_smoothing_length_and_anchor_by_hand() -> None:
    smooth, _ = dpo_loss(beta=0.2, label_smoothing=0.25)(LOGP, pairs_of(REF))
    assert float(smooth) == pytest.approx(0.75 * softplus(-0.3) + 0.25 * softplus(0.3))
    short, parts = dpo_loss(beta=1.0, length_normalised=True)(LOGP, pairs_of(REF))
    assert parts["margin_mean"] == pytest.approx((1.0 + 0.5) / 2)  # 1/2 + 1/2, and 0 + 1.5/3
    assert float(short) == pytest.approx((softplus(-1.0) + softplus(-0.5)) / 2)
    anchored, _ = dpo_loss(beta=0.2, nll_anchor=2.0)(LOGP, pairs_of(REF))
    assert float(anchored) == pytest.approx(softplus(-0.3) + 2 * (3 / 2 + 0.5) / 2)


def test_a_torn_pair_is_an_error() -> None:
    torn = batch_of([2], weight=[1.0, 1.0], ref=[0.0, 0.0])
    with pytest.raises(AssertionError, match="one micro-batch"):
        dpo_loss(beta=1.0)(LOGP[:2], torn)


# --- rounds -----------------------------------------------------------------------------------------------------------


class Referee(Counter):
    """A counting learner whose log-probabilities are minus its version."""

    settings = config.Optim()

    def logprobs(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        return [(-float(self.policy),) * len(row.completion_ids) for row in rows]


def settings(kind: type[config.Rounds] = config.Dpo, **changes):
    fields = {"pages": {"synth": "nano"}, "steps": 4, "pages_per_round": 4, "pages_per_step": 2, "samples_per_page": 3}
    return kind.model_validate({**fields, "rewards": [{"name": "longer"}], **changes})


LENGTHS = lambda page, k: "abc"[:k] if page.number != 3 else "same"


def run_rounds(algorithm, cfg, pages, sampler, learner, folder: Path):
    for step in algorithm(cfg, SAMPLING, 0, pages, sampler, learner, graded, folder):
        learner.policy += 1
        yield step


def test_offline_dpo_samples_once_and_drops_ties(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    sampler, learner = Asked(prompter, LENGTHS), Referee(prompter)
    steps = list(run_rounds(dpo, settings(), tiny_pages, sampler, learner, tmp_path))
    assert sampler.policies == [0]
    assert (steps[0].metrics["pairs"], steps[0].metrics["ties"]) == (3, 1)
    assert all("pairs" not in step.metrics for step in steps[1:])
    for step in steps:
        chosen, rejected = step.rows[0::2], step.rows[1::2]
        assert [prompter.decode(row.completion_ids) for row in (*chosen, *rejected)] == ["ab", "ab", "", ""]
        assert [row.advantage for row in step.rows] == [1, -1, 1, -1]
        assert [row.weight for row in step.rows] == [0.5] * 4
        assert all(set(row.ref_logprobs or (1,)) == {0.0} for row in step.rows)  # of version 0, to the end


def test_each_round_samples_anew_and_moves_the_reference(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    sampler, learner = Asked(prompter, LENGTHS), Referee(prompter)
    steps = list(run_rounds(dpo, settings(rounds=2), tiny_pages, sampler, learner, tmp_path))
    assert sampler.policies == [0, 2]
    assert len(set(sampler.seeds)) == 2
    assert [step.metrics["round"] for step in steps] == [0, 0, 1, 1]
    assert [(step.rows[0].ref_logprobs or (9,))[0] for step in steps] == [0, 0, -2, -2]


@pytest.mark.parametrize(("algorithm", "kind"), [(dpo, config.Dpo), (best_of_n, config.BestOfN)])
def test_the_first_round_says_what_share_each_reward_has(
    algorithm, kind, tiny_pages, prompter: Prompter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shouts = lambda page, group: [Score(value=float(transcript.body == "ab")) for transcript in group]
    rewards = [
        WeightedReward(name="longer", reward=longer, weight=0.75),
        WeightedReward(name="shouts", reward=shouts, weight=0.25),
    ]
    judged = lambda groups: list(score(groups, rewards))
    cfg, learner = settings(kind, rounds=2), Referee(prompter)
    for _ in algorithm(cfg, SAMPLING, 0, tiny_pages, Asked(prompter, LENGTHS), learner, judged, tmp_path):
        learner.policy += 1
    # "", "a", "ab": 0.75 * (0.1 + 0 + 0.1) against 0.25 * (1/3 + 1/3 + 2/3)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("share of")]
    assert said == ["share of what tells samples apart on the first 4 groups: shouts 69%, longer 31%"]


@pytest.mark.parametrize("done", [1, 2, 3])
def test_rounds_go_on_where_they_were(tiny_pages, prompter: Prompter, tmp_path: Path, done: int) -> None:
    learner = Referee(prompter)
    cfg = settings(rounds=2)
    whole = list(run_rounds(dpo, cfg, tiny_pages, Asked(prompter, LENGTHS), learner, tmp_path / "pairs"))
    for path in list((tmp_path / "pairs").iterdir()):
        if done < 2 and path.name == "round_001.json":
            path.unlink()  # a run killed in its first round
    again = Referee(prompter, policy=done)
    rest = list(run_rounds(dpo, cfg, tiny_pages, Asked(prompter, LENGTHS), again, tmp_path / "pairs"))
    assert [step.rows for step in rest] == [step.rows for step in whole[done:]]


def test_best_of_n_learns_from_the_best_alone(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    sampler, learner = Asked(prompter, LENGTHS), Referee(prompter)
    steps = list(run_rounds(best_of_n, settings(config.BestOfN), tiny_pages, sampler, learner, tmp_path))
    assert {prompter.decode(row.completion_ids) for step in steps for row in step.rows} == {"ab"}
    assert [row.weight for row in steps[0].rows] == [1 / 6, 1 / 6]  # two letters and EOS, twice


def test_only_ties_stop_the_run(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    sampler = Asked(prompter, lambda page, k: "same")
    with pytest.raises(UserError, match="no page gave a pair"):
        next(run_rounds(dpo, settings(), tiny_pages, sampler, Referee(prompter), tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_grader_fault_costs_its_group_and_is_counted(
    tiny_pages, prompter: Prompter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = graded
    monkeypatch.setitem(globals(), "graded", lambda groups: whole(groups)[1:])
    step = next(run_rounds(dpo, settings(), tiny_pages, Asked(prompter, LENGTHS), Referee(prompter), tmp_path))
    assert step.metrics["faults"] == 1


def test_a_margin_makes_more_ties(tiny_pages, prompter: Prompter) -> None:
    asked = [(page, Counter(prompter).prompter.prompt(page)) for page in tiny_pages[:1]]
    sampler = FakeSampler(prompter, lambda page, k: "abcdef"[: 2 * k])
    (group,) = with_advantages(graded(list(sampler.sample(asked, config_sampling(3)))))
    pair = best_and_worst(group, 0.3)
    assert pair is not None
    assert (pair.chosen_reward, pair.rejected_reward) == (pytest.approx(0.4), 0)
    assert best_and_worst(group, 0.4) is None


def config_sampling(n: int):
    from ocr_rl.rollout.sampler.base import Sampling

    return Sampling(n=n, temperature=1.0, max_tokens=9)


def test_flipping_exchanges_a_share_of_the_labels() -> None:
    pairs = [Pair(page_id=str(i), chosen_ids=(1,), rejected_ids=(2, i)) for i in range(10)]
    noisy = flipped(pairs, 0.3, seed=1)
    assert sum(pair.rejected_ids == (1,) for pair in noisy) == 3
    assert flipped(pairs, 0.3, seed=1) == noisy != flipped(pairs, 0.3, seed=2)
    assert flipped(pairs, 0.0, seed=1) == pairs


def test_a_pair_too_long_for_a_micro_batch_is_refused(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    learner = Referee(prompter)
    learner.settings = config.Optim(micro_tokens=10)
    with pytest.raises(UserError, match="the longest pair has"):
        next(run_rounds(dpo, settings(), tiny_pages, Asked(prompter, LENGTHS), learner, tmp_path))


# --- somebody's preferences -------------------------------------------------------------------------------------------


def test_preferences_of_ones_own(tiny_pages: list[Page], prompter: Prompter, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    page = tiny_pages[1]
    row = {"pdf": page.pdf.name, "page": page.number, "chosen": "good", "rejected": "bad"}
    path.write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    sampler, learner = Asked(prompter, LENGTHS), Referee(prompter)
    cfg = settings(preferences=path, steps=2)
    step = next(run_rounds(dpo, cfg, tiny_pages, sampler, learner, tmp_path))
    assert [prompter.decode(row.completion_ids) for row in step.rows] == ["good", "bad"]
    assert step.rows[0].prompt.page_id == page.id
    assert sampler.pages == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not valid JSON"),
        ('{"pdf": "none.pdf", "page": 1, "chosen": "a", "rejected": "b"}', "line 2: 'none.pdf' page 1 is no page"),
        ('{"pdf": "PDF", "page": true, "chosen": "a", "rejected": "b"}', "page a whole number"),
        ('{"pdf": [], "page": 1, "chosen": "a", "rejected": "b"}', "pdf must be the name"),
        ('{"pdf": "PDF", "page": 1, "chosen": "\\ud800", "rejected": "b"}', "line 2: .*lone surrogate"),
        ('{"pdf": "PDF", "page": ' + "1" * 5000 + "}", "line 2: not valid JSON that anybody"),
        ("[" * 100_000, "line 2: not valid JSON that anybody"),
        ("\n\n{", "line 4: not valid JSON"),
        ('{"pdf": "PDF", "page": 1, "chosen": "a"}', "line 2: no field rejected"),
        ('{"pdf": "PDF", "page": 1, "chosen": "a", "rejected": "a"}', "two different texts"),
        ("[]", "line 2: a pair is a JSON object"),
    ],
)
def test_a_wrong_preference_is_named(
    tiny_pages: list[Page], prompter: Prompter, tmp_path: Path, line: str, said: str
) -> None:
    path = tmp_path / "pairs.jsonl"
    good = json.dumps({"pdf": tiny_pages[0].pdf.name, "page": tiny_pages[0].number, "chosen": "a", "rejected": "b"})
    path.write_text(f"{good}\n{line.replace('PDF', tiny_pages[0].pdf.name)}\n", encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_preferences(path, tiny_pages, prompter)


def test_preferences_name_their_pdf_below_pdfs(tiny_pages: list[Page], prompter: Prompter, tmp_path: Path) -> None:
    names = ("x/invoice.pdf", "y/invoice.pdf", "z/x/invoice.pdf", "letter.pdf")
    pages = [replace(tiny_pages[0], id=f"{name}:p1", pdf=Path("data/pdfs") / name, number=1) for name in names]
    path = tmp_path / "pairs.jsonl"

    def read(*asked: str) -> list[str]:
        rows = [{"pdf": name, "page": 1, "chosen": "a\u2028\u0085b", "rejected": "b"} for name in asked]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text("\ufeff" + text, encoding="utf-8")
        return [pair.page_id for pair in read_preferences(path, pages, prompter)]

    assert read("y/invoice.pdf", "x/invoice.pdf", "letter.pdf") == [
        "y/invoice.pdf:p1",
        "x/invoice.pdf:p1",
        "letter.pdf:p1",
    ]
    with pytest.raises(UserError, match="line 2: 3 PDFs are called 'invoice.pdf'"):
        read("letter.pdf", "invoice.pdf")
    with pytest.raises(UserError, match="holds no pair"):
        read()


def test_pairs_of_a_page_that_cannot_be_drawn_are_left_out(
    tiny_pages, prompter: Prompter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pairs.jsonl"
    pages = without_file(tiny_pages, 2)
    answers = [("a", "b"), ("a", "c")]
    rows = [{"pdf": p.pdf.name, "page": p.number, "chosen": x, "rejected": y} for p in pages[:2] for x, y in answers]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    cfg = settings(preferences=path, steps=2)
    run = lambda pages: run_rounds(dpo, cfg, pages, Asked(prompter, LENGTHS), Referee(prompter), tmp_path / "pairs")
    steps = list(run(pages))
    assert [{row.prompt.page_id for row in step.rows} for step in steps] == [{pages[0].id}] * 2
    assert [step.metrics.get("undrawable") for step in steps] == [2, None]  # both of its pairs, when they are read
    assert capsys.readouterr().out.count("left out: gone.pdf, page 2") == 1
    lost = run(without_file(tiny_pages, 1, 2))  # gone after the round's pairs were written
    with pytest.raises(UserError, match=r"No page of a step is left.*gone\.pdf"):
        next(lost)


def test_a_round_leaves_out_a_page_that_cannot_be_drawn(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    for algorithm, kind in ((dpo, config.Dpo), (best_of_n, config.BestOfN)):
        sampler = Asked(prompter, LENGTHS)
        folder = tmp_path / algorithm.__name__
        steps = list(
            run_rounds(algorithm, settings(kind), without_file(tiny_pages, 2), sampler, Referee(prompter), folder)
        )
        assert sorted(sampler.pages[0]) == [1, 3, 4]
        assert [step.metrics.get("undrawable") for step in steps] == [1, None, None, None]
        assert all(tiny_pages[1].id != row.prompt.page_id for step in steps for row in step.rows)
        with pytest.raises(UserError, match=r"No page of a step is left.*gone\.pdf"):
            broken = without_file(tiny_pages, 1, 2, 3, 4)
            next(run_rounds(algorithm, settings(kind), broken, sampler, Referee(prompter), folder / "none"))


def test_what_was_cut_off_is_never_chosen(tiny_pages: list[Page], prompter: Prompter) -> None:
    asked = [(page, Counter(prompter).prompter.prompt(page)) for page in tiny_pages[:1]]

    def pair(*texts: str) -> Pair | None:
        sampler = FakeSampler(prompter, lambda page, k: texts[k])
        (group,) = with_advantages(graded(list(sampler.sample(asked, config_sampling(len(texts))))))
        return best_and_worst(group, 0.0)

    found = pair("a" * 20, "aaa", "a")  # rewards 0.9 (cut off at 9 tokens), 0.3, 0.1
    assert found is not None and found.chosen_reward == pytest.approx(0.3)
    assert pair("a" * 20, "a") is None  # the only one that ended is the worst
    assert pair("a" * 20, "b" * 30) is None


def test_pairs_of_a_policy_that_is_no_more_are_dropped(tiny_pages, prompter: Prompter, tmp_path: Path) -> None:
    cfg = settings(rounds=2)
    list(run_rounds(dpo, cfg, tiny_pages, Asked(prompter, LENGTHS), Referee(prompter), tmp_path))
    kept = (tmp_path / "round_000.json").stat().st_mtime_ns
    next(run_rounds(dpo, cfg, tiny_pages, Asked(prompter, LENGTHS), Referee(prompter, policy=1), tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["round_000.json"]
    assert (tmp_path / "round_000.json").stat().st_mtime_ns == kept


# --- with a real policy -----------------------------------------------------------------------------------------------


def test_dpo_widens_the_margin_from_0(tiny_pages, prompter: Prompter, make_learner: MakeLearner, tmp_path) -> None:
    learner = make_learner(lr=2e-4)
    sampler = FakeSampler(prompter, lambda page, k: ("good", "b", "ok")[k])
    rows = []
    for step in dpo(settings(), SAMPLING, 0, tiny_pages, sampler, learner, graded, tmp_path):
        rows.append(learner.update(step.rows, step.loss))
    assert rows[0]["loss"] == pytest.approx(LN2, abs=1e-5)
    assert rows[0]["margin_mean"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["margin_mean"] > 0.01
    assert rows[-1]["loss"] < LN2
    pair = Pair(page_id=tiny_pages[0].id, chosen_ids=(9,), rejected_ids=(8,))
    assert [row.ref_logprobs for row in pair_rows([(pair, prompter.prompt(tiny_pages[0]))])] == [None, None]


def test_a_killed_dpo_run_ends_as_an_uninterrupted_one(
    tiny_pages, prompter: Prompter, make_learner: MakeLearner, tmp_path: Path
) -> None:
    def train(run: Run, stop_after: int | None = None) -> Path:
        learner = make_learner(lr=1e-3)
        sampler = FakeSampler(prompter, lambda page, k: ("good", "b", "ok")[k])
        done, _ = resume(learner, run)

        def steps():
            cfg = settings(rounds=2)
            for step in dpo(cfg, SAMPLING, 0, tiny_pages, sampler, learner, graded, run.folder / "pairs"):
                if learner.policy == stop_after:
                    raise KeyboardInterrupt
                yield step

        assert done == learner.policy
        return fit(lambda state: steps(), learner, run, total=4, save_every=1, keep=1)

    whole = train(Run(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(Run(tmp_path / "killed"), stop_after=3)
    again = train(Run(tmp_path / "killed"))
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
