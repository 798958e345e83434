"""What the rewards say of texts small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from ocr_rl.contract import Page, Reward, Transcript, UserError
from ocr_rl.plugins import load_reward
from ocr_rl.rewards.chrf import Chrf
from ocr_rl.rewards.distinct import repeats
from ocr_rl.rewards.element_count import ElementCount
from ocr_rl.rewards.error_rates import Cer, Wer
from ocr_rl.rewards.formulas import Formulas
from ocr_rl.rewards.length import Length
from ocr_rl.rewards.medoid import Medoid
from ocr_rl.rewards.rectangular import Rectangular
from ocr_rl.rewards.repetition import Repetition
from ocr_rl.rewards.tables import Tables
from ocr_rl.text.checks import load_check


def scores_of(reward: Reward, bodies: Sequence[str], reference: str | None = None) -> list[float | None]:
    group = [Transcript(raw=body, body=body, finish="stop", num_tokens=0) for body in bodies]
    page = Page(id="0a1b2c3d:p1", pdf=Path("a.pdf"), number=1, reference=reference)
    return [score.value for score in reward(page, group)]


def score_of(reward: Reward, body: str, reference: str | None = None) -> float:
    (value,) = scores_of(reward, [body], reference)
    assert value is not None
    return value


def html(*rows: Sequence[str]) -> str:
    return "<table>" + "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in rows) + "</table>"


# --- medoid ---------------------------------------------------------------------------------------------------------


def test_the_medoid_has_the_fewest_edits_to_all() -> None:
    # edits: abcd-abce 1, abcd-axyz 3, abce-axyz 3; sums 4, 4, 6: the first; 3 is the largest distance
    assert scores_of(Medoid(), ["abcd", "abce", "axyz"]) == [1.0, pytest.approx(2 / 3), 0.0]
    assert scores_of(Medoid(), ["axyz", "abce", "abcd"]) == [0.0, 1.0, pytest.approx(2 / 3)]


def test_siblings_without_a_difference_or_a_majority() -> None:
    assert scores_of(Medoid(), ["alone"]) == [1.0]
    assert scores_of(Medoid(), ["same", "same", "same"]) == [1.0, 1.0, 1.0]
    assert scores_of(Medoid(), ["ab", "cd"]) == [1.0, 0.0]
    assert scores_of(Medoid(), []) == []


# --- element_count and rectangular ----------------------------------------------------------------------------------


def test_tables_and_formulas_are_counted_apart() -> None:
    reference = html("ab") + r" \(x\) and \[y\] and $$z$$"
    assert score_of(ElementCount(), r"\(x\) \(y\) \(z\) <TABLE class=a>text</table>", reference) == 1.0
    assert score_of(ElementCount(), r"\(x\) \(y\) $z$ <table></table>", reference) == 0.5
    assert score_of(ElementCount(), r"\(x\) \(y\) \(z\) <table><table>", reference) == 0.5
    assert score_of(ElementCount(), "| a | b |\n|---|---|", reference) == 0.0
    assert scores_of(ElementCount(), ["a", r"\(x\)"], "no element") == [1.0, 0.5]


def test_openings_without_an_end_are_counted_in_linear_time() -> None:
    assert score_of(ElementCount(), "<table" * 100_000 + "\\(" * 100_000, html("ab") + r"\(x\)") == 0.0


def test_the_share_of_rectangular_tables() -> None:
    good, short = html("ab", "cd"), html("ab", "c")
    wide = "<table><tr><td colspan=2>a</td></tr><tr><td>b</td><td>c</td></tr></table>"
    assert score_of(Rectangular(), good + short + wide) == pytest.approx(2 / 3)
    assert score_of(Rectangular(), "no table") == 1.0


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (html("ab", "cd"), 1.0),
        ("| a | b |\n|---|---|\n| **c** | d |", 1.0),  # the same table in Markdown, emphasis apart
        (html("ab", "cx"), 2 * 3 / 8),  # three of four cells
        (html("ab"), 2 * 2 / 6),  # one row of two
        (html("a", "c"), 2 * 2 / 6),  # one column of two
        (html("cd", "ab"), 2 * 2 / 8),  # rows swapped: only one can be paired in order
        (html("ba", "dc"), 2 * 2 / 8),  # columns swapped
        (html("ab", "cd", "ef"), 2 * 4 / 10),  # a row made up
        (html("ab", "cd") + html("ab", "cd"), 2 * 4 / 12),  # said twice
        (html("ab", "c"), 2 * 3 / 8),  # a hole is an empty cell
        ("a b c d", 0.0),
    ],
)
def test_tables_share_cells(body: str, expected: float) -> None:
    assert score_of(Tables(), body, html("ab", "cd")) == pytest.approx(expected)


def test_cells_are_alike_by_degrees() -> None:
    # 4.1 and 4.7: two edits (out with 1, in with 7) of six characters
    assert score_of(Tables(), html(["4.7"]), html(["4.1"])) == pytest.approx(2 / 3)


def test_tables_are_paired_by_what_they_hold() -> None:
    first, second = html("ab", "cd"), html("pq", "rs")
    assert score_of(Tables(), second + first, first + second) == 1.0
    assert score_of(Tables(), second, first + second) == pytest.approx(2 * 4 / 12)


def test_a_spanning_cell_lies_on_all_its_places() -> None:
    reference = "<table><tr><td colspan=2>a</td></tr><tr><td>b</td><td>c</td></tr></table>"
    assert score_of(Tables(), reference, reference) == 1.0
    assert score_of(Tables(), html("aa", "bc"), reference) == 1.0
    assert score_of(Tables(), html(["a", ""], "bc"), reference) == pytest.approx(2 * 3 / 8)


def test_a_page_without_tables_has_no_table_score() -> None:
    assert scores_of(Tables(), [html("ab"), ""], "no table") == [None, None]


@pytest.mark.parametrize(
    "body",
    [
        "a|b\nc|d\n\n" * 3_000,  # very many tables
        "<table><tr><td colspan=1000>a</td></tr>" + "<tr><td>b</td></tr>" * 8_000 + "</table>",  # very large, and empty
        "|".join("x" * 2_000) + "\n" + "|".join("y" * 2_000),
    ],
    ids=["many", "large", "wide"],
)
def test_tables_of_nonsense_share_little(body: str) -> None:
    reference = html(*[[f"{row}.{column}" for column in range(10)] for row in range(20)])
    assert score_of(Tables(), body, reference) < 0.1


# --- formulas -------------------------------------------------------------------------------------------------------


def test_the_share_of_formulas_found() -> None:
    reference = r"\(x^2\), \[\frac{a}{b}\] and \(x^2\) again"
    assert score_of(Formulas(), r"$x^{2}$ and $$\frac ab$$", reference) == 1.0  # other TeX, the same formulas
    assert score_of(Formulas(), r"\(x^2\)", reference) == 0.5
    assert score_of(Formulas(), r"\(x_2\) and \(a/b\)", reference) == 0.0
    assert score_of(Formulas(), "x^2", reference) == 0.0  # a formula stands between delimiters


def test_prices_are_no_formulas() -> None:
    prices = "from $5 to $7 each"
    assert scores_of(Formulas(), [prices], prices) == [None]
    assert scores_of(Formulas(), [r"\(5x\)", prices], "so $5x$ of") == [1.0, 0.0]
    assert scores_of(Formulas(), [r"\( \)"], r"\( \)") == [None]


# --- repetition -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", 1.0),
        ("A page. " * 3, 1.0),  # three copies are no loop
        ("a" * 40 + "." * 50, 1.0),  # 49 that repeat: a line to sign on
        ("a" * 40 + "." * 51, 1 - 50 / 91),
        ("a" * 40 + "b" + "." * 59, 1 - 58 / 100),
        ("0123456789" * 10, 1 - 90 / 100),
        ("\n0123456789" + "0123456789" * 9 + "\n\n", 1 - 90 / 100),  # white space at both ends
        ("x" * 50 + "0123456789" * 9 + "01234", 1 - 85 / 145),  # the last copy is cut off
        ("long piece " * 40 + "and the text goes on", 1.0),  # left again
        ("".join(f"{n}. item\n" for n in range(100, 200)), 1.0),  # a counter
    ],
)
def test_the_share_of_a_loop_at_the_end(body: str, expected: float) -> None:
    assert score_of(Repetition(), body) == pytest.approx(expected)


def test_a_loop_of_any_length_in_linear_time() -> None:
    paragraph = "".join(f"Sentence {n} of a paragraph. " for n in range(200))
    body = "Title. " + paragraph * 20
    assert score_of(Repetition(), body) == pytest.approx(1 - 19 * len(paragraph) / len(body.strip()), abs=1e-3)
    assert score_of(Repetition(), "a" * 50_000 + "b" + "a" * 50_000) == pytest.approx(0.5, abs=1e-3)


# --- length ---------------------------------------------------------------------------------------------------------


def test_length_falls_over_the_last_fifth() -> None:
    group = [
        Transcript(raw="", body="", finish="stop", num_tokens=n) for n in (0, 16_384, 17_408, 18_432, 20_480, 30_000)
    ]
    scores = Length(max_tokens=20_480)(Page(id="0a1b2c3d:p1", pdf=Path("a.pdf"), number=1), group)
    assert [score.value for score in scores] == [1.0, 1.0, 0.75, 0.5, 0.0, 0.0]


def test_a_limit_below_one_token_is_refused() -> None:
    with pytest.raises(UserError, match="max_tokens must be at least 1"):
        load_reward("ocr_rl.rewards.length:Length", {"max_tokens": 0})


# --- chrf, cer, wer -------------------------------------------------------------------------------------------------


def test_chrf_is_the_f_score_of_the_mean_precision_and_recall() -> None:
    # n-grams of abcd in abc: precision 3/3, 2/2, 1/1, recall 3/4, 2/3, 1/2; no 4-gram in abc, so three orders count
    precision, recall = 1.0, (3 / 4 + 2 / 3 + 1 / 2) / 3
    assert score_of(Chrf(), "abc", "abcd") == pytest.approx(5 * precision * recall / (4 * precision + recall))
    assert score_of(Chrf(), "ab cd", "abcd") == 1.0  # white space does not count
    assert scores_of(Chrf(), ["", "x"], " \n") == [1.0, 0.0]


def test_error_rates_are_turned_round_and_end_at_0() -> None:
    assert score_of(Cer(), " sitting\n", "kitten") == pytest.approx(1 - 3 / 6)
    assert score_of(Cer(), "kitten" * 3, "kitten") == 0.0
    assert score_of(Wer(), "the  dog sat", "the cat sat\n") == pytest.approx(1 - 1 / 3)
    assert score_of(Wer(), "a b c d e f g", "the cat sat") == 0.0
    for reward in (Cer(), Wer()):
        assert scores_of(reward, ["", "x"], "\n") == [1.0, 0.0]


def page_with_tests() -> Page:
    lines = [("present", "alpha"), ("present", "beta"), ("present", "gamma"), ("order", "")]
    checks = [
        load_check(
            {"pdf": "a.pdf", "page": 1, "id": f"t{k}", "type": kind}
            | ({"text": text} if text else {"before": "alpha", "after": "omega"})
        )
        for k, (kind, text) in enumerate(lines)
    ]
    return Page(id="a:p1", pdf=Path("a.pdf"), number=1, checks=checks)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({}, 2 / 4),  # two of three present tests, no order test
        ({"by": "macro"}, (2 / 3 + 0) / 2),
        ({"by": "weighted", "weights": {"present": 3.0}}, (3 * 2 / 3 + 0) / 4),
        ({"by": "weighted", "weights": {"order": 0.0}}, 2 / 3),
        ({"by": "macro", "floors": {"present": 0.8}}, (2 / 3) / 2 * (2 / 3) / 0.8),
        ({"floors": {"order": 0.5, "table": 0.5}}, 0.0),  # a type that the page has not is no fault of the transcript
    ],
)
def test_pass_rate_by_type_weights_and_floors(options: dict, value: float) -> None:
    transcript = Transcript(raw="alpha beta", body="alpha beta", finish="stop", num_tokens=1)
    assert load_reward("pass_rate", options)(page_with_tests(), [transcript])[0].value == pytest.approx(value)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"floors": {"tables": 0.5}}, "did you mean 'table'"),
        ({"floors": {"table": 1.5}}, "out of range"),
        ({"by": "weighted"}, "needs weights"),
        ({"weights": {"table": 2.0}}, "go with by"),
    ],
)
def test_pass_rate_refuses_options_that_mean_nothing(options: dict, wrong: str) -> None:
    with pytest.raises(UserError, match=wrong):
        load_reward("pass_rate", options)


def test_diff_ratio_in_words() -> None:
    page = Page(id="a:p1", pdf=Path("a.pdf"), number=1, reference="one two three")
    transcript = Transcript(raw="one too three", body="one too three", finish="stop", num_tokens=1)
    assert load_reward("diff_ratio", {"unit": "word"})(page, [transcript])[0].value == pytest.approx(1 - 2 / 6)


def transcripts_of(body: str) -> list[Transcript]:
    return [Transcript(raw=body, body=body, finish="stop", num_tokens=1)]


def test_outline_is_rough_and_in_order_wants_contradiction() -> None:
    page = page_with_tests()
    outline, in_order = load_reward("outline"), load_reward("in_order")
    assert outline(page, transcripts_of("omega gamma beta alpha"))[0].value == 1.0
    assert outline(page, transcripts_of("zzz"))[0].value == 0.0
    assert in_order(page, transcripts_of("omega gamma beta alpha"))[0].value == 0.0
    assert in_order(page, transcripts_of("omega gamma beta"))[0].value == 1.0  # reading badly is not shuffling


def test_budget_of_a_test_and_of_a_reference() -> None:
    def value(page: Page, text: str) -> float | None:
        return load_reward("budget")(page, transcripts_of(text))[0].value

    limit = load_check({"pdf": "a.pdf", "page": 1, "id": "b", "type": "baseline", "max_length": 100})
    page = Page(id="a:p1", pdf=Path("a.pdf"), number=1, reference="x" * 40, checks=[limit])
    assert value(page, "") == value(page, "y" * 100) == value(page, f"# **{'y' * 100}**") == 1.0
    assert value(page, "y" * 101) == pytest.approx(0.92)
    assert value(page, f"{'y' * 100} §¶") == pytest.approx(0.84)  # signs count as letters do
    assert value(page, "y" * 113) == value(page, "y" * 500) == 0.0
    with_reference = Page(id="a:p1", pdf=Path("a.pdf"), number=1, reference="x" * 100)
    assert value(with_reference, "x" * 105) == 1.0  # 2 % and 3 more
    assert value(with_reference, "x" * 106) == pytest.approx(1 - 8 / 105)
    assert value(Page(id="a:p1", pdf=Path("a.pdf"), number=1), "x") is None


def test_distinct_counts_what_came_before() -> None:
    once = "The quick brown fox jumps over the lazy dog by the river."
    page = Page(id="a:p1", pdf=Path("a.pdf"), number=1)
    assert load_reward("distinct")(page, transcripts_of(once))[0].value == 1.0
    assert load_reward("distinct")(page, transcripts_of(f"{once} {once.upper()} And on."))[0].value == pytest.approx(
        0.53, abs=0.01
    )


@pytest.mark.parametrize("run", [1, 2, 5, 8])
def test_distinct_finds_the_runs_that_a_plain_search_finds(run: int) -> None:
    """Few repeats are looked for around pieces that stood there before, many among all runs; the texts have both."""
    counts = []
    for seed in range(300):
        rng = Random(seed)
        text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz"[: 2 + seed % 25], k=rng.randint(0, 300)))
        plain = [at for at in range(len(text) - run + 1) if text[at : at + run] in text[: at + run - 1]]
        assert list(repeats(text, run)) == plain
        counts.append(len(plain))
    assert min(counts) == 0 and max(counts) > 50
