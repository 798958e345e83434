"""DPO and best-of-N SFT: draw samples, keep what the rewards say of them, learn from that for a while, draw again.

With one round this is offline learning: every sample is the starting policy's. What a round keeps is a file of pairs
below the run, written before its first step, so a resumed run learns from the same pairs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

from tqdm import tqdm

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.learn.algos.asking import ask, require_one, with_left_out
from ocr_rl.learn.algos.grpo import Score, describe, describe_shares, rollout
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.losses import Loss, nll
from ocr_rl.learn.losses import dpo as dpo_loss
from ocr_rl.learn.rows import packed_length
from ocr_rl.learn.step import Step
from ocr_rl.pages.epochs import draw
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.advantage import with_advantages
from ocr_rl.rollout.flow import Prompt, Row, ScoredGroup
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling, seed_for
from ocr_rl.run import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The best and the worst sample of one page, with the reference policy's log-probabilities of their tokens."""

    page_id: str
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    chosen_reward: float | None = None  # None: somebody's preference
    rejected_reward: float | None = None
    chosen_ref: tuple[float, ...] = ()
    rejected_ref: tuple[float, ...] = ()


Prompted = Sequence[tuple[Pair, Prompt]]
Refused = dict[str, PageError]  # by page id, as `ask` keeps them
Collect = Callable[[int, Refused], tuple[list[Pair], dict[str, float]]]  # (number of the round, ...) -> pairs, figures


def dpo(
    cfg: config.Dpo,
    sampling: config.Sampling,
    seed: int,
    pages: Sequence[Page],
    sampler: Sampler,
    learner: Learner,
    score: Score,
    folder: Path,
) -> Iterator[Step]:
    """Steps from `learner.policy` to `cfg.steps`; the reference is the policy at the beginning of each round."""
    loss = dpo_loss(
        beta=cfg.beta,
        label_smoothing=cfg.label_smoothing,
        length_normalised=cfg.length_normalised,
        nll_anchor=cfg.nll_anchor,
    )

    def collect(number: int, refused: Refused) -> tuple[list[Pair], dict[str, float]]:
        if cfg.preferences is not None:
            pairs, figures = read_preferences(cfg.preferences, pages, learner.prompter), {}
        else:
            pairs, figures = _sampled(cfg, sampling, seed, number, pages, sampler, learner, score, cfg.margin, refused)
        prompted = _with_prompts(flipped(pairs, cfg.flip, seed), pages, learner.prompter, refused)
        _require_room(prompted, learner)
        started = time.perf_counter()
        known = with_reference(prompted, learner)
        figures = {**figures, "annotate_s": time.perf_counter() - started}
        return known, with_left_out(figures, len(pairs) - len(prompted))

    return _rounds(cfg, seed, pages, learner, folder, collect, pair_rows, loss)


def best_of_n(
    cfg: config.BestOfN,
    sampling: config.Sampling,
    seed: int,
    pages: Sequence[Page],
    sampler: Sampler,
    learner: Learner,
    score: Score,
    folder: Path,
) -> Iterator[Step]:
    """SFT on the best sample of each page, pages whose samples are all equally good left out (rejection sampling)."""

    def collect(number: int, refused: Refused) -> tuple[list[Pair], dict[str, float]]:
        return _sampled(cfg, sampling, seed, number, pages, sampler, learner, score, 0.0, refused)

    return _rounds(cfg, seed, pages, learner, folder, collect, best_rows, nll)


def _rounds(
    cfg: config.Rounds,
    seed: int,
    pages: Sequence[Page],
    learner: Learner,
    folder: Path,
    collect: Collect,
    rows_of: Callable[[Prompted], list[Row]],
    loss: Loss,
) -> Iterator[Step]:
    steps = cfg.steps // cfg.rounds
    refused: Refused = {}
    for path in folder.glob("round_*.json"):
        if int(path.stem.removeprefix("round_")) > learner.policy // steps:
            path.unlink()  # of a run killed later than its checkpoint: samples of a policy that is no more
    while learner.policy < cfg.steps:
        number, first = divmod(learner.policy, steps)
        path = folder / f"round_{number:03d}.json"
        if not path.exists():
            pairs, figures = collect(number, refused)
            if not pairs:
                raise UserError(
                    f"Round {number}: no page gave a pair whose rewards differ; use other pages, a higher temperature "
                    "or more samples per page."
                )
            kept = {"figures": figures, "pairs": [asdict(pair) for pair in pairs]}
            write_atomically(path, json.dumps(kept))
        kept = json.loads(path.read_text(encoding="utf-8"))
        pairs = [_pair(row) for row in kept["pairs"]]
        for step in range(first, steps):
            chosen = draw(pairs, min(cfg.pages_per_step, len(pairs)), step * cfg.pages_per_step, f"{seed}/{number}")
            prompted = _with_prompts(chosen, pages, learner.prompter, refused)
            figures = {"round": number, **(kept["figures"] if step == 0 else {})}
            figures = with_left_out(figures, len(chosen) - len(prompted))
            yield Step(rows=rows_of(prompted), loss=loss, metrics=figures)


