"""The fine print of `nano_grpo`: what it gained on a new kind of page, at what cost, against which controls.

    python -m benchmarks.policy.gains --seeds 0 1 2 --out runs/gains

For each seed: `nano_grpo` from the embedded policy (tests only, no transcripts), then on held-out pages before and
after: greedy pass rate by test type, pass rate sampled at temperature 1, character error rate, pages of the old kind,
transcripts of a blank page, transcripts judged by another page's tests; and the control: as many seconds of more SFT,
its last lesson on other pages. Prints Markdown and writes gains.json. No figure is left out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.policy.reading import of_types
from ocr_rl.config import Grpo, Recipe, Sft, load_recipe
from ocr_rl.contract import Page, Transcript
from ocr_rl.evaluate.figures import compare, summary
from ocr_rl.evaluate.results import PageResult, judge_page, read_rows
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.learn.optimizers import rate_factor
from ocr_rl.models.load import model_folder
from ocr_rl.pages.source import open_pages
from ocr_rl.pages.synth.looks import image_pdf
from ocr_rl.policy import OpenPolicy, open_policy
from ocr_rl.run import by_step, environment, write_atomically
from ocr_rl.train import evaluate_policy, train

READING_TESTS = ("present", "order", "table", "math", "format")  # an empty transcript passes none of these


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/gains"))
    parser.add_argument("--controls", type=int, nargs="*", help="seeds that get the SFT control; all unless given")
    parser.add_argument("--recipe", default="nano_grpo")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    results = []
    for seed in args.seeds:
        path = args.out / f"seed{seed}.json"
        if not path.exists():
            recipe = load_recipe(args.recipe, [*args.set, f"seed={seed}"])
            controlled = args.controls is None or seed in args.controls
            found = one_seed(recipe, args.out / f"seed{seed}", controlled=controlled)
            write_atomically(path, json.dumps(found, indent=1))
        results.append(json.loads(path.read_text(encoding="utf-8")))
    write_atomically(args.out / "gains.json", json.dumps({"env": environment(), "seeds": results}, indent=1))
    print(table(results))


def one_seed(recipe: Recipe, out: Path, *, controlled: bool) -> dict[str, Any]:
    """Train and measure; everything below `out`, gone on from where it was after a kill."""
    assert isinstance(recipe.algorithm, Grpo)
    assert recipe.evaluation is not None
    started = time.perf_counter()
    trained = train(recipe, out / "grpo", go_on=(out / "grpo" / "config.json").exists())
    seconds = time.perf_counter() - started
    steps_s = sum(row["update_s"] + row["rollout_s"] + row["annotate_s"] for row in _metrics(out / "grpo"))
    sets = {name: open_pages(source, out / "grpo" / "pages") for name, source in recipe.evaluation.sets.items()}
    control = greedy(str(more_sft(recipe, out / "sft", steps_s)), sets, recipe) if controlled else {}
    before, after = _rows(out / "grpo", 0), _rows(out / "grpo", -1)
    start = recipe.policy.path or ""
    return {
        "seed": recipe.seed,
        "seconds": seconds,
        "training_s": steps_s,
        "greedy": {name: _comparison(before[name], after[name]) for name in sets},
        "before": extras(start, sets, before, out / "blank"),
        "after": extras(str(trained), sets, after, out / "blank"),
        "control": {name: _comparison(before[name], rows) for name, rows in control.items()},
    }


def more_sft(recipe: Recipe, out: Path, seconds: float) -> Path:
    """The same seconds of SFT, its last lesson on other pages of that kind, at the rate that its recipe ends with."""
    sft = load_recipe("nano_sft")
    lessons = sft.algorithm
    assert isinstance(lessons, Sft)
    stage, steps = lessons.stages[-1], lessons.total_steps
    rate = sft.optim.lr * rate_factor(steps, steps, sft.optim)
    optim = sft.optim.model_copy(update={"schedule": (), "lr": rate, "adam_lr": rate})
    probe_steps = 12

    def run(steps: int, folder: Path) -> Path:
        stages = (
            stage.model_copy(update={"steps": steps, "pages": stage.pages.model_copy(update={"n": 4000, "seed": 77})}),
        )
        return train(
            sft.model_copy(
                update={
                    "policy": sft.policy.model_copy(update={"fresh": None, "path": recipe.policy.path}),
                    "algorithm": lessons.model_copy(update={"stages": stages}),
                    "optim": optim,
                    "evaluation": None,
                    "seed": recipe.seed,
                    "save_every": steps,
                }
            ),
            folder,
            go_on=(folder / "config.json").exists(),
        )

    run(probe_steps, out / "probe")
    rows = _metrics(out / "probe")[2:]
    pace = sum(row["update_s"] + row["pages_s"] for row in rows) / len(rows)
    return run(max(1, round(seconds / pace)), out / "run")


def greedy(model: str, sets: Mapping[str, Sequence[Page]], recipe: Recipe) -> dict[str, list[PageResult]]:
    assert recipe.evaluation is not None
    with open_policy(model) as policy:
        return {
            name: evaluate_policy(policy.sampler, policy.prompter, pages, max_tokens=recipe.evaluation.max_tokens)
            for name, pages in sets.items()
        }


def extras(
    model: str, sets: Mapping[str, Sequence[Page]], rows: Mapping[str, Sequence[PageResult]], folder: Path
) -> dict[str, float]:
    """Pass rate sampled at temperature 1, and of reading tests with a blank and with another page's image."""
    new = next(iter(sets))
    with open_policy(model_folder(model)) as policy:
        sampled = evaluate_policy(
            policy.sampler, policy.prompter, sets[new], max_tokens=policy.settings.max_tokens, temperature=1.0, seed=5
        )
        blank = _blank_transcript(policy, folder)
    return {
        "sampled": summary(sampled).metrics["pass_rate"].mean,
        "blank": _reading_rate([judge_page(page, blank, "strict") for page in sets[new]]),
        "other": _reading_rate(
            [
                judge_page(page, _as_transcript(rows[new][(i + 1) % len(rows[new])]), "strict")
                for i, page in enumerate(sets[new])
            ]
        ),
        "own": _reading_rate(rows[new]),
    }


