"""`ocr-rl score`: the scores of a Markdown transcript, or of groups that a run saved, with reasons. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

from pydantic import ValidationError

from ocr_rl.config import RewardChoice, Scoring
from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.groups import read_groups
from ocr_rl.files import require_text
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.documents import other_names
from ocr_rl.pages.tree import name_among
from ocr_rl.plugins import REWARDS, names
from ocr_rl.rollout.reward_pool import Answer, RewardPool
from ocr_rl.rollout.scoring import RewardFault
from ocr_rl.text.front_matter import split_front_matter

HOW = Scoring()  # workers and their time, as in a recipe that says nothing


def score_file(file: Path, data: Path, rewards: Sequence[str] | None, *, page: str | None) -> Iterator[str]:
    """One line a reward. `page` is "name.pdf:2" or a page's id; by default the file's name says it (`name_pg2.md`).

    A JSONL file (a run's groups/*.jsonl or faults/*.jsonl) gives one line a page, sample and reward. Rewards are made
    and run in workers, as in training. One that fails is a UserError where `rewards` names it, else a line.
    """
    if file.suffix == ".jsonl":
        yield from _score_groups(file, data, rewards)
        return
    raw = require_text(file)
    chosen = _page(load_dataset(data), page or _named(file), data, any_ending=page is None)
    transcript = Transcript(raw=raw, body=split_front_matter(raw)[1], finish="stop", num_tokens=0)
    with closing(_pool(_choices(rewards))) as pool:
        for name, answer in _answers(pool, chosen, [transcript], strict=rewards is not None).items():
            yield _line(name, answer, 0)


def _score_groups(file: Path, data: Path, rewards: Sequence[str] | None) -> Iterator[str]:
    pages = {page.id: page for page in load_dataset(data)}
    with closing(_pool(_choices(rewards))) as pool:
        for group in read_groups(file):
            page = pages.get(group.page_id)
            if page is None:
                raise UserError(
                    f"{file}: {data} has no page {group.page_id}; give the dataset that the run was trained on."
                )
            yield f"{page.id} ({page.pdf.name}, page {page.number}), {len(group.samples)} samples"
            if group.fault is not None:
                answers = _again(*group.fault, page, group.samples)
            else:
                answers = _answers(pool, page, group.samples, strict=rewards is not None)
            for k in range(len(group.samples)):
                yield from (f"  {k}  {_line(name, answer, k)}" for name, answer in answers.items())


def _choices(rewards: Sequence[str] | None) -> list[RewardChoice]:
    return [RewardChoice(name=name) for name in dict.fromkeys(rewards or names(REWARDS))]


def _pool(choices: Sequence[RewardChoice]) -> RewardPool:
    # No reward is weighed, because here a page to which none applies is no error.
    return RewardPool(choices=choices, rewards=(), workers=HOW.workers, timeout_s=HOW.timeout_s)


def _answers(pool: RewardPool, page: Page, group: Sequence[Transcript], *, strict: bool) -> Mapping[str, Answer]:
    """By reward. UserError for a fault if `strict`."""
    (answers,) = pool.ask([(page, group)])
    fault = next((answer for answer in answers.values() if isinstance(answer, RewardFault)), None)
    if strict and fault is not None:
        raise UserError(f"{fault}.")
    return answers


def _again(name: str, options: Mapping[str, Any], page: Page, group: Sequence[Transcript]) -> Mapping[str, Answer]:
    """The answers of a saved fault's reward, with the same options."""
    try:
        choice = RewardChoice(name=name, options=dict(options))
    except ValidationError:
        raise UserError(f"The saved fault of {name} has options that no recipe can have: {dict(options)}.") from None
    with closing(_pool([choice])) as pool:
        return _answers(pool, page, group, strict=True)


def _line(name: str, answer: Answer, k: int) -> str:
    if isinstance(answer, RewardFault):
        return f"{name}: fault  ({answer.reason})"
    score = answer[k]
    value = "does not apply" if score.value is None else f"{score.value:.3f}"
    return f"{name}: {value}" + (f"  ({score.why})" if score.why else "")


def _named(file: Path) -> str:
    """`invoice_pg2_repeat1.md` and `invoice_pg2.md` are page 2 of invoice.pdf, `invoice.md` is page 1."""
    stem, _, number = re.sub(r"_repeat\d+$", "", file.stem).rpartition("_pg")
    return f"{stem}.pdf:{number}" if stem and number.isdigit() else f"{file.stem}.pdf:1"


def _page(pages: Sequence[Page], wanted: str, data: Path, *, any_ending: bool) -> Page:
    """The page of that id, or of "name.pdf:2", where any of a document's names counts, also that of a link.

    A path below pdfs/ names the document. A bare name does so where only one document has it; with `any_ending` it
    counts without its ending, since a transcript's own name does not say whether the page is of a PDF or a picture.
    """
    name, _, number = wanted.rpartition(":")
    root = data / "pdfs"
    names = {normalize("NFC", page.pdf.relative_to(root).as_posix()): page.pdf for page in pages} | other_names(root)
    meant = name_among(name, names)
    last = normalize("NFC", PurePosixPath(name).stem if any_ending else name)
    alike = (PurePosixPath(other) for other in names)
    bare = [path.as_posix() for path in alike if last == (path.stem if any_ending else path.name)]
    pdfs = {names[other] for other in ([meant] if meant else bare)}
    matches = [page for page in pages if page.id == wanted or (page.pdf in pdfs and str(page.number) == number)]
    if not matches:
        raise UserError(f"{data}: has no page {wanted!r}; name one with --page, as in --page {pages[0].pdf.name}:1.")
    if len(matches) > 1:
        raise UserError(f"{data}: has {len(matches)} pages {wanted!r}; name the path below pdfs/ with --page.")
    return matches[0]
