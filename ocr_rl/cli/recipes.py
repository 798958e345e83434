"""Verbs of recipes: recipes (a list), recipes show, recipes new."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from typer import Argument, Context, Option, Typer

from ocr_rl.cli.recipe_copy import with_pages
from ocr_rl.cli.refusals import leaves, require_dataset, require_new
from ocr_rl.contract import UserError
from ocr_rl.files import require_text
from ocr_rl.outputs import writing

TRAINING = "train"  # the part of a split that is trained on

app = Typer()


@app.callback(invoke_without_command=True)
def recipes(context: Context) -> None:
    """List the shipped recipes. Show one, or write one for pages of your own."""
    if context.invoked_subcommand is not None:
        return
    from ocr_rl.config import shipped_recipes

    shipped = shipped_recipes()
    width = max(map(len, shipped))
    for name, path in shipped.items():
        first_line = path.read_text(encoding="utf-8").partition("\n")[0]
        print(f"{name:<{width}}  {first_line.lstrip('# ')}")


@app.command()
def show(
    name: Annotated[str, Argument(metavar="NAME", help="a shipped recipe, as `ocr-rl recipes` lists them")],
) -> None:
    """Print a shipped recipe, to read and to copy."""
    print(_text_of(name)[0], end="")


@app.command()
def new(
    source: Annotated[str, Option("--from", metavar="NAME", help="a shipped recipe, or a TOML file")],
    pages: Annotated[
        Path,
        Option(
            metavar="DIR",
            help=f"dataset folder to train on; of a folder that `ocr-rl pages split` wrote, its part {TRAINING}, "
            "and the other parts are evaluated",
        ),
    ],
    held_out: Annotated[
        Path | None,
        Option(metavar="DIR", help="dataset folder to evaluate on (default: a split's other parts, or none)"),
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="the new recipe (default: <DIR>_<NAME>.toml, here)")
    ] = None,
) -> None:
    """Write a copy of a recipe that trains on pages of your own."""
    text, writes = _text_of(source)
    training, sets = _parts(pages)
    if not writes:
        if held_out is not None:
            raise UserError(f"--held-out: {source} writes nothing and is measured on pairs of its own: leave it out.")
        sets = {}
    if held_out is not None:
        require_dataset(held_out, "--held-out ")
        if held_out.resolve() == training.resolve():
            raise UserError(f"--held-out {held_out}: are the pages that are trained on; give others.")
        sets = {"held_out": held_out}
    target = out or Path(f"{pages.resolve().name}_{Path(source).stem}.toml")
    require_new(target)
    recipe = f"# {Path(source).stem}, on the pages of {training}.\n{with_pages(text, training, sets)}"
    _require_copy(recipe, source, training, sets)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(recipe)
    no_sets = (
        "nothing: give --held-out DIR (`ocr-rl pages split` makes one)" if writes else "pairs of some of its pages"
    )
    evaluated = ", ".join(map(str, sets.values())) or no_sets
    print(f"{target}: trains on {training}, evaluates on {evaluated}. Next: ocr-rl train {target}")


def _text_of(name: str) -> tuple[str, bool]:
    """The text of a recipe that loads, and whether what it trains writes. Raises UserError as `load_recipe` does."""
    from ocr_rl.config import load_recipe, shipped_recipes

    writes = load_recipe(name).algorithm.writes
    path = Path(name)
    return require_text(path if path.suffix or path.exists() else shipped_recipes()[name]), writes


def _parts(pages: Path) -> tuple[Path, dict[str, Path]]:
    """The training folder, and the evaluation folders by name: of a split, its parts."""
    if not (pages / "pdfs").is_dir() and (pages / TRAINING / "pdfs").is_dir():
        parts = sorted(part for part in pages.iterdir() if (part / "pdfs").is_dir())
        return pages / TRAINING, {part.name: part for part in parts if part.name != TRAINING}
    require_dataset(pages, "--pages ")

    from ocr_rl.pages.documents import SUFFIXES
    from ocr_rl.pages.tree import tree

    if not tree(pages / "pdfs", SUFFIXES, inside=pages).files:
        raise UserError(f"--pages {pages}: is no dataset, there is no PDF in {pages / 'pdfs'}.")
    return pages, {}


def _require_copy(text: str, source: str, training: Path, sets: Mapping[str, Path]) -> None:
    """UserError where the copy is no recipe that trains on `training` alone and evaluates on `sets` alone."""
    from ocr_rl.config import load_recipe

    with TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        try:
            settings = load_recipe(str(path)).model_dump(mode="json")
        except UserError:
            settings = {}
    evaluated: set[Path] = set()
    trained: set[Path] = set()
    for key, value in leaves(settings):
        if key.split(".")[-1] in ("dir", "synth") and value is not None:
            (evaluated if key.startswith("evaluation.") else trained).add(Path(value))
    if trained != {training} or evaluated != set(sets.values()):
        raise UserError(f"{source}: its pages are written in another way than `pages = {{ … }}`; copy it by hand.")
