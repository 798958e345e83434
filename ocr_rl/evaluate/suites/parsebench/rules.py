"""ParseBench's rules by type: a score in [0, 1] of a rule and a transcript."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from ocr_rl.evaluate.suites.parsebench import content, formatting
from ocr_rl.evaluate.suites.parsebench.charts import data_point
from ocr_rl.evaluate.suites.parsebench.text import Rule, Seen, Unusable


def score(rule: Rule, seen: Seen) -> float:
    """Of a rule whose type is in RULES. An empty transcript fails every rule."""
    if not seen.text:
        return 0.0
    try:
        return float(RULES[rule["type"]](rule, seen))
    except Unusable:
        return 0.0


RULES: Mapping[str, Callable[[Rule, Seen], float]] = {
    "missing_sentence_percent": content.missing_sentences,
    "unexpected_sentence_percent": content.unexpected_sentences,
    "too_many_sentence_occurence_percent": content.repeated_sentences,
    "extra_content": content.extra_sentences,
    "missing_word_percent": content.missing_words,
    "unexpected_word_percent": content.unexpected_words,
    "too_many_word_occurence_percent": content.repeated_words,
    "bag_of_digit_percent": content.digits,
    "missing_specific_sentence": content.one_sentence,
    "missing_specific_word": content.one_word,
    "order": content.order,
    "is_title": formatting.title,
    "title_hierarchy_percent": formatting.title_hierarchy,
    "is_latex": formatting.latex,
    "is_code_block": formatting.code_block,
    "is_header": partial(formatting.in_section, "page_header"),
    "is_footer": partial(formatting.in_section, "page_footer"),
    "chart_data_point": data_point,
    **{f"is_{style}": partial(formatting.styled, style, True) for style in formatting.STYLES},
    **{f"is_not_{style}": partial(formatting.styled, style, False) for style in formatting.STYLES},
}
