"""The verb that says what a step would cost on other cards: plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option, Typer

from ocr_rl.cli.options import RecipeName, whole
from ocr_rl.cli.refusals import require_model

app = Typer()


@app.command()
def plan(
    recipe: RecipeName,
    gpus: Annotated[int, whole("cards of a node", 1, 1024)] = 1,
    nodes: Annotated[int, whole("nodes", 1, 1024)] = 1,
    split: Annotated[
        str | None,
        Option(metavar="L+E", help="cards that learn and cards with an engine, of a node or in all (default: several)"),
    ] = None,
    ahead: Annotated[int, whole("rollouts sampled while the learner updates", 0, 1)] = 0,
    measured: Annotated[
        list[Path] | None,
        Option(metavar="PATH", help="a run of this policy on such a machine, or results of make gpu; may be repeated"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="NAME=VALUE",
            help="a measured part, as in decode_step_s=0.012 (docs/scale.md), or a setting of the recipe",
        ),
    ] = None,
    card_memory: Annotated[
        float | None, Option(min=1.0, max=4096.0, metavar="GIB", help="memory of a card (default: this machine's GPU)")
    ] = None,
    json: Annotated[bool, Option("--json", help="print it as JSON")] = False,
) -> None:
    """What a step would take on other cards. Stage by stage, from measured parts; memory, and what to change."""
    from ocr_rl.config import load_recipe
    from ocr_rl.scale.parts import given_figures

    given, overrides = given_figures(settings or [])
    loaded = load_recipe(recipe, overrides)
    if loaded.policy.path is not None:
        require_model(loaded.policy.path, "policy.path: ")

    from ocr_rl.scale.plan import Question, answer
    from ocr_rl.scale.sheet import to_json, to_text

    sheet = answer(
        Question(
            name=Path(recipe).stem,
            recipe=loaded,
            gpus=gpus,
            nodes=nodes,
            split=split,
            ahead=bool(ahead),
            measured=measured or (),
            given=given,
            card_gib=card_memory,
        )
    )
    if json:
        from json import dumps

        print(dumps(to_json(sheet), indent=1))
    else:
        print(to_text(sheet))
