"""`ocr-rl score`: what the rewards say of a Markdown transcript, or of groups that a run saved, and why. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ocr_rl.config import RewardChoice
from ocr_rl.contract import Page, Score, Transcript, UserError
from ocr_rl.evaluate.groups import read_groups
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.plugins import REWARDS, installed, load_reward
from ocr_rl.rollout.graders import Graders, weighted
from ocr_rl.rollout.scoring import GraderFault, WeightedReward, grade
from ocr_rl.text.front_matter import split_front_matter

_AGAIN_S = 60.0  # for a fault that is asked again, as in a recipe


def score_file(file: Path, data: Path, rewards: Sequence[str] | None, *, page: str | None) -> Iterator[str]:
    """One line a reward. `page` is "name.pdf:2"; by default the page that the file's name says (`name_pg2.md`).

    Of a JSONL file (a run's groups/*.jsonl or faults/*.jsonl), for every page: one line a sample and reward.
    """
    if file.suffix == ".jsonl":
        yield from _score_groups(file, data, rewards)
        return
    try:
        raw = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: is not UTF-8 text.") from None
    chosen = _page(load_dataset(data), page or _named(file), data)
    transcript = Transcript(raw=raw, body=split_front_matter(raw)[1], finish="stop", num_tokens=0)
    for name in rewards or [plugin.name for plugin in installed(REWARDS)]:
        (score,) = _score(name, chosen, [transcript])
        yield _line(name, score)


def _score_groups(file: Path, data: Path, rewards: Sequence[str] | None) -> Iterator[str]:
    pages = {page.id: page for page in load_dataset(data)}
    asked = list(rewards or [plugin.name for plugin in installed(REWARDS)])
    for group in read_groups(file):
        page = pages.get(group.page_id)
        if page is None:
            raise UserError(
                f"{file}: {data} has no page {group.page_id}; give the dataset that the run was trained on."
            )
        yield f"{page.id} ({page.pdf.name}, page {page.number}), {len(group.samples)} samples"
        if group.fault is not None:
            names, scores = [group.fault[0]], _again(*group.fault, page, group.samples)
        else:
            names = asked
            scores = {name: _score(name, page, group.samples) for name in names}
        for k in range(len(group.samples)):
            yield from (f"  {k}  {_line(name, scores[name][k])}" for name in names)


def _line(name: str, score: Score) -> str:
    value = "does not apply" if score.value is None else f"{score.value:.3f}"
    return f"{name}: {value}" + (f"  ({score.why})" if score.why else "")


def _score(name: str, page: Page, group: Sequence[Transcript]) -> Sequence[Score]:
    asked = WeightedReward(name=name, reward=load_reward(name))
    # `grade` refuses a page to which no reward applies; here that is an answer like any other.
    applies = WeightedReward(name="", reward=lambda page, group: [Score(value=1.0)] * len(group))
    try:
        return grade(page, group, [asked, applies]).scores[name]
    except GraderFault as fault:
        raise UserError(f"{fault}.") from None


def _again(
    name: str, options: Mapping[str, Any], page: Page, group: Sequence[Transcript]
) -> Mapping[str, Sequence[Score]]:
    """Of a saved fault: the same reward with the same options, in a worker that may hang or crash as it did then."""
    choice = RewardChoice(name=name, options=dict(options))
    graders = Graders([choice], weighted([choice]), workers=1, timeout_s=_AGAIN_S)
    with closing(graders):
        (found,) = graders.grade([(page, group)])
    if isinstance(found, GraderFault):
        raise UserError(f"{found}.")
    return found.scores


def _named(file: Path) -> str:
    """`invoice_pg2_repeat1.md` and `invoice_pg2.md` are page 2 of invoice.pdf, `invoice.md` is page 1."""
    stem, _, number = re.sub(r"_repeat\d+$", "", file.stem).rpartition("_pg")
    return f"{stem}.pdf:{number}" if stem and number.isdigit() else f"{file.stem}.pdf:1"


def _page(pages: Sequence[Page], wanted: str, data: Path) -> Page:
    name, _, number = wanted.rpartition(":")
    numbered = [page for page in pages if str(page.number) == number]
    # A path below pdfs/ says which file; a bare name does where only one file has it.
    exact = [page for page in numbered if page.pdf.relative_to(data / "pdfs").as_posix() == name]
    found = exact or [page for page in numbered if page.pdf.name == name]
    if not found:
        raise UserError(f"{data}: has no page {wanted!r}; name one with --page, as in --page {pages[0].pdf.name}:1.")
    if len(found) > 1:
        raise UserError(f"{data}: has {len(found)} pages {wanted!r}; name the path below pdfs/ with --page.")
    return found[0]
