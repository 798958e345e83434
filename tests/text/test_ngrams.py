"""BLEU and chrF are sacrebleu's, to the bit."""

from __future__ import annotations

from random import Random

import pytest

from ocr_rl.text.ngrams import sentence_bleu, sentence_chrf

PIECES = (
    *(
        "the",
        "The",
        "cat",
        "sat",
        "on",
        "mat",
        "1,234.5",
        "3-4",
        "a-\nb",
        "co-op",
        "e.g.",
        "x_1",
        "$5.00",
        "&amp;quot;",
    ),
    *(
        "&lt;b&gt;",
        "<skipped>",
        "<td>",
        "|",
        "#",
        "**",
        "naïve",
        "日本語",
        "ﬁ",
        "İ",
        "\u00a0",
        "\u2009",
        "\t",
        "\n",
        "\r\n",
    ),
    *("\x1c", ".", ",", "-", "'", '"', "&", "{", "~", "@", "/", "\U0001f600", "e\u0301", "\\frac{a}{b}", "0", "00,0"),
)


def pairs() -> list[tuple[str, str]]:
    """Random texts, and each as a policy might read it: words lost, doubled, exchanged."""
    rng = Random(0)
    drawn = [("", ""), ("", "a"), ("a", ""), (" ", "a b"), ("a b c d", "a b c d"), ("x", "y"), (".", "..")]
    for _ in range(1500):
        true = [rng.choice(PIECES) for _ in range(rng.choice((1, 2, 3, 5, 40, 200)))]
        read = [rng.choice(PIECES) if rng.random() < 0.2 else piece for piece in true if rng.random() < 0.9]
        glue = rng.choice((" ", "", "\n"))
        drawn.append((glue.join(read), glue.join(true)))
    return drawn


def test_bleu_is_sacrebleus() -> None:
    theirs = pytest.importorskip("sacrebleu.metrics.bleu", reason="sacrebleu is not installed").BLEU(
        effective_order=True
    )
    for text, reference in pairs():
        ours, wanted = sentence_bleu(text, reference), theirs.sentence_score(text, [reference])
        assert ours.score == wanted.score, (text, reference)
        assert (ours.length, ours.reference_length) == (wanted.sys_len, wanted.ref_len)
        assert (list(ours.precisions), ours.brevity) == (wanted.precisions, wanted.bp)


def test_chrf_is_sacrebleus() -> None:
    theirs = pytest.importorskip("sacrebleu.metrics.chrf", reason="sacrebleu is not installed").CHRF()
    for text, reference in pairs():
        assert sentence_chrf(text, reference) == theirs.sentence_score(text, [reference]).score, (text, reference)