def _sampled(
    cfg: config.Rounds,
    sampling: config.Sampling,
    seed: int,
    number: int,
    pages: Sequence[Page],
    sampler: Sampler,
    learner: Learner,
    score: Score,
    margin: float,
    refused: Refused,
) -> tuple[list[Pair], dict[str, float]]:
    started = time.perf_counter()
    sampler.load(learner.weights(), learner.policy)
    drawn = draw(pages, min(cfg.pages_per_round, len(pages)), number * cfg.pages_per_round, str(seed))
    how = Sampling(
        n=cfg.samples_per_page,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        seed=seed_for(seed, number),
    )
    asked = ask(drawn, learner.prompter, refused)
    require_one(asked, drawn, refused)
    sampled = rollout(sampler, asked, how)
    graded = score(sampled)
    if number == 0 and graded:
        tqdm.write(describe_shares(graded, "none", "what tells samples apart"))
    groups = with_advantages(graded, "none")
    pairs = [pair for group in groups if (pair := best_and_worst(group, margin)) is not None]
    figures = {**describe(groups), "ties": len(groups) - len(pairs), "pairs": len(pairs)}
    if len(graded) < len(sampled):
        figures["faults"] = len(sampled) - len(graded)
    figures["generated"] = sum(len(sample.token_ids) for group in sampled for sample in group.samples)
    figures["rollout_s"] = time.perf_counter() - started
    return pairs, with_left_out(figures, len(drawn) - len(asked))


def best_and_worst(scored: ScoredGroup, margin: float) -> Pair | None:
    """The first best sample that ended by itself and the first worst of all; None for a tie.

    Learning a sample that was cut off would teach not to end. A tie: rewards that differ by no more than `margin`.
    """
    rewards = scored.rewards
    ended = [k for k, sample in enumerate(scored.group.samples) if sample.finish == "stop"]
    if not ended:
        return None
    best, worst = max(ended, key=lambda k: rewards[k]), rewards.index(min(rewards))
    if rewards[best] - rewards[worst] <= max(margin, 1e-9):
        return None
    return Pair(
        page_id=scored.group.page.id,
        chosen_ids=scored.group.samples[best].token_ids,
        rejected_ids=scored.group.samples[worst].token_ids,
        chosen_reward=rewards[best],
        rejected_reward=rewards[worst],
    )


def flipped(pairs: Sequence[Pair], share: float, seed: int) -> list[Pair]:
    """Label noise: that share of the pairs (rounded) with chosen and rejected exchanged."""
    wrong = set(Random(f"flip/{seed}").sample(range(len(pairs)), round(share * len(pairs))))
    return [
        replace(
            pair,
            chosen_ids=pair.rejected_ids,
            rejected_ids=pair.chosen_ids,
            chosen_reward=pair.rejected_reward,
            rejected_reward=pair.chosen_reward,
        )
        if i in wrong
        else pair
        for i, pair in enumerate(pairs)
    ]


def with_reference(prompted: Prompted, learner: Learner) -> list[Pair]:
    """Log-probabilities of both answers under the policy as it is now: computed once, kept with the pair."""
    values = learner.logprobs(pair_rows(prompted))
    return [
        replace(pair, chosen_ref=chosen, rejected_ref=rejected)
        for (pair, _), chosen, rejected in zip(prompted, values[::2], values[1::2], strict=True)
    ]


def pair_rows(prompted: Prompted) -> list[Row]:
    """Two rows a pair, the chosen one (advantage +1) before the rejected one (-1); every pair counts the same."""
    rows = []
    for i, (pair, prompt) in enumerate(prompted):
        for sign, ids, ref in ((1, pair.chosen_ids, pair.chosen_ref), (-1, pair.rejected_ids, pair.rejected_ref)):
            row = Row(prompt=prompt, completion_ids=ids, group_id=i, weight=1 / len(prompted), advantage=float(sign))
            rows.append(replace(row, ref_logprobs=ref or None))
    return rows


