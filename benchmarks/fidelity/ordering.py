"""How well do rewards order real siblings? What GRPO climbs, and what best-of-N would get.

    python -m benchmarks.fidelity.ordering [--kinds notice nano] [--pages 128] [--samples 8] [--model nano]
                                           [--recipes nano_grpo] [--groups DATA GROUPS.jsonl] [--out FOLDER]
                                           [--bench DATA --candidates olmocr_pipeline text_layer ...]

Samples of a policy on pages with references, which the mixes do not see; `--groups` takes a dataset and samples of its
pages that `ocr-rl sample` wrote instead. The measure of a transcript is its element score against the reference.
Rank correlation is Kendall's tau-b within a group, mean over the groups in which the measure differs. Best-of-N takes
the transcript with the highest reward (the mean of equal ones); its share is (its measure - the group's mean) / (the
best measure - the mean), summed over groups. A group is flat if all siblings earn the same though they differ in the
measure. Intervals: bootstrap over pages. Prints Markdown, `--out` keeps it with the samples.

`--bench` takes real pages with unit tests and no reference, as an olmOCR-Bench folder has them. Siblings are what
several candidates wrote of a page: folders of Markdown files or names of OCR engines. A random half of the page's tests
is the reward, the measure is the share of the other half that passes in the public reading, so that no test is both;
`--splits` such halves are drawn. Pages with fewer than four tests or two transcripts are left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean

import numpy as np

from ocr_rl.config import RewardChoice, load_recipe
from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.candidates import EngineCandidate, folder_answers
from ocr_rl.evaluate.groups import read_groups
from ocr_rl.evaluate.samples import Drawing, sample_pages
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.synth.make import write_dataset
from ocr_rl.plugins import REWARDS, installed
from ocr_rl.rollout.reward_pool import Choice, weighted
from ocr_rl.rollout.scoring import score_page
from ocr_rl.run import write_atomically
from ocr_rl.text.checks import judge
from ocr_rl.text.elements import element_score

SAME = 1e-9
DRAWS = 1000
FEWEST_TESTS = 4  # of a page, so that each half has two
# olmOCR-2's rewards (arXiv 2510.19817): the share of unit tests that pass in the public reading, front matter, EOS.
PUBLIC: Sequence[Choice] = (
    RewardChoice(name="pass_rate", options={"reading": "compatible"}),
    RewardChoice(name="front_matter"),
    RewardChoice(name="eos"),
)
WITH_REFERENCE = ("elements", "diff_ratio", "bleu", "cer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Siblings of a page: what they earn, and how good they are."""

    page: str
    rewards: Sequence[float]
    measures: Sequence[float]

    @property
    def differs(self) -> bool:
        return max(self.measures) - min(self.measures) > SAME

    @property
    def flat(self) -> bool:
        return max(self.rewards) - min(self.rewards) <= SAME

    @property
    def realised(self) -> float:
        """What best-of-N by the reward gains over the group's mean."""
        best = max(self.rewards)
        chosen = [m for m, reward in zip(self.measures, self.rewards, strict=True) if reward >= best - SAME]
        return fmean(chosen) - fmean(self.measures)

    @property
    def possible(self) -> float:
        return max(self.measures) - fmean(self.measures)

    @property
    def tau(self) -> float:
        """Kendall's tau-b; 0 where the rewards are flat."""
        a, b = (np.asarray(values)[:, None] - np.asarray(values) for values in (self.rewards, self.measures))
        above = np.triu_indices(len(self.rewards), 1)
        a, b = (np.where(np.abs(x) <= SAME, 0, np.sign(x))[above] for x in (a, b))
        pairs = float(np.sqrt((a != 0).sum() * (b != 0).sum()))
        return float((a * b).sum() / pairs) if pairs else 0.0


Figures = tuple[float, float, float]  # tau, share of the possible gain, share of flat groups


def figures(groups: Sequence[Group]) -> Figures:
    """Over the groups in which the measure differs."""
    possible = sum(group.possible for group in groups)
    share = sum(group.realised for group in groups) / possible if possible else 0.0
    return fmean(group.tau for group in groups), share, fmean(group.flat for group in groups)


def intervals(groups: Sequence[Group], seed: int = 0) -> list[tuple[float, float]]:
    """Of `figures`: 95 %, all groups of a page drawn together."""
    rng = np.random.default_rng(seed)
    of_page: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        of_page[group.page].append(group)
    pages = list(of_page.values())
    drawn = [
        figures([group for k in rng.integers(len(pages), size=len(pages)) for group in pages[k]]) for _ in range(DRAWS)
    ]
    return [tuple(np.percentile([row[k] for row in drawn], (2.5, 97.5)).tolist()) for k in range(3)]


Samples = Sequence[tuple[Page, Sequence[Transcript]]]
Measures = Sequence[Sequence[float]]  # of each transcript


def element_scores(samples: Samples) -> Measures:
    return [[element_score(page.reference or "", text.body) for text in transcripts] for page, transcripts in samples]


def halves(samples: Samples, splits: int, seed: int) -> tuple[Samples, Measures]:
    """Every page `splits` times with a random half of its tests, and what share of the other half its siblings pass."""
    shown, measures = [], []
    for split in range(splits):
        for page, transcripts in samples:
            checks = Random(f"{seed}/{split}/{page.id}").sample(page.checks, len(page.checks))
            kept, held = checks[::2], checks[1::2]
            shown.append((replace(page, checks=kept), transcripts))
            measures.append(
                [fmean(verdict.passed for verdict in judge(held, text.body, "compatible")) for text in transcripts]
            )
    return shown, measures


