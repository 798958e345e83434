"""The loop: take a step from the algorithm, update, log, evaluate, save. The only place that does these."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ocr_rl.learn.learner import Learner
from ocr_rl.learn.step import Step
from ocr_rl.rollout.flow import ScoredGroup
from ocr_rl.rollout.graders import as_json
from ocr_rl.rollout.watch import falls
from ocr_rl.run import Run, write_atomically

Evaluate = Callable[[int], dict[str, float]]  # (steps done) -> figures


def fit(
    steps: Iterator[Step],
    learner: Learner,
    run: Run,
    *,
    total: int,
    save_every: int,
    keep: int,
    evaluate_every: int = 0,
    evaluate: Evaluate | None = None,
) -> Path:
    """Run the algorithm to its end; returns the folder of the last checkpoint's model.

    Steps already done are `learner.policy`'s business: a resumed learner starts where its checkpoint was.
    """
    done, due, history = learner.policy, False, run.metrics()
    with tqdm(total=total, initial=done, desc="training", unit="step", smoothing=0.05) as bar:
        for step in steps:
            figures: dict[str, Any] = {**step.metrics, **learner.update(step.rows, step.loss)}
            done += 1
            last = done == total
            if evaluate and evaluate_every and (done % evaluate_every == 0 or last):
                figures |= evaluate(done)
            row = {"step": done, **figures}
            run.log(row)
            history.append(row)
            run.log_groups(done, [best_and_worst(group) for group in step.groups])
            bar.update()
            bar.write("  ".join([describe(row, total), *(f"! {fall}" for fall in falls(history))]))
            due = due or done % save_every == 0 or last
            if due and step.state is not None:
                due = False
                save(learner, run, done, step.state)
                run.prune(keep)
    return run.checkpoints()[-1] / "model"


def save(learner: Learner, run: Run, done: int, state: Any) -> None:
    with run.checkpoint(done) as folder:
        learner.save(folder / "model")
        learner.save_state(folder / "optim.pt")
        write_atomically(folder / "state.json", json.dumps({"step": done, "state": dict(state)}))


def resume(learner: Learner, run: Run) -> tuple[int, dict[str, Any]]:
    """Go back to the last whole checkpoint: (steps done, the algorithm's state); (0, {}) where there is none."""
    checkpoints = run.checkpoints()
    if not checkpoints:
        run.forget_after(0)
        return 0, {}
    learner.load_state(checkpoints[-1] / "optim.pt")
    saved = json.loads((checkpoints[-1] / "state.json").read_text(encoding="utf-8"))
    run.forget_after(saved["step"])
    return saved["step"], saved["state"]


def best_and_worst(scored: ScoredGroup) -> dict[str, Any]:
    """The best and the worst sample of a page with the rewards' reasons, and all samples, to be scored again."""
    order = sorted(range(len(scored.rewards)), key=lambda k: scored.rewards[k])
    shown = {
        name: {
            "reward": scored.rewards[k],
            "advantage": scored.advantages[k],
            "why": {reward: scores[k].why for reward, scores in scored.scores.items()},
            "text": scored.group.samples[k].text,
        }
        for name, k in (("best", order[-1]), ("worst", order[0]))
    }
    samples = [as_json(sample.transcript()) for sample in scored.group.samples]
    return {"page": scored.group.page.id, **shown, "samples": samples}


# What a step's line shows, in order, with its format; figures that a step does not have are left out.
_LINE = {
    "loss": "loss {:.3f}",
    "reward": "reward {:.3f}",
    "pass_rate": "pass {:.1%}",
    "length": "length {:.0f}",
    "finished": "ended {:.0%}",
    "kl": "kl {:.4f}",
    "clip_share": "clip {:.1%}",
    "flat_groups": "flat {:.0%}",
    "faults": "faults {:.0f}",
    "undrawable": "undrawable {:.0f}",
    "gap_max": "gap {:.1e}",
    "entropy": "entropy {:.3f}",
    "grad_norm": "grad {:.2f}",
    "nll_page": "val {:.3f}",
    "nll_blank": "blank {:.2f}",
    "sync_s": "sync {:.1f}s",
    "rollout_s": "sample {:.1f}s",
    "score_s": "score {:.1f}s",
    "annotate_s": "old {:.1f}s",
    "update_s": "update {:.1f}s",
}


def describe(row: dict[str, Any], total: int) -> str:
    shown = [form.format(row[name]) for name, form in _LINE.items() if name in row]
    return f"{row['step']}/{total}  " + "  ".join(shown)
