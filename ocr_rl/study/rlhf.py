"""The claims about a learned reward, each a small pure function: results in, a finding out. The critic's: `critic`.

A claim whose runs are not there is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ocr_rl.evaluate.stats import Interval
from ocr_rl.study.claims import against_noise
from ocr_rl.study.findings import (
    MATTERS,
    Finding,
    Measured,
    Noise,
    PerPage,
    Series,
    Verdict,
    contrast,
    noise_of,
    noise_of_runs,
    over_runs,
    per_page,
    percent,
    points,
    spread,
    turned,
    verdict_of,
)
from ocr_rl.study.results import Cost, Results, cost_of

_APART = math.log(1.5)  # the least ratio of spreads that is worth speaking of
_COSTLY = 0.1  # the share of an arm's seconds from which building its reward model counts as a cost
_DOUBTED, _STEADY = ("ppo", "rlhf"), ("grpo", "dpo")
_CLIMBERS = ("rlhf", "grpo_rm")


def building(results: Results) -> Finding | None:
    runs = [name for seed in results.study.seeds if (name := f"rlhf-seed{seed}") in results.rows]
    built = [results.metrics[results.scorers[name]] for name in runs if results.scorers.get(name) in results.metrics]
    if not runs or len(built) < len(runs):
        return None
    models, loops = list(map(cost_of, built)), [cost_of(results.metrics[name]) for name in runs]
    tokens = [model.tokens / max(1, model.tokens + loop.tokens) for model, loop in zip(models, loops, strict=True)]
    seconds = [model.seconds / (model.seconds + loop.seconds) for model, loop in zip(models, loops, strict=True)]
    shares = over_runs(tokens), over_runs(seconds)
    effect = over_runs([share - _COSTLY for share in seconds])
    pairs, held_out = (np.mean([sum(row.get(name, 0) for row in rows) for rows in built]) for name in _PAIRS)

    def means(of: Callable[[Cost], float]) -> tuple[str, str]:
        return f"{np.mean(list(map(of, models))):,.0f}", f"{np.mean(list(map(of, loops))):,.0f}"

    return Finding(
        key="building",
        claim=f"RLHF 1. Building the reward model costs: more than {_COSTLY:.0%} of the time that RLHF takes in all",
        verdict=verdict_of(effect),
        effect=effect,
        seen=(
            f"A reward model takes {pairs:.0f} pairs ({held_out:.0f} of them held out), {percent(shares[0])} of the "
            f"tokens that RLHF generates and {percent(shares[1])} of its seconds (over seeds)."
        ),
        header=("what", "reward model", "PPO on it", "share of the reward model, %"),
        table=[
            ("tokens generated", *means(lambda cost: cost.tokens), percent(shares[0])),
            ("seconds", *means(lambda cost: cost.seconds), percent(shares[1])),
        ],
        y_label="share of the reward model, %",
        series={"RLHF": Series.of(shares)},
        ticks=("tokens generated", "seconds"),
    )


_PAIRS = ("pairs", "pairs_held_out")


def tuning(results: Results) -> Finding | None:
    """By the ratio of the spreads, so that it does not matter how far arms move."""
    ends = {arm: _ends(results, arm) for arm in (*_DOUBTED, *_STEADY)}
    doubted, steady = (spread([ends[arm] for arm in arms]) for arms in (_DOUBTED, _STEADY))
    if not doubted.freedom or not steady.freedom or not steady.sd or not doubted.sd:
        return None
    effect = log_ratio(doubted, steady)
    shown = {arm: values for arm, values in ends.items() if values}
    return Finding(
        key="tuning",
        claim="RLHF 2. PPO is unstable: its runs lie farther apart, seed by seed, than GRPO's and DPO's",
        verdict=verdict_of(effect, _APART),
        effect=effect,
        unit="logarithm",
        seen=(
            f"Runs of PPO and RLHF lie {100 * doubted.sd:.1f} points apart (standard deviation over seeds), those of "
            f"GRPO and DPO {100 * steady.sd:.1f}: {math.exp(effect.mean):.2f} times "
            f"[{math.exp(effect.low):.2f}, {math.exp(effect.high):.2f}]; the effect is the logarithm of that, and "
            f"{math.exp(_APART):.1f} times as far is the least that matters."
        ),
        header=("arm", "over seeds", "trials at the tuning seeds, %"),
        table=[
            (arm, _apart(spread([values])), ", ".join(f"{100 * rate:.1f}" for rate in _trials(results, arm)))
            for arm, values in shown.items()
        ],
    )


def log_ratio(first: Noise, second: Noise) -> Interval:
    """Logarithm of a standard deviation over another, with a 95 % interval: figures are taken to be normal, so a
    variance is its sum of squares over a chi-square draw of as many degrees of freedom. Both must have some."""
    rng = np.random.default_rng(0)
    drawn = [
        math.log(noise.sd) + np.log(noise.freedom / rng.chisquare(noise.freedom, 20_000)) / 2
        for noise in (first, second)
    ]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    clusters = first.freedom + second.freedom
    return Interval(mean=math.log(first.sd / second.sd), low=float(low), high=float(high), clusters=clusters)


def _ends(results: Results, arm: str) -> list[float]:
    return [float(np.mean(list(per_page(rows).values()))) for rows in results.runs(arm)]


def _trials(results: Results, arm: str) -> list[float]:
    count = len(results.study.arms[arm].trials) if arm in results.study.arms else 0
    return [results.trials[arm, k] for k in range(count) if (arm, k) in results.trials]


def _apart(noise: Noise) -> str:
    return f"{100 * noise.sd:.1f}" if noise.freedom else ""


def data_bias(results: Results) -> Finding | None:
    claim = (
        "RLHF 3. Data bias is learnt: wrong labels in its reward model's pairs cost RLHF more than the same noise on "
        "its rewards costs GRPO"
    )
    return against_noise(results, "rlhf", "RLHF", key="data_bias", claim=claim)


def over_optimisation(results: Results) -> Finding | None:
    """In the second half of the runs: at first both rise, since the learned reward knows something of the true one."""
    arms = {arm: runs for arm in _CLIMBERS if (runs := _climbs(results, arm))}
    if not arms:
        return None
    changes = {arm: [_late_change(results.evaluations[name]) for name in runs] for arm, runs in arms.items()}
    pooled = lambda: noise_of(list(changes.values()))
    measured = [
        Measured(pages=_mean_pages(of_runs), runs=len(of_runs), noise=noise_of_runs(of_runs, pooled))
        for of_runs in changes.values()
    ]
    true = contrast(*((1 / len(arms), of_arm) for of_arm in measured))
    windows = [_windows(results, name) for runs in arms.values() for name in runs]
    rise = over_runs([float(np.mean(end)) - float(np.mean(middle)) for middle, end in windows])
    paths = {arm: (_learned_path(results, runs), _true_path(results, runs)) for arm, runs in arms.items()}
    return Finding(
        key="over_optimisation",
        claim="RLHF 6. A learned reward can be over-optimised: late in the runs it rises while the pass rate does not",
        verdict=climb_verdict(rise, true),
        effect=turned(true),
        seen=(
            f"From the middle of the runs to their end the learned reward rises by {points(rise)} points (over "
            f"runs), the pass rate on the validation pages by {points(true)}, the mean of {' and '.join(arms)}."
        ),
        header=("arm", "learned reward: first, middle, end, %", "pass rate: start, middle, end, %"),
        table=[(arm, _thrice(learned), _thrice(passed)) for arm, (learned, passed) in paths.items()],
        x_label="step",
        y_label="%",
        series={
            f"{arm}: {label}": Series(x=list(path), y=[100 * value for value in path.values()])
            for arm, both in paths.items()
            for label, path in zip(("learned reward", "pass rate"), both, strict=True)
        },
    )


def climb_verdict(rise: Interval, true: Interval) -> Verdict:
    """`rise` of the learned reward, and what the true one did meanwhile.

    Where the learned one did not rise, nothing is decided. Where it did: supported if the true one rose by less than
    what matters, if at all; otherwise not supported if it rose; otherwise undecided.
    """
    if not rise.low > 0:
        return "undecided with this budget"
    if true.high < MATTERS:
        return "supported"
    return "not supported" if true.low > 0 else "undecided with this budget"


def _climbs(results: Results, arm: str) -> list[str]:
    """Runs that were evaluated on the way."""
    names = [f"{arm}-seed{seed}" for seed in results.study.seeds]
    return [name for name in names if len(results.evaluations.get(name, {})) > 1]


def _middle(steps: Sequence[int]) -> int:
    """The evaluation nearest the middle of the run, before its end."""
    return min(steps[:-1], key=lambda step: abs(2 * step - steps[-1]))


def _late_change(evaluations: Mapping[int, PerPage]) -> PerPage:
    steps = sorted(evaluations)
    before, after = evaluations[_middle(steps)], evaluations[steps[-1]]
    return {page: after[page] - before[page] for page in after}


def _mean_pages(runs: Sequence[PerPage]) -> PerPage:
    return {page: float(np.mean([run[page] for run in runs])) for page in runs[0]}


def _windows(results: Results, name: str) -> tuple[list[float], list[float]]:
    """The learned reward of the steps up to the middle evaluation, and of as many up to the end: a quarter of all.

    It is the run's only one, so it is the reward.
    """
    steps = sorted(results.evaluations[name])
    width = max(1, steps[-1] // 4)
    ends = max(_middle(steps), width), steps[-1]
    before, after = ([r["reward"] for r in results.metrics[name] if end - width < r["step"] <= end] for end in ends)
    return before, after


def _learned_path(results: Results, runs: Sequence[str]) -> dict[int, float]:
    """The mean reward of the steps since the evaluation before, by evaluation; over runs."""
    steps = sorted(results.evaluations[runs[0]])
    rows = [row for name in runs for row in results.metrics[name]]
    return {
        end: float(np.mean([row["reward"] for row in rows if begin < row["step"] <= end]))
        for begin, end in zip(steps, steps[1:], strict=False)
    }


def _true_path(results: Results, runs: Sequence[str]) -> dict[int, float]:
    evaluations = [results.evaluations[name] for name in runs]
    return {
        step: float(np.mean([list(of_run[step].values()) for of_run in evaluations])) for step in sorted(evaluations[0])
    }


def _thrice(path: Mapping[int, float]) -> str:
    steps = sorted(path)
    wanted = steps[0], _middle(steps) if len(steps) > 1 else steps[0], steps[-1]
    return ", ".join(f"{100 * path[step]:.1f}" for step in wanted)


LEARNED_REWARD: tuple[Callable[[Results], Finding | None], ...] = (building, tuning, data_bias, over_optimisation)
