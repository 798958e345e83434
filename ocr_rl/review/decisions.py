"""What a person decided of tests, in a journal to which each decision is appended at once, and the tests that follow.

A decision counts for the test as it was when the decision was taken: of a test that was changed since, it says nothing.
The last decision of a test counts. Knows nothing about browsers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ocr_rl.contract import UserError
from ocr_rl.files import Unreadable, is_utf8, object_of
from ocr_rl.local_web import Wrong
from ocr_rl.text.checks import load_check

What = Literal["keep", "drop", "edit", "open"]  # open: taken back
Fields = Mapping[str, Any]
_PLACE = ("id", "pdf", "page")
_BEGIN = b'{"what": '  # of every line


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    what: What
    was: Fields  # the test that was decided of
    test: Fields | None = None  # what an edit makes of it

    @property
    def id(self) -> str:
        return self.was["id"]


def read_decisions(path: Path) -> dict[str, Decision]:
    """The last decision of each test, by its id; nothing where there is no journal yet.

    A last line that a kill cut through is left out. UserError for a line that is no decision, so that a file of
    somebody's that is given by mistake is neither read nor written on.
    """
    if not path.exists():
        return {}
    *lines, cut = path.read_bytes().split(b"\n")
    if not (cut.startswith(_BEGIN) or _BEGIN.startswith(cut)):
        lines.append(cut)
    decisions: dict[str, Decision] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            test = None if row.get("test") is None else dict(row["test"])
            decision = Decision(what=row["what"], was=dict(row["was"]), test=test)
            if decision.what not in get_args(What) or (decision.test is None) == (decision.what == "edit"):
                raise ValueError(decision.what)
            decisions[decision.id] = decision
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise UserError(f"{path}:{number}: is no decision of a review; give another --journal.") from None
    return decisions


def note(path: Path, decision: Decision) -> None:
    """Append a decision to a journal that `read_decisions` takes. Raises OSError."""
    row = {"what": decision.what, "was": dict(decision.was)}
    line = json.dumps(row if decision.test is None else {**row, "test": dict(decision.test)}).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if (before := path.read_bytes()) and not before.endswith(b"\n"):
            file.truncate(before.rfind(b"\n") + 1)  # what a kill left of a line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def standing(decisions: Mapping[str, Decision], test: Fields) -> Decision | None:
    """What was decided of this very test, or led to it, if that still stands."""
    decision = decisions.get(test["id"])
    if decision is None or decision.what == "open" or test not in (decision.was, decision.test):
        return None
    return decision


def reviewed(tests: Iterable[Fields], decisions: Mapping[str, Decision]) -> Iterator[Fields]:
    """The tests that are left: those that are kept or not decided of, and what edits made of others."""
    for test in tests:
        decision = standing(decisions, test)
        if decision is None or decision.what == "keep":
            yield test
        elif decision.test is not None:
            yield decision.test


def edited(text: str, was: Fields) -> Fields:
    """The test that a person wrote as JSON, of the same page and under the same id. Raises Wrong with one sentence."""
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise Wrong(f"This is not JSON ({error.msg}, line {error.lineno}, column {error.colno}).") from None
    except (ValueError, RecursionError):
        raise Wrong("This is not JSON that anybody would write.") from None
    if not isinstance(fields, dict) or not is_utf8(json.dumps(fields, ensure_ascii=False)):
        raise Wrong("A test is a JSON object, as in {…}, without halves of characters.")
    if moved := next((name for name in _PLACE if repr(fields.get(name)) != repr(was[name])), None):  # True == 1
        raise Wrong(f"{moved!r} must stay {was[moved]!r}: drop the test instead.")
    try:
        load_check(object_of(json.dumps(fields, ensure_ascii=False)))  # as the dataset will be read
    except Unreadable as flaw:
        raise Wrong(f"A dataset cannot hold this test: {flaw}.") from None
    except ValueError as error:
        raise Wrong(f"{error}.") from None
    except TypeError:
        raise Wrong("A field of the test has a value of the wrong kind.") from None
    return fields
