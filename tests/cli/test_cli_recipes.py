"""Shipped recipes are listed, shown, and copied for somebody's own pages."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.cli.recipe_copy import with_pages
from ocr_rl.cli.refusals import leaves
from ocr_rl.config import load_recipe, shipped_recipes

WRITING = [name for name in shipped_recipes() if load_recipe(name).algorithm.writes]


@pytest.fixture
def here(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with datasets my_pages, other and parts/{train,test,validation}."""
    for name in ("my_pages", "other", "parts/train", "parts/test", "parts/validation"):
        shutil.copytree(dataset, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sources(recipe: str) -> tuple[set[str], dict[str, str]]:
    """Training folders, and evaluation folders by set, of a recipe that loads."""
    training: set[str] = set()
    evaluated: dict[str, str] = {}
    for key, value in leaves(load_recipe(recipe).model_dump(mode="json")):
        if key.endswith((".dir", ".synth")) and value is not None:
            if key.startswith("evaluation.sets."):
                evaluated[key.split(".")[2]] = value
            else:
                training.add(value)
    return training, evaluated


def test_the_list_has_a_line_for_each_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_recipes())
    assert all(len(line.split()) > 5 and "#" not in line for line in lines)


@pytest.mark.parametrize("name", shipped_recipes())
def test_show_prints_the_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "show", name]) == 0
    assert capsys.readouterr().out == shipped_recipes()[name].read_text(encoding="utf-8")


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_copy_trains_on_the_folder_and_evaluates_on_nothing_typeset(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", "new", "--from", name, "--pages", "my_pages"]) == 0
    copy = f"my_pages_{name}.toml"
    sentence = capsys.readouterr().out
    on = "nothing: give --held-out DIR" if name in WRITING else "pairs of some of its pages"
    assert sentence.startswith(f"{copy}: trains on my_pages, evaluates on {on}")
    assert sources(copy) == ({"my_pages"}, {})
    comments = [line for line in shipped_recipes()[name].read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    assert [line for line in (here / copy).read_text(encoding="utf-8").splitlines() if line in comments] == comments


def test_what_writes_nothing_has_no_held_out_pages(here: Path, refused: Callable[..., str]) -> None:
    argv = ["recipes", "new", "--from", "nano_reward_model", "--pages", "my_pages", "--out", "mine.toml"]
    assert "writes nothing and is measured on pairs of its own" in refused(*argv, "--held-out", "other")
    assert main(argv) == 0 and load_recipe("mine.toml").evaluation is None


@pytest.mark.parametrize("name", WRITING)
def test_held_out_pages_take_the_place_of_every_set(name: str, here: Path) -> None:
    argv = ["recipes", "new", "--from", name, "--pages", "my_pages", "--held-out", "other", "--out", "new/mine.toml"]
    assert main(argv) == 0
    assert sources("new/mine.toml") == ({"my_pages"}, {"held_out": "other"})
    told, shipped = (load_recipe(recipe).evaluation for recipe in ("new/mine.toml", name))
    assert told is not None and shipped is not None
    assert (told.every, told.max_tokens) == (shipped.every, shipped.max_tokens)


def test_of_a_split_one_part_trains_and_the_others_are_evaluated(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", "new", "--from", "nano_grpo", "--pages", "parts", "--out", "mine.toml"]) == 0
    assert "trains on parts/train, evaluates on parts/test, parts/validation." in capsys.readouterr().out
    assert sources("mine.toml") == ({"parts/train"}, {"test": "parts/test", "validation": "parts/validation"})


def test_a_recipe_of_ones_own_is_copied_too_and_nothing_is_written_over(
    here: Path, refused: Callable[..., str]
) -> None:
    argv = ["recipes", "new", "--from", "nano_grpo", "--pages", "my_pages", "--out", "mine.toml"]
    assert main(argv) == 0
    before = (here / "mine.toml").read_bytes()
    assert "mine.toml: is there already" in refused(*argv)
    assert (here / "mine.toml").read_bytes() == before
    assert main(["recipes", "new", "--from", "mine.toml", "--pages", "other", "--out", "theirs.toml"]) == 0
    assert sources("theirs.toml") == ({"other"}, {})


def test_a_name_that_toml_must_escape(here: Path) -> None:
    (here / "other").rename(here / 'my "own" pages, é')
    assert main(["recipes", "new", "--from", "nano_dpo", "--pages", 'my "own" pages, é', "--out", "mine.toml"]) == 0
    assert sources("mine.toml") == ({'my "own" pages, é'}, {})


def test_pages_as_a_table_are_found_and_other_lines_stay() -> None:
    text = """\
# mine
seed = 1
[grpo]
steps = 3 # pages = { synth = "x" }
[grpo.pages] # a table
# of pages
synth = "notice"
n = 8

[[rewards]]
name = "pass_rate"
[evaluation]
every = 2 # often
sets.a = { synth = "nano" }
[evaluation.sets.b]
synth = "nano"
[scoring]
workers = 1
"""
    assert (
        with_pages(text, Path("p"), {"held_out": Path("h")})
        == """\
# mine
seed = 1
[grpo]
steps = 3 # pages = { synth = "x" }
[grpo.pages] # a table
dir = "p"
# of pages

[[rewards]]
name = "pass_rate"
[evaluation]
sets.held_out = { dir = "h" }
every = 2 # often
[scoring]
workers = 1
"""
    )
    assert "evaluation" not in with_pages(text, Path("p"), {})
    assert with_pages("seed = 1\n", Path("p"), {"a": Path("h")}).endswith('[evaluation]\nsets.a = { dir = "h" }\n')


@pytest.mark.parametrize(
    ("start", "instead"),
    [
        ("pages = ", 'pages.synth = "notice"'),
        ("seed = ", 'seed = 0\nevaluation = { sets.a = { synth = "nano" } }'),
    ],
)
def test_pages_written_in_another_way_are_refused(
    start: str, instead: str, here: Path, refused: Callable[..., str]
) -> None:
    text = shipped_recipes()["nano_grpo"].read_text(encoding="utf-8")
    if start == "seed = ":
        text = text[: text.index("[evaluation]")]
    line = next(line for line in text.splitlines() if line.startswith(start))
    (here / "odd.toml").write_text(text.replace(line, instead, 1), encoding="utf-8")
    argv = ["recipes", "new", "--from", "odd.toml", "--pages", "my_pages", "--out", "mine.toml"]
    assert "its pages are written in another way" in refused(*argv)
    assert not (here / "mine.toml").exists()
