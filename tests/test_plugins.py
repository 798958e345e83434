"""Finding plug-ins by name, by file and by module, and what is said when that fails."""

import pickle
from pathlib import Path

import pytest

from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.plugins import REWARDS, installed, load, load_reward
from rewards.pass_rate import PassRate

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
