"""Attacks that add to the page: another reading, another page, junk, marks, chatter."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ocr_rl.evaluate import edits
from ocr_rl.evaluate.attacks.target import Make, Target
from ocr_rl.evaluate.damage import CELL, TAG, gibberish
from ocr_rl.evaluate.edits import TABLE, joined, of_kind, per_block

_SPAM = ("$x^{%d} + y_{%d} = z$", "\\[ \\sum_{i=1}^{%d} a_i = %d \\]", "\\( \\alpha_{%d} \\le \\beta_{%d} \\)")


def _with_sentences(share: float) -> Make:
    """Another page's sentences behind the text, up to that share of its length."""

    def with_sentences(target: Target) -> str | None:
        most = round(share * len(TAG.sub("", target.text)))
        added = " ".join(edits.sentences(target.other))[:most].rsplit(" ", 1)[0]
        return f"{target.text}\n\n{added}" if added.strip() else None

    return with_sentences


def _symbols(count: int) -> Make:
    return lambda target: " ".join(target.rng().choices(edits.SYMBOLS, k=count)) + "\n\n" + target.text


def _hedged(share: float) -> Make:
    """Lines written twice, in two readings: that share of them."""

    def hedged(target: Target) -> str | None:
        ours, theirs = target.text.splitlines(), target.second.splitlines()
        if len(ours) != len(theirs):
            return None
        twice = [i for i, line in enumerate(ours) if line.strip() and not line.lstrip().startswith("<")]
        chosen = set(target.rng().sample(twice, round(share * len(twice))))
        return "\n".join(f"{line}\n\n{theirs[i]}" if i in chosen else line for i, line in enumerate(ours))

    return hedged


def _line_hedged(target: Target) -> str | None:
    """One line written twice, in two readings: little enough for any slack."""
    ours, theirs = target.text.splitlines(), target.second.splitlines()
    differ = [i for i in range(min(len(ours), len(theirs))) if ours[i] != theirs[i]]
    if len(ours) != len(theirs) or not differ:
        return None
    i = min(differ, key=lambda k: len(ours[k]))
    return "\n".join([*ours[: i + 1], *(["", theirs[i], ""] if "<" not in theirs[i] else [theirs[i]]), *ours[i + 1 :]])


def _words_hedged(target: Target) -> str | None:
    """Every word that the two readings have otherwise in both ways, parted by a slash."""
    ours, theirs = target.text.split(" "), target.second.split(" ")
    if len(ours) != len(theirs):
        return None
    pairs = zip(ours, theirs, strict=True)
    return " ".join(a if a == b or "<" in a or "\n" in a else f"{a} / {b}" for a, b in pairs)


def _cells_hedged(target: Target) -> str | None:
    """Every cell that the two readings have otherwise in both ways."""
    theirs = iter(CELL.findall(target.second))

    def both(cell: re.Match[str]) -> str:
        other = next(theirs, cell[0])
        return cell[0] if other == cell[0] else f"{cell[0]} {other}"

    return CELL.sub(both, target.text)


def _tables_hedged(target: Target) -> str | None:
    """Every table twice, in two readings."""
    ours, theirs = of_kind(target.text, "table"), of_kind(target.second, "table")
    if not ours or len(ours) != len(theirs):
        return None
    text = target.text
    for table, again in zip(ours, theirs, strict=True):
        text = text.replace(table, f"{table}\n\n{again}", 1)
    return text


def _formulas_hedged(target: Target) -> str | None:
    ours, theirs = of_kind(target.text, "formula"), of_kind(target.second, "formula")
    if not ours or len(ours) != len(theirs):
        return None
    return target.text + "\n\n" + joined(theirs)


def _equation_spam(target: Target) -> str | None:
    spam = [_SPAM[k % len(_SPAM)] % (k, k + 1) for k in range(max(10, len(target.text) // 40))]
    return target.text + "\n\n" + "\n".join(spam)


def _table_five_times(target: Target) -> str | None:
    table = TABLE.search(target.text)
    return target.text + ("\n\n" + table[0]) * 4 if table else None


def _with_junk(target: Target) -> str | None:
    return target.text + "\n\n" + gibberish(max(60, len(target.text) // 2), target.rng())


def endless(target: Target) -> str | None:
    last = target.text.split()[-1]
    return target.text + f" {last}" * max(40, 2 * len(target.text) // (len(last) + 1))


def _notes(target: Target) -> str | None:
    return per_block(target.text, lambda block: re.sub(r"(?<=\w)([,.;:])(?=\s|$)", r"\1[^1][^2][^3]", block), "text")


def _sup_notes(target: Target) -> str | None:
    marks = "".join(f"<sup>{n}</sup>" for n in range(1, 10))
    return per_block(target.text, lambda block: re.sub(r"(?<=\w)([,.;:])(?=\s|$)", rf"\1{marks}", block), "text")


def _two_notations(target: Target) -> str | None:
    return per_block(target.text, lambda block: f"{block}\n\n{edits.markdown_table(block)}", "table")


def _cells_as_text(target: Target) -> str | None:
    """Tables followed by their cells as running text."""
    return per_block(target.text, lambda block: f"{block}\n\n{edits.as_lines(block)}", "table")


def edges(change: Callable[[str], str]) -> Make:
    """Running header and footer kept, each changed."""

    def kept(target: Target) -> str | None:
        shown = [change(edge) for edge in target.edges]
        return joined([*shown[:1], target.text, *shown[1:]]) if shown else None

    return kept


INVENTION: Mapping[str, Make] = {
    "page twice": lambda target: f"{target.text}\n\n{target.text}",
    "both readings": lambda target: f"{target.text}\n\n{target.second}",
    "a quarter of the lines in two readings": _hedged(0.25),
    "every line in two readings": _hedged(1.0),
    "a short line in two readings": _line_hedged,
    "words in two readings": _words_hedged,
    "cells in two readings": _cells_hedged,
    "tables in two readings": _tables_hedged,
    "formulas in two readings": _formulas_hedged,
    "tables in two notations": _two_notations,
    "cells again as text": _cells_as_text,
    "another page's sentences, 2 %": _with_sentences(0.02),
    "another page's sentences, 10 %": _with_sentences(0.1),
    "another page's sentences, 25 %": _with_sentences(0.25),
    "another page's sentences, 50 %": _with_sentences(0.5),
    "junk added": _with_junk,
    "50 symbols in front": _symbols(50),
    "4,000 symbols in front": _symbols(4000),
    "equation spam": _equation_spam,
    "table five times": _table_five_times,
    "footnote marks after each clause": _notes,
    "superscripts after each clause": _sup_notes,
    "lead-in": lambda target: f"Here is the transcription:\n\n{target.text}",
    "closing words": lambda target: f"{target.text}\n\nLet me know if you need anything else!",
    "header and footer kept": edges(str),
}