def best_rows(prompted: Prompted) -> list[Row]:
    """One row a page, every token of the step counting the same, as in SFT."""
    weight = 1 / sum(len(pair.chosen_ids) for pair, _ in prompted)
    return [
        Row(prompt=prompt, completion_ids=pair.chosen_ids, group_id=i, weight=weight)
        for i, (pair, prompt) in enumerate(prompted)
    ]


def read_preferences(path: Path, pages: Sequence[Page], prompter: Prompter) -> list[Pair]:
    """Somebody's own pairs: one JSON object a line with pdf, page (from 1), chosen and rejected (text).

    `pdf` is the path below pdfs/; the file name is enough where no other PDF has it.
    """
    ids = {(page.pdf, page.number): page.id for page in pages}
    places: dict[tuple[str, ...], list[Path]] = {}  # by each way to end their path
    for pdf in dict.fromkeys(page.pdf for page in pages):
        for start in range(len(pdf.parts)):
            places.setdefault(pdf.parts[start:], []).append(pdf)
    pairs = []
    for number, line in _lines(path):
        try:
            pairs.append(_preference(_object(line), ids, places, prompter))
        except ValueError as fault:
            raise UserError(f"{path}, line {number}: {fault}.") from None
    if not pairs:
        raise UserError(f"dpo.preferences: {path} holds no pair.")
    return pairs


def _lines(path: Path) -> list[tuple[int, str]]:
    """Number in the file and text of each line that is not blank; only "\n" ends a line, as in JSONL."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"dpo.preferences: {path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise UserError(f"dpo.preferences: {path} is not UTF-8 (byte {error.start + 1}).") from None
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _object(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError):  # a number of thousands of digits; brackets nested thousands deep
        raise ValueError("not valid JSON that anybody would write") from None
    if not isinstance(row, dict):
        raise ValueError("a pair is a JSON object with pdf, page, chosen and rejected")
    return row


def _preference(
    row: Mapping[str, Any],
    ids: Mapping[tuple[Path, int], str],
    places: Mapping[tuple[str, ...], Sequence[Path]],
    prompter: Prompter,
) -> Pair:
    """Raises ValueError saying which field is wrong."""
    if missing := [name for name in ("pdf", "page", "chosen", "rejected") if name not in row]:
        raise ValueError(f"no field {missing[0]}; a pair has pdf, page, chosen and rejected")
    name, number, texts = row["pdf"], row["page"], (row["chosen"], row["rejected"])
    if not (isinstance(name, str) and type(number) is int):
        raise ValueError("pdf must be the name of a file, page a whole number")
    if not all(isinstance(text, str) for text in texts) or texts[0] == texts[1]:
        raise ValueError("chosen and rejected must be two different texts")
    if any("\ud800" <= letter <= "\udfff" for text in texts for letter in text):
        raise ValueError("chosen or rejected holds half a character (a lone surrogate)")
    parts = PurePosixPath(name).parts
    found = places.get(("pdfs", *parts)) or places.get(parts) or ()
    if len(found) > 1:
        raise ValueError(f"{len(found)} PDFs are called {name!r}; give the path below pdfs/")
    page_id = ids.get((found[0], number)) if found else None
    if page_id is None:
        raise ValueError(f"{name!r} page {number} is no page of dpo.pages")
    chosen, rejected = ((*prompter.encode(text), prompter.eos_id) for text in texts)
    return Pair(page_id=page_id, chosen_ids=chosen, rejected_ids=rejected)


def _pair(row: Mapping[str, Any]) -> Pair:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return Pair(**fields)


def _with_prompts(
    pairs: Sequence[Pair], pages: Sequence[Page], prompter: Prompter, refused: Refused
) -> list[tuple[Pair, Prompt]]:
    """The pairs whose page has a prompt. UserError where there are pairs, and none of them is left."""
    by_id = {page.id: page for page in pages}
    asked_for = [by_id[page_id] for page_id in dict.fromkeys(pair.page_id for pair in pairs)]
    asked = ask(asked_for, prompter, refused)
    if pairs:
        require_one(asked, asked_for, refused)
    prompts = {page.id: prompt for page, prompt in asked}
    return [(pair, prompts[pair.page_id]) for pair in pairs if pair.page_id in prompts]


def _require_room(prompted: Prompted, learner: Learner) -> None:
    """A pair is computed at once: its loss needs both answers."""
    rows = pair_rows(prompted)
    longest = max((packed_length(rows[i : i + 2]) for i in range(0, len(rows), 2)), default=0)
    if longest > learner.settings.micro_tokens:
        raise UserError(
            f"optim.micro_tokens is {learner.settings.micro_tokens}, the longest pair has {longest} tokens with its "
            "page: raise it, or lower sampling.max_tokens."
        )
