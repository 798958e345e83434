"""ParseBench's rules on content: which sentences, words and digits are there, how often, and in which order.

Defined by the benchmark's own code (run-llama/ParseBench at facdaf0, Apache-2.0), written anew.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from ocr_rl.evaluate.suites.parsebench.text import (
    SHORTEST_WORD,
    Rule,
    Seen,
    Unusable,
    as_ordered,
    filled,
    is_cjk,
    sentence,
    word_parts,
)
from ocr_rl.text.distance import first_and_last

MOST_EDITS = 15  # between a text and where it stands, however long it is
SHORT = 20  # characters; a shorter sentence must stand between others' ends


# --- bags of sentences and words --------------------------------------------------------------------------------------

Bag = Mapping[str, int]


def _bag(rule: Rule, field: str, normal: Callable[[str], str]) -> Counter[str]:
    bag: Counter[str] = Counter()
    for text, times in filled(rule.get(field)).items():
        if whole := normal(text):
            bag[whole] += int(times)
    return bag


def _word(text: str) -> str:
    return next((part for part in word_parts(text) if len(part) >= SHORTEST_WORD or is_cjk(part)), "")


def _sentence_bag(rule: Rule) -> Counter[str]:
    return _bag(rule, "bag_of_sentence", sentence)


def _word_bag(rule: Rule) -> Counter[str]:
    return filled(_bag(rule, "bag_of_word", _word))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _present(bag: Bag, times: Callable[[str], int]) -> float:
    return _share(sum(min(times(text), wanted) for text, wanted in bag.items()), sum(bag.values()))


def _not_too_often(bag: Bag, times: Callable[[str], int]) -> float:
    counted = [(times(text), allowed) for text, allowed in bag.items()]
    excess = sum(max(0, n - allowed) for n, allowed in counted)
    return 1 - excess / most if (most := sum(max(pair) for pair in counted)) else 1.0


def _expected(found: Counter[str], known: Callable[[str], bool]) -> float:
    return _share(sum(times for text, times in found.items() if known(text)), found.total())


def _sentence_times(seen: Seen, text: str) -> int:
    if text not in seen.for_sentences:
        return 0
    if len(text) >= SHORT:
        return seen.for_sentences.count(text)
    return len(re.findall(rf"(?<!\w){re.escape(text)}(?!\w)", seen.for_sentences))


def _word_times(seen: Seen, word: str) -> int:
    """Of a run of letters and figures; of a word in Chinese, Japanese or Korean wherever it stands."""
    return seen.for_words.count(word) if is_cjk(word) else seen.whole_words[word]


def missing_sentences(rule: Rule, seen: Seen) -> float:
    return _present(_sentence_bag(rule), partial(_sentence_times, seen))


def unexpected_sentences(rule: Rule, seen: Seen) -> float:
    bag = _sentence_bag(rule)
    known = " ".join(bag)
    original = Seen(rule["original_md"]).for_sentences if rule.get("original_md") else ""
    return _expected(seen.sentences, lambda text: text in known or text in original)


def repeated_sentences(rule: Rule, seen: Seen) -> float:
    return _not_too_often(_sentence_bag(rule), lambda text: max(seen.sentences[text], _sentence_times(seen, text)))


def extra_sentences(rule: Rule, seen: Seen) -> float:
    bag = _sentence_bag(rule)
    known = " ".join(bag)
    return all(times <= (bag[text] or int(text in known)) for text, times in seen.sentences.items())


def missing_words(rule: Rule, seen: Seen) -> float:
    return _present(_word_bag(rule), lambda word: max(seen.words_and_cells[word], _word_times(seen, word)))


def unexpected_words(rule: Rule, seen: Seen) -> float:
    return _expected(seen.words, _word_bag(rule).__contains__)


def repeated_words(rule: Rule, seen: Seen) -> float:
    return _not_too_often(_word_bag(rule), lambda word: max(seen.words[word], _word_times(seen, word)))


def digits(rule: Rule, seen: Seen) -> float:
    return _present(filled(rule.get("bag_of_digit")), lambda digit: seen.digits[digit])


def one_sentence(rule: Rule, seen: Seen) -> float:
    return filled(sentence(filled(rule.get("sentence")))) in seen.for_sentences


def one_word(rule: Rule, seen: Seen) -> float:
    parts = filled(word_parts(filled(rule.get("word"))))
    joined = "".join(parts)
    long = [part for part in parts if len(part) >= SHORTEST_WORD]
    word = max(long or ([joined] if len(joined) >= SHORTEST_WORD else parts), key=len)
    if word in seen.words_and_cells:
        return True
    text = seen.without_apostrophes
    return word in text and (is_cjk(word) or re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None)


# --- order ------------------------------------------------------------------------------------------------------------

_ordered = lru_cache(maxsize=100_000)(as_ordered)


def order(rule: Rule, seen: Seen) -> float:
    """Whether a text begins somewhere before the last place of another; each may have one edit in twenty characters."""
    before, after = (filled(_ordered(rule.get(end) or "")) for end in ("before", "after"))
    allowed = int(rule.get("max_diffs") or 0)
    if allowed > min(len(before), len(after)) // 2:
        raise Unusable
    first = _ends(before, seen.in_order, allowed)
    last = _ends(after, seen.in_order, allowed) if first else None
    return first is not None and last is not None and first[0] < last[1]


def _ends(needle: str, text: str, allowed: int) -> tuple[int, int] | None:
    if (at := text.find(needle)) >= 0:
        return at, text.rfind(needle)
    if len(text) < len(needle) - MOST_EDITS:
        return None
    return first_and_last(needle, text, min(max(len(needle) // 20, allowed), MOST_EDITS))
