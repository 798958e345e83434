"""`ocr-rl rewards new`: the template of a package with one reward, its entry point and tests that pass.

Knows nothing about what the reward is to score.
"""

from __future__ import annotations

import keyword
import os
import re
from importlib.util import find_spec
from pathlib import Path

from ocr_rl import contract, outputs
from ocr_rl.contract import UserError
from ocr_rl.plugins import REWARDS, names

_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "{package}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["ocr-rl"]

# Under this name recipes find the reward once the package is installed.
[project.entry-points."ocr_rl.rewards"]
{name} = "{name}:{cls}"

[tool.hatch.build.targets.wheel]
only-include = ["{name}.py"]
"""

_MODULE = '''\
"""Reward: the transcript holds a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ocr_rl.contract import Page, Score, Transcript, per_transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class {cls}:
    """1 if the transcript holds `word`, else 0; no score for a page whose reference lacks it."""

    word: str = "the"

    SEES: ClassVar[frozenset[str]] = frozenset({{"empty"}})  # damage that must cost something in ocr-rl's contract test

    @per_transcript
    def __call__(self, page: Page, transcript: Transcript) -> Score:
        if page.reference is not None and self.word.lower() not in page.reference.lower():
            return Score(value=None, why=f"{{self.word!r}} is not on the page")
        present = self.word.lower() in transcript.body.lower()
        return Score(value=float(present), why=f"{{self.word!r}} is {{'present' if present else 'missing'}}")
'''

_TEST = '''\
"""What holds for every reward, and what this one is for."""

from __future__ import annotations

import pickle
from pathlib import Path

from ocr_rl.contract import Page, Transcript
from {name} import {cls}

PAGE = Page(id="0a1b2c3d:p1", pdf=Path("a.pdf"), number=1, reference="Pay the total: 7.50")


def transcript(body: str) -> Transcript:
    return Transcript(raw=body, body=body, finish="stop", num_tokens=len(body))


def test_the_true_transcript_is_at_the_maximum_and_less_is_less() -> None:
    true, poor = {cls}()(PAGE, [transcript("Pay the total: 7.50"), transcript("7.50")])
    assert true.value == 1.0
    assert poor.value == 0.0


def test_order_determinism_and_pickling() -> None:
    group = [transcript("the total"), transcript(""), transcript("\\0" * 100)]
    scores = list({cls}()(PAGE, group))
    assert list({cls}()(PAGE, group[::-1])) == scores[::-1]
    assert list(pickle.loads(pickle.dumps({cls}()))(PAGE, group)) == scores


def test_none_is_for_the_page() -> None:
    other = Page(id="0a1b2c3d:p2", pdf=Path("a.pdf"), number=2, reference="A letter")
    assert [score.value for score in {cls}()(other, [transcript("the"), transcript("")])] == [None, None]
'''

_README = """\
# {package}

A reward for [ocr-rl](https://pypi.org/project/ocr-rl/).

    pip install -e .
    python -m pytest
    ocr-rl plugins                                              # lists {name}
    ocr-rl score transcript.md --data my_pages --reward {name}  # without installing: --reward {name}.py:{cls}

In a recipe: `rewards = [{{ name = "pass_rate" }}, {{ name = "{name}", weight = 0.2, options = {{ word = "sum" }} }}]`.
`ocr-rl rewards audit` tries to cheat it before you train with it.
"""


def new_reward(name: str, folder: Path) -> str:
    """Write the package below `folder`; return what to do next. UserError for a name or a place that is taken."""
    cls = "".join(part.capitalize() for part in name.split("_"))
    if len(name) > 64 or not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise UserError(f"rewards new: {name!r} is no module name; use small letters, digits and _, as in my_reward.")
    taken = keyword.iskeyword(cls) or hasattr(contract, cls) or cls in ("ClassVar", "PAGE")  # the templates have these
    if taken or find_spec(name) is not None:
        raise UserError(f"rewards new: {name!r} has another meaning already; choose another name, as in my_{name}.")
    if name in names(REWARDS):
        raise UserError(f"rewards new: a reward {name!r} is installed already; choose another name.")
    package = name.replace("_", "-")
    root = folder / package
    if os.path.lexists(root):
        raise UserError(f"{root}: exists already; choose another name, or another folder with --out.")
    words = {"name": name, "package": package, "cls": cls}
    files = {
        "pyproject.toml": _PYPROJECT,
        f"{name}.py": _MODULE,
        f"tests/test_{name}.py": _TEST,
        "README.md": _README,
    }
    with outputs.new_folder(root) as aside:
        for path, text in files.items():
            target = aside / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.format(**words), encoding="utf-8")
    return f"{root} holds a reward and its tests: cd {root}, pip install -e ., python -m pytest"
