"""Finding plug-ins by name, by file and by module, and what is said when that fails."""

import pickle
from pathlib import Path

import pytest

from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.plugins import REWARDS, installed, load, load_reward
from rewards.pass_rate import PassRate
from tests.fakes import install

PAGE = Page(id="0a1b2c3d:p1", pdf=Path("a.pdf"), number=1)
SAID = Transcript(raw="abc", body="abc", finish="stop", num_tokens=3)
MINE = '''
from dataclasses import dataclass
from ocr_rl.contract import Page, Score, Transcript, per_transcript


@dataclass(frozen=True, kw_only=True)
class Mine:
    """Length against a target."""

    target: int
    scale: float = 1.0

    def __post_init__(self):
        if self.target < 1:
            raise ValueError("target must be at least 1")

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        return Score(value=min(1.0, len(transcript.body) / self.target))


no_class = 7
'''


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return f"{path}:Mine"


def test_a_file_works_uninstalled(mine: str) -> None:
    reward = load_reward(mine, {"target": 6})
    assert [score.value for score in reward(PAGE, [SAID])] == [0.5]
    assert pickle.loads(pickle.dumps(reward)) == reward
    assert load(REWARDS, mine) is type(reward)  # imported once


def test_a_module_works() -> None:
    assert load_reward("rewards.pass_rate:PassRate", {"by": "macro"}) == PassRate(by="macro")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs the option 'target'"),
        ({"target": 3, "scael": 2}, "no option 'scael'; did you mean 'scale'"),
        ({"target": "many"}, "option 'target' of .* is wrong: .*, got 'many'"),
        ({"target": 0}, "target must be at least 1"),
    ],
)
def test_wrong_options_are_named(mine: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_reward(mine, options)


def test_wrong_choice_is_named() -> None:
    with pytest.raises(UserError, match="option 'reading' of .* is wrong: .*'strict'.*, got 'lax'"):
        load_reward("rewards.pass_rate:PassRate", {"reading": "lax"})


def test_wrong_places_are_named(mine: str, tmp_path: Path) -> None:
    file = mine.rpartition(":")[0]
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module_at_all")
    with pytest.raises(UserError, match="there is no file .*nowhere.py"):
        load_reward(f"{tmp_path}/nowhere.py:Mine")
    with pytest.raises(UserError, match="has no 'Mien'; did you mean 'Mine'"):
        load_reward(f"{file}:Mien")
    with pytest.raises(UserError, match="cannot be imported: ModuleNotFoundError"):
        load_reward(f"{broken}:Mine")
    with pytest.raises(UserError, match="module 'no_such_module' of"):
        load_reward("no_such_module:Mine")
    with pytest.raises(UserError, match="must be a frozen dataclass"):
        load_reward(f"{file}:no_class")


def test_unknown_name_suggests_a_known_one() -> None:
    with pytest.raises(UserError, match="no plug-in 'pass_rat' in the group ocr_rl.rewards"):
        load_reward("pass_rat")
    if not installed(REWARDS):
        pytest.skip("the package is not installed, so its entry points cannot be found")
    with pytest.raises(UserError, match="did you mean 'pass_rate'"):
        load_reward("pass_rat")


def test_installed_plug_ins_are_described() -> None:
    found = {info.name: info for info in installed(REWARDS)}
    if "pass_rate" not in found:
        pytest.skip("the package is not installed, so its entry points cannot be found")
    assert found["pass_rate"].options == {
        "reading": "'strict'",
        "by": "'micro'",
        "weights": "{}",
        "floors": "{}",
    }
    assert found["pass_rate"].help.startswith("Share of the page's unit tests")
    assert found["pass_rate"].version
    assert installed("ocr_rl.no_such_group") == []


FOREIGN = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

@dataclass(frozen=True)
class Checked:
    scale: Decimal | None = None
    def __call__(self, page, group):
        return []

@dataclass(frozen=True)
class Breaks:
    scale: float = 1.0
    def __post_init__(self):
        raise {error}

@dataclass(frozen=True)
class PassRate:
    \"""Somebody else's.\"""
"""


def test_a_type_that_is_imported_for_checkers_alone_is_no_reason_to_fail(tmp_path: Path) -> None:
    path = tmp_path / "foreign_checked.py"
    path.write_text(FOREIGN.format(error="None"))
    assert load_reward(f"{path}:Checked", {"scale": 2}).scale == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", ["KeyError('gone')", "ZeroDivisionError()", "SystemExit(3)", "ValueError('gone')"])
def test_a_reward_that_breaks_while_it_is_made_is_one_sentence(error: str, tmp_path: Path) -> None:
    path = tmp_path / "foreign_breaks.py"
    path.write_text(FOREIGN.format(error=error))
    with pytest.raises(UserError, match="Breaks' cannot be made with these options"):
        load_reward(f"{path}:Breaks")


def test_a_file_that_ends_the_process_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("raise SystemExit(0)")
    with pytest.raises(UserError, match="ends.py cannot be imported: SystemExit"):
        load_reward(f"{tmp_path / 'ends.py'}:Mine")


def test_a_built_in_name_stays_what_it_is_and_the_other_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign_named.py").write_text(FOREIGN.format(error="None"))
    install(tmp_path, "a-foreign", "pass_rate = foreign_named:PassRate\nmine = foreign_named:PassRate", monkeypatch)
    assert load(REWARDS, "pass_rate") is PassRate
    ours, theirs = (plugin for plugin in installed(REWARDS) if plugin.name == "pass_rate")
    assert (ours.package, theirs.package) == ("ocr-rl", "a-foreign")
    assert theirs.help == "hidden by the plug-in 'pass_rate' of ocr-rl; name it by foreign_named:PassRate"


def test_a_name_of_two_foreign_packages_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foreign_twice.py").write_text(FOREIGN.format(error="None"))
    for package in ("a-foreign", "b-foreign"):
        install(tmp_path, package, "mine = foreign_twice:PassRate", monkeypatch)
    with pytest.raises(UserError, match="'mine' is the name of several plug-ins .* name one by module:Name"):
        load(REWARDS, "mine")
    assert "another package than" in [plugin for plugin in installed(REWARDS) if plugin.name == "mine"][1].help
