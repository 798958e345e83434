"""Finding plug-ins by name, by file and by module, and what is said when that fails."""

import pickle
from pathlib import Path

import pypdfium2 as pdfium
import pytest

from ocr_rl.cli import main
from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.plugins import REWARDS, installed, load, load_reward
from ocr_rl.rewards.pass_rate import PassRate
from tests.packages import install

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
    assert load_reward("ocr_rl.rewards.pass_rate:PassRate", {"by": "macro"}) == PassRate(by="macro")


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
        load_reward("ocr_rl.rewards.pass_rate:PassRate", {"reading": "lax"})


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


UNTYPED = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from pathlib import Path

@dataclass(frozen=True)
class Mine:
    names: Path | None = None

    def __call__(self, page, group):
        return []
"""


def test_types_for_type_checkers_alone_are_asked_for_where_an_option_needs_them(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(UNTYPED)
    load_reward(f"{tmp_path}/mine.py:Mine")
    with pytest.raises(UserError, match="the types of the options of .*NameError: .*'Path'.*TYPE_CHECKING"):
        load_reward(f"{tmp_path}/mine.py:Mine", {"names": "a.txt"})


@pytest.mark.parametrize("thrown", ["KeyError('no word list')", "SystemExit(3)", "RuntimeError('two\\nlines')"])
def test_a_plug_in_that_cannot_be_made_is_one_sentence(
    thrown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(MINE.replace('ValueError("target must be at least 1")', thrown))
    rewards = f'[{{name = "{tmp_path}/mine.py:Mine", options = {{target = 0}}}}]'
    argv = ["rewards", "audit", "nano_grpo", "--data", str(dataset(tmp_path)), "--set", f"rewards={rewards}"]
    assert main(argv) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"Mine' cannot be made with these options: {thrown.partition('(')[0]}: " in said


def dataset(folder: Path) -> Path:
    (folder / "data" / "pdfs").mkdir(parents=True)
    document = pdfium.PdfDocument.new()
    document.new_page(100, 100)
    document.save(folder / "data" / "pdfs" / "a.pdf")
    (folder / "data" / "pdfs" / "a.md").write_text("A line of words.")
    return folder / "data"


def test_a_name_of_the_built_in_ones_stays_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_module.py").write_text(MINE)
    install(tmp_path, "their-rewards", {"cer": "their_module:Mine", "twice": "their_module:Mine"})
    install(tmp_path, "more-rewards", {"twice": "their_module:Mine"})
    monkeypatch.syspath_prepend(tmp_path)  # before this package, as an environment may have it
    assert type(load_reward("cer")).__module__ == "ocr_rl.rewards.error_rates"
    with pytest.raises(UserError, match="'twice' is the name of several .*their_module:Mine of more-rewards"):
        load_reward("twice", {"target": 1})
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    ours, theirs = (line for line in lines if line.startswith("  cer ("))
    assert "hidden" not in ours
    assert "of their-rewards, hidden by the built-in one: name it as their_module:Mine" in theirs
    assert sum("one of several of that name" in line for line in lines if line.startswith("  twice (")) == 2


def test_a_plug_in_that_leaves_when_it_is_imported_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)")
    install(tmp_path, "their-rewards", {"leaves": "leaves:Mine"})
    monkeypatch.syspath_prepend(tmp_path)
    for spec in ("leaves", "leaves:Mine", f"{tmp_path}/leaves.py:Mine"):
        with pytest.raises(UserError, match="cannot be (loaded|imported): SystemExit: 3"):
            load_reward(spec)
    assert main(["plugins"]) == 0
    assert "leaves (0.1.0)  plug-in 'leaves' (leaves:Mine) cannot be loaded: SystemExit: 3" in capsys.readouterr().out


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
