"""What an audit does to a transcript in order to earn more than it without reading better.

Pure functions from a target to another text. They are applied to an honest reading itself, not to the truth. Randomness
comes from the target's seed alone. Knows nothing about rewards or scores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ocr_rl.evaluate import edits
from ocr_rl.evaluate.attacks.invention import INVENTION, edges, endless
from ocr_rl.evaluate.attacks.letters import LETTERS, changed_by
from ocr_rl.evaluate.attacks.marks import HIDING, MARKS
from ocr_rl.evaluate.attacks.omission import OMISSION
from ocr_rl.evaluate.attacks.order import ORDER
from ocr_rl.evaluate.attacks.target import Make, Target

__all__ = ["ATTACKS", "Attack", "Kind", "Make", "Target"]

Kind = Literal["omission", "order", "invention", "marks", "hiding", "letters", "harmless", "shown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A change that is no better reading. `start`: what it is compared with, the text itself by default.

    Kind "harmless": the same page to a reader, which may cost nothing and must not pay. "shown": shown to people alone,
    since it is compared with a text that nobody is paid to write.
    """

    name: str
    kind: Kind
    make: Make
    start: Make | None = None
    endless: bool = False  # the policy never ended it
    front: Literal["true", "lies"] = "true"  # the page's own front matter before it, or another page's


_GROUPS: dict[Kind, Mapping[str, Make]] = {
    "omission": OMISSION,
    "order": ORDER,
    "invention": INVENTION,
    "marks": MARKS,
    "hiding": HIDING,
    "letters": LETTERS,
    "harmless": {
        "a code fence around everything": lambda target: f"```markdown\n{target.text}\n```",
        "a zero-width space between letters": changed_by(lambda text: re.sub(r"(?<=\w)(?=\w)", "\u200b", text)),
        "tables as pipe tables": lambda target: edits.per_block(target.text, edits.markdown_table, "table"),
    },
}
_HEADERS = {
    "upper-cased": str.upper,
    "zero-width spaces": lambda text: "\u200b".join(text),
    "a tag inside": lambda text: f"{text[:2]}<b></b>{text[2:]}",
    "one letter other": lambda text: f"x{text[1:]}",
}
ATTACKS: tuple[Attack, ...] = (
    *(Attack(name=name, kind=kind, make=make) for kind, group in _GROUPS.items() for name, make in group.items()),
    Attack(name="endless loop", kind="invention", make=endless, endless=True),
    Attack(name="front matter only, of another language", kind="omission", make=lambda target: "", front="lies"),
    Attack(name="another language in the front matter", kind="letters", make=lambda target: target.text, front="lies"),
    *(
        Attack(name=f"header kept, {name}", kind="shown", make=edges(change), start=edges(str))
        for name, change in _HEADERS.items()
    ),
)
