"""What all page tests share: common fields, their validation, fuzzy search in both readings, and words for messages.

Knows nothing about single types of tests.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from functools import lru_cache

from ocr_rl.contract import Reading, Verdict
from ocr_rl.text import distance
from ocr_rl.text.normalize import normalize
from ocr_rl.text.prepared import LONGEST, Prepared
from ocr_rl.text.visible import searchable, see_phrase

PASSED = Verdict(passed=True)
_NEEDLES = 1 << 16  # cached, because many transcripts are searched for a test's text


@lru_cache(maxsize=_NEEDLES)
def needle_of(text: str, reading: Reading = "compatible") -> str:
    """The form in which a test's text is searched. Strict: what a reader sees of it, in the one form of `canonical`."""
    if reading == "strict" and (seen := searchable(see_phrase(text))).strip():
        return seen
    return normalize(text)


def degree_of(similarity: float) -> float:
    """How nearly a text stands somewhere: 0 where it is half alike, as any two texts of a language nearly are."""
    return max(0.0, (similarity - distance.HALF) / (1.0 - distance.HALF))


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCheck:
    """The fields that every type of test has. `checked` and `url` are kept, but nothing reads them."""

    pdf: str
    page: int
    id: str
    type: str
    max_diffs: int = 0  # characters of the searched text that may differ
    checked: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        for name in ("pdf", "id"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name} must be a non-empty text, got {value!r}")
        if not isinstance(self.page, int):
            raise ValueError(f"page must be a whole number, got {self.page!r}")
        if not isinstance(self.max_diffs, int) or self.max_diffs < 0:
            raise ValueError(f"max_diffs must be a whole number of at least 0, got {self.max_diffs!r}")
        self.validate()

    def validate(self) -> None:
        """Raise ValueError if a field of this type has a value that cannot be judged."""

    @property
    def asked(self) -> int | None:
        """How many characters of the page the test asks for; None for a test of the page as a whole."""
        return None

    def run(self, prepared: Prepared, reading: Reading) -> Verdict:
        """Judge a prepared transcript."""
        if prepared.length > LONGEST:
            size = f"{prepared.length:,} characters, the limit is {LONGEST:,}"
            return Verdict(passed=False, why=f"too large to judge: {size}")
        return self.look(prepared, reading)

    def look(self, prepared: Prepared, reading: Reading) -> Verdict:
        """The verdict of this type of test, on a transcript of at most LONGEST characters."""
        raise NotImplementedError

    def to_json(self) -> dict[str, object]:
        """The JSON object from which `load_check` makes this test again. Fields at their default are left out."""
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default or field.default is MISSING
        }

    def _require_text(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, str) or not normalize(value).strip():
                raise ValueError(f"{name} must be a text that is not blank without its Markdown marks, got {value!r}")

    def _require_flag(self, *names: str) -> None:
        for name in names:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")

    def _require_number(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not isinstance(value, int):
                raise ValueError(f"{name} must be a whole number or null, got {value!r}")


@dataclass(frozen=True, slots=True)
class Hit:
    """The window that is most like the searched text, and whether it is close enough to pass."""

    passed: bool
    near: distance.Near


def find(
    needle: str, text: str, max_diffs: int, reading: Reading, *, allowance: int | None = None, locate: bool = True
) -> Hit:
    """Search `text` for a window that is the needle but for `max_diffs` of `allowance` characters.

    `allowance` is the needle's length unless it is given. The compatible reading swaps the roles if the text is the
    shorter of the two ("H" holds "Hello"), and compares in floating point, in the public benchmark's order of
    operations. Strict does neither. Without `locate` the closest window is only searched as far as it can pass.
    """
    length = allowance or len(needle)
    threshold = 1.0 - max_diffs / length
    if not needle or len(text) < len(needle):
        near = distance.closest(needle, text)
        similarity = distance.partial_similarity(needle, text)
    else:
        # The search may return windows a little below the threshold, so that its rounding decides nothing.
        close = distance.close_enough(needle, text, max(0.0, threshold - 1e-6))
        if close is None:
            return Hit(False, distance.closest(needle, text) if locate else distance.Near(0.0, 0, 0))
        near, similarity = close, close.similarity
    if reading == "strict":
        return Hit(_within(near, needle, max_diffs, length), near)
    return Hit(similarity >= threshold, near)


def _within(near: distance.Near, needle: str, max_diffs: int, length: int) -> bool:
    return distance.within(near.similarity, len(needle), near.end - near.start, max_diffs, length)


def quote(text: str, longest: int = 60) -> str:
    return repr(text if len(text) <= longest else f"{text[: longest - 1]}…")


def closest(near: distance.Near, text: str, where: str = "character") -> str:
    window = text[near.start : near.end]
    sentence = f"closest is {quote(window)} at {where} {near.start} ({near.similarity:.0%} alike)"
    return sentence if window else "nothing is half alike"