def _blank_transcript(policy: OpenPolicy, folder: Path) -> Transcript:
    folder.mkdir(parents=True, exist_ok=True)
    pdf = folder / "blank.pdf"
    pdf.write_bytes(image_pdf([Image.new("RGB", (560, 448), "white")], 144))
    page = Page(id="blank:p1", pdf=pdf, number=1)
    asked = [(page, policy.prompter.prompt(page))]
    from ocr_rl.rollout.sampler.base import Sampling

    return next(iter(policy.sampler.sample(asked, Sampling(temperature=0, max_tokens=320)))).samples[0].transcript()


def _as_transcript(row: PageResult) -> Transcript:
    return Transcript(raw=row.text, body=row.text, finish=row.finish, num_tokens=row.num_tokens)


def _reading_rate(rows: Sequence[PageResult]) -> float:
    """Share of present, order and table tests that pass: those that an empty transcript cannot meet."""
    return summary([of_types(row, READING_TESTS) for row in rows]).metrics["tests"].mean


def _comparison(before: Sequence[PageResult], after: Sequence[PageResult]) -> dict[str, Any]:
    old, new, difference = summary(before), summary(after), compare(before, after)
    figures = {
        name: (old.metrics[name].mean, new.metrics[name].mean, change) for name, change in difference.metrics.items()
    }
    types = {
        f"test {name}": (old.by_type[name].mean, new.by_type[name].mean, c) for name, c in difference.by_type.items()
    }
    return {
        name: {"before": b, "after": a, "low": c.difference.low, "high": c.difference.high, "p": c.p}
        for name, (b, a, c) in (figures | types).items()
    }


def _rows(run: Path, which: int) -> dict[str, list[PageResult]]:
    folder = list(by_step(run / "eval").values())[which]
    return {path.stem: read_rows(path) for path in folder.glob("*.jsonl")}


def _metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def table(results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for found in results:
        for kind, figures in found["greedy"].items():
            rows += [_line(found["seed"], f"{kind} pages, {name}", value) for name, value in figures.items()]
        for name in ("sampled", "own", "blank", "other"):
            pair = (found["before"][name], found["after"][name])
            rows.append([str(found["seed"]), f"new pages, {name}", *(f"{value:.1%}" for value in pair), ""])
        for kind, figures in found["control"].items():
            rows.append(
                _line(found["seed"], f"control (SFT, same seconds), {kind} pages, pass_rate", figures["pass_rate"])
            )
    return to_markdown_table(["seed", "figure", "before", "after", "difference, 95 %"], rows)


def _line(seed: int, name: str, value: Mapping[str, float]) -> list[str]:
    unit = (lambda x: f"{x:.1f}") if "num_tokens" in name else (lambda x: f"{x:.1%}")
    return [
        str(seed),
        name,
        unit(value["before"]),
        unit(value["after"]),
        f"{unit(value['after'] - value['before'])} [{unit(value['low'])}, {unit(value['high'])}]",
    ]


if __name__ == "__main__":
    main()