def ordered(samples: Samples, measures: Measures, mix: Sequence[Choice], shown: bool) -> list[Group]:
    """One group a page to which the mix applies. `shown`: the rewards see references."""
    rewards = weighted(mix)
    groups = []
    for (page, transcripts), of_group in zip(samples, measures, strict=True):
        try:
            scores = score_page(page if shown else replace(page, reference=None), transcripts, rewards)
        except UserError:  # no reward applies to this page
            continue
        groups.append(Group(page=page.id, rewards=scores.rewards, measures=of_group))
    return groups


def mixes(recipes: Sequence[str]) -> Iterator[tuple[str, Sequence[Choice], bool]]:
    for recipe in recipes:
        yield f"the mix of `{recipe}`", load_recipe(recipe).mix, False
    yield "olmOCR's mix (pass rate, front matter, EOS)", PUBLIC, False
    for info in installed(REWARDS):
        if info.package == "ocr-rl":
            yield f"`{info.name}` alone", [RewardChoice(name=info.name)], False
    for name in WITH_REFERENCE:
        yield f"`{name}` with the reference", [RewardChoice(name=name)], True


def table(samples: Samples, measures: Measures, recipes: Sequence[str], measured: str = "element score") -> str:
    rows = []
    for name, mix, shown in mixes(recipes):
        groups = [group for group in ordered(samples, measures, mix, shown) if group.differs]
        if not groups:
            continue
        tau, share, flat = figures(groups)
        (tau_low, tau_high), (low, high), _ = intervals(groups)
        shares = f"{share:.0%} [{low:.0%}, {high:.0%}]"
        rows.append(f"| {name} | {len(groups)} | {tau:.2f} [{tau_low:.2f}, {tau_high:.2f}] | {shares} | {flat:.1%} |")
    best, mean = fmean(map(max, measures)), fmean(map(fmean, measures))
    heads = (
        "| reward | groups that differ | rank correlation | share of the oracle's gain | flat |\n|---|--:|--:|--:|--:|"
    )
    size = max(len(transcripts) for _, transcripts in samples)
    pages = len({page.id for page, _ in samples})
    note = (
        f"{len(samples)} groups of {size} on {pages} pages; {measured} {mean:.3f} on average, {best:.3f} for the best."
    )
    return "\n".join([note, "", heads, *rows])


def of_policy(kind: str, out: Path, *, model: str, backend: str, pages: int, n: int, seed: int) -> tuple[Path, Path]:
    """(dataset, groups) of a policy's samples; what is there from an earlier call is taken as it is."""
    data, groups = out / kind, out / f"{kind}.groups.jsonl"
    if not (data / f"{kind}.jsonl").exists():
        write_dataset(kind, n=pages, seed=seed, out=data)
    if not groups.exists():
        drawing = Drawing(data=data, model=model, engine=backend, pages=pages, n=n, temperature=1.0, seed=seed)  # type: ignore[arg-type]
        sample_pages(drawing, groups)
    return data, groups


def read(data: Path, groups: Path) -> Samples:
    pages = {page.id: page for page in load_dataset(data) if (page.reference or "").strip()}
    return [(pages[group.page_id], group.samples) for group in read_groups(groups) if group.page_id in pages]


def read_candidates(data: Path, candidates: Sequence[str]) -> Samples:
    """Pages with enough tests, and what the candidates wrote of them: folders of Markdown files, or OCR engines."""
    pages = [page for page in load_dataset(data) if len(page.checks) >= FEWEST_TESTS]
    written: dict[str, list[Transcript]] = defaultdict(list)
    for candidate in candidates:
        for folder in (Path(candidate), data / candidate):
            if folder.is_dir():
                answers = folder_answers(folder, pages, data / "pdfs", "fail", "strip")
                break
        else:
            answers = EngineCandidate(name=candidate, workers=1).answers({1: pages})
        for answer in answers:
            written[answer.page] += [attempt.transcript for attempt in answer.attempts[:1]]
    samples = [(page, written[page.id]) for page in pages if len(written[page.id]) > 1]
    if not samples:
        raise UserError(
            f"{data} has no page with {FEWEST_TESTS} tests that two of the candidates wrote; name more --candidates."
        )
    return samples


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity.ordering")
    parser.add_argument("--kinds", nargs="+", default=["notice", "nano"])
    parser.add_argument("--pages", type=int, default=128)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--backend", default="vllm", choices=("vllm", "transformers"))
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--recipes", nargs="*", default=["nano_grpo", "qwen2_5_vl_7b_grpo"])
    parser.add_argument("--groups", nargs=2, type=Path, metavar=("DATA", "GROUPS"))
    parser.add_argument("--bench", type=Path, metavar="DATA", help="pages with tests, an olmOCR-Bench folder")
    parser.add_argument("--candidates", nargs="+", default=[], help="folders of Markdown files, or names of engines")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    try:
        text = _of_bench(args) if args.bench else _of_samples(args)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(text)
    if args.out:
        write_atomically(args.out / "ordering.md", text + "\n")
    return 0


def _of_bench(args: argparse.Namespace) -> str:
    samples, measures = halves(read_candidates(args.bench, args.candidates), args.splits, args.seed)
    measured = "share of the other half's tests that pass"
    return f"## {args.bench.name}\n\n{table(samples, measures, args.recipes, measured)}"


def _of_samples(args: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as aside:
        out = args.out or Path(aside)
        sources: Mapping[str, tuple[Path, Path]] = (
            {args.groups[0].name: args.groups}
            if args.groups
            else {
                kind: of_policy(
                    kind, out, model=args.model, backend=args.backend, pages=args.pages, n=args.samples, seed=args.seed
                )
                for kind in args.kinds
            }
        )
        samples = {kind: read(*source) for kind, source in sources.items()}
    parts = [f"## {kind}\n\n{table(found, element_scores(found), args.recipes)}" for kind, found in samples.items()]
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
