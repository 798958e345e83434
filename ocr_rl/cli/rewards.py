"""Verbs of rewards: score, rewards audit, rewards new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from ocr_rl.cli.options import NEW_FOLDER, RecipeName, Seed, Settings, whole
from ocr_rl.cli.refusals import require_dataset, require_file, require_inputs, require_place, require_plugin

score_app = Typer()
app = Typer(help="Write a reward, try to cheat rewards.")


@score_app.command()
def score(
    file: Annotated[Path, Argument(metavar="FILE", help="name_pg2.md, or a run's groups/*.jsonl or faults/*.jsonl")],
    data: Annotated[Path, Option(help="dataset folder that the page is in")],
    page: Annotated[
        str | None, Option(help="PDF and page, as in invoice.pdf:2, or a page's id (default: by the file's name)")
    ] = None,
    reward: Annotated[
        list[str] | None, Option(help="a plug-in or my_file.py:MyReward; repeat it for more (default: all that apply)")
    ] = None,
) -> None:
    """Score a Markdown transcript of a page, or saved groups."""
    require_file(file)
    require_dataset(data)
    for spec in reward or []:
        require_plugin("ocr_rl.rewards", spec)

    from ocr_rl.evaluate.score import score_file

    for line in score_file(file, data, reward, page=page):
        print(line)


@app.command()
def audit(
    recipe: RecipeName,
    data: Annotated[Path, Option(help="dataset folder; its references make the attacks")],
    samples: Annotated[
        Path | None, Option(help="a run directory or groups/*.jsonl file: real transcripts (default: none)")
    ] = None,
    settings: Settings = None,
    pages: Annotated[int, whole("how many pages are attacked", 1)] = 40,
    search: Annotated[int, whole("texts a page that an attacker composes and tries, as in 2000 (0: none)", 0)] = 0,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        Option(help="folder for audit.md and audit.json, written over if they are its own (default: print alone)"),
    ] = None,
) -> int:
    """Attack a recipe's rewards. Exit code 1 if an attack makes an honest reading earn more."""
    from ocr_rl.config import load_recipe

    loaded = load_recipe(recipe, settings)
    require_dataset(data)
    if samples is not None:
        require_file(samples)
    require_inputs({"rewards": [choice.model_dump() for choice in loaded.rewards]})
    if out is not None:
        require_place(out)

    from ocr_rl.evaluate.audit_report import audit_recipe

    text, holds = audit_recipe(loaded, data, samples, out, n=pages, seed=seed, evaluations=search)
    print(text)
    return 0 if holds else 1


@app.command(epilog=NEW_FOLDER)
def new(
    name: Annotated[str, Argument(metavar="NAME", help="of the reward, as in my_reward")],
    out: Annotated[Path, Option(help="folder to write the package in (default: here)", show_default=False)] = Path(),
) -> None:
    """Write a small package with a reward and a test that passes."""
    require_place(out)

    from ocr_rl.evaluate.reward_template import new_reward

    print(new_reward(name, out))
