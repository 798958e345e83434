"""A recipe becomes a run: the wiring of pages, policy, sampler, rewards, algorithm and loop. `ocr-rl train`."""

from __future__ import annotations

from pathlib import Path

from ocr_rl import config
from ocr_rl.learn.fit import fit
from ocr_rl.run import Run
from ocr_rl.train.checks import require_ranks, require_until, require_whole_steps
from ocr_rl.train.evaluation import evaluate_policy, report_run
from ocr_rl.train.session import Lent, follow, open_session

__all__ = ["Lent", "evaluate_policy", "follow", "train"]


def train(
    recipe: config.Recipe, out: Path, *, go_on: bool = False, until: int | None = None, lent: Lent | None = None
) -> Path:
    """Train as the recipe says, below `out`; returns the folder of the trained policy.

    With `until`, only to that step, as an interruption would: a checkpoint on the way, and no report.

    Who lends something reports on many runs at once: no report is written here then, and SFT is evaluated by its
    transcripts, as the others are.
    """
    run, resolved = Run(out), recipe.model_dump(mode="json")
    run.claim(resolved, resume=go_on)
    require_ranks(recipe)
    require_until(recipe, until)
    require_whole_steps(recipe, until)
    with open_session(recipe, run, go_on=go_on, until=until, lent=lent) as session:
        session.sources.keep()
        run.start(resolved, resume=go_on)  # once everything has been opened
        session.evaluate_start()
        trained = fit(session.steps, session.setting.learner, run, session.plan, session.state, critic=session.critic)
    if lent is None and until is None and recipe.algorithm.samples:
        learner = session.setting.learner
        for name, pages in session.held_out.items():
            longest_px, device = learner.prompter.longest_px, str(learner.device)
            report_run(run, name, pages, seed=recipe.seed, longest_px=longest_px, device=device)
    return trained
