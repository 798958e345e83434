"""What DPO and best-of-N share: draw samples, keep pairs of them, learn from these for a while, draw again.

With one round this is offline learning: every sample is the starting policy's. What a round keeps is a file of pairs
below the run, written before its first step, so a resumed run learns from the same pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn.algos.pairs import Pair, Prompted, pair_of, ranked_pairs, with_prompts
from ocr_rl.learn.algos.setting import SamplingSetting, Setting
from ocr_rl.learn.step import Step
from ocr_rl.objectives.losses import Loss
from ocr_rl.pages.epochs import draw
from ocr_rl.pages.preferences import Preference, read_preferences
from ocr_rl.rollout.asking import with_left_out
from ocr_rl.rollout.collect import Refused, Turns, collect, timed
from ocr_rl.rollout.describe import describe_shares
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import seed_for
from ocr_rl.rollout.stuck import why_stuck
from ocr_rl.run import write_atomically

Drawn = tuple[list[Pair], dict[str, float]]  # a round's pairs, and figures about how they came about
DrawPairs = Callable[[int, Refused], Drawn]  # (number of the round, pages without a prompt) -> ...


def rounds(
    cfg: config.Rounds | config.RewardModel,
    setting: Setting,
    draw_pairs: DrawPairs,
    rows_of: Callable[[Prompted], list[Row]],
    loss: Loss,
) -> Iterator[Step]:
    """Steps from `learner.policy` to `cfg.steps`: as many a round, on the round's own pairs."""
    learner, folder = setting.learner, setting.folder / "pairs"
    steps = cfg.steps // cfg.rounds
    refused: Refused = {}
    for path in folder.glob("round_*.json"):
        if int(path.stem.removeprefix("round_")) > learner.policy // steps:
            path.unlink()  # of a run killed later than its checkpoint: samples of a policy that is no more
    while learner.policy < cfg.steps:
        number, first = divmod(learner.policy, steps)
        path = folder / f"round_{number:03d}.json"
        if not path.exists():
            write_atomically(path, _as_json(draw_pairs(number, refused), number))
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        pairs = [pair_of(row) for row in kept["pairs"]]
        for step in range(first, steps):
            at = step * cfg.pages_per_step
            chosen = draw(pairs, min(cfg.pages_per_step, len(pairs)), at, f"{setting.seed}/{number}")
            prompted = with_prompts(chosen, setting.pages, learner.prompter, refused)
            figures = {"round": number, **(kept["figures"] if step == 0 else {})}
            figures = with_left_out(figures, len(chosen) - len(prompted))
            yield Step(rows=rows_of(prompted), loss=loss, metrics=figures)


def _as_json(drawn: Drawn, number: int) -> str:
    pairs, figures = drawn
    if not pairs:
        raise UserError(
            f"Round {number}: no page gave a pair whose rewards differ; use other pages, a higher temperature "
            "or more samples per page."
        )
    return json.dumps({"figures": figures, "pairs": [asdict(pair) for pair in pairs]})


def given_or_sampled(
    cfg: config.Dpo | config.RewardModel, setting: Setting, number: int, refused: Refused, *, pairs_per_page: int = 1
) -> Drawn:
    """Somebody's preferences where the recipe names a file of them, else pairs of the policy's own samples."""
    if cfg.preferences is not None:
        given = read_preferences(cfg.preferences, setting.pages, cfg.name)
        return [encoded(preference, setting.learner.prompter) for preference in given], {}
    assert isinstance(setting, SamplingSetting)
    return sample_pairs(cfg, setting, number, refused, margin=cfg.margin, pairs_per_page=pairs_per_page)


def encoded(preference: Preference, prompter: Prompter) -> Pair:
    chosen, rejected = ((*prompter.encode(text), prompter.eos_id) for text in (preference.chosen, preference.rejected))
    return Pair(page_id=preference.page_id, chosen_ids=chosen, rejected_ids=rejected)


def sample_pairs(
    cfg: config.FromSamples,
    setting: SamplingSetting,
    number: int,
    refused: Refused,
    *,
    margin: float = 0.0,
    pairs_per_page: int = 1,
) -> Drawn:
    """The best and the worst samples of each page of a round, drawn from the policy as it is now."""
    learner, n = setting.learner, min(cfg.pages_per_round, len(setting.pages))
    turns = Turns(pages=setting.pages, seed=setting.seed, drawn=number * cfg.pages_per_round, refused=refused)
    asking = setting.asking(cfg, lambda drawn: seed_for(setting.seed, number))
    clock = dict[str, float]()
    with timed(clock, "sync_s"):
        asking.sampler.load(learner.weights(), learner.policy)
    got = collect(asking, turns, n)
    if number == 0 and got.scored:
        tqdm.write(describe_shares(got.scored, cfg.comparison, "what tells samples apart"))
    by_page = [ranked_pairs(group, margin, pairs_per_page) for group in got.groups]
    pairs = [pair for pairs in by_page for pair in pairs]
    if not pairs and (reason := why_stuck(got.scored, setting.score)):
        raise UserError(f"Round {number}: no page gave a pair; {reason}")
    figures = {
        **got.figures,
        "ties": sum(not pairs for pairs in by_page),
        "pairs": len(pairs),
        **({"faults": got.lost} if got.lost else {}),
        "generated": got.generated,
        **clock,
        **got.clock,
    }
    return pairs, figures
