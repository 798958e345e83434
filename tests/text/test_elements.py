"""Element scores by hand: what is free, what costs its share, and what no text may break."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ocr_rl.contract import Page, Transcript
from ocr_rl.plugins import load_reward
from ocr_rl.text.element import fold, plain
from ocr_rl.text.elements import ORDER_SHARE, compare, element_score

FIRST = "The committee met on Tuesday to decide upon the bridge across the northern canal."
SECOND = "Nobody had expected that the old mill would be sold before its roof was mended."
THIRD = "Seven barges of limestone arrived in the harbour while the engineers still argued."
TABLE = "<table><tr><th>Year</th><th>Tons</th></tr><tr><td>1901</td><td>4120</td></tr></table>"
PIPES = "| Year | Tons |\n|---|---|\n| 1901 | 4120 |"
FORMULA = r"$$\frac{a}{b} + x^{2} = 7$$"
PAGE = "\n\n".join(["# Minutes", FIRST, SECOND, TABLE, FORMULA, THIRD])


def visible(text: str) -> int:
    return len("".join(text.split()))


@pytest.mark.parametrize(
    "same",
    [
        PAGE,
        PAGE.replace(TABLE, PIPES),
        PAGE.replace(FORMULA, r"\[\dfrac{a}{b}+x^2=7\]"),
        PAGE.replace("# Minutes", "**Minutes**"),
        PAGE.replace(f"{FIRST}\n\n{SECOND}", f"{FIRST} {SECOND}"),  # paragraphs joined
        PAGE.replace("Tuesday to", "Tuesday\n\nto").replace(" the", "\nthe"),  # cut, and lines wrapped elsewhere
        f"<!-- a comment -->\n\n{PAGE}<div style='display:none'>{FIRST}</div>",
        PAGE.replace("the old mill", "the <em>old</em> mi\u00adll"),
    ],
)
def test_what_looks_alike_scores_1(same: str) -> None:
    scores = compare(PAGE, same)
    assert scores.value == 1.0
    assert set(scores.parts.values()) == {1.0}
    assert scores.counts == {"text": (4, 4), "table": (1, 1), "formula": (1, 1)}


def test_a_misread_letter_costs_a_letter() -> None:
    page = f"{FIRST}\n\n{SECOND}"
    one = compare(page, page.replace("mill", "mi1l"))
    share = visible(SECOND) / (visible(FIRST) + visible(SECOND))
    assert one.value == one.text == one.recall == pytest.approx(1 - share / len(SECOND))
    assert one.precision == one.order == 1.0


def test_more_damage_never_scores_more() -> None:
    values = []
    for wrong in range(len(SECOND) + 1):
        values.append(element_score(PAGE, PAGE.replace(SECOND, "#" * wrong + SECOND[wrong:])))
    assert values == sorted(values, reverse=True)
    assert values[0] == 1.0 and values[40] < values[10] - 0.05


def test_a_missing_block_costs_its_share() -> None:
    page = f"{FIRST}\n\n{SECOND}\n\n{THIRD}"
    scores = compare(page, f"{FIRST}\n\n{THIRD}")
    share = visible(SECOND) / visible(page)
    assert scores.value == scores.recall == pytest.approx(1 - share)
    assert scores.precision == 1.0 and scores.counts == {"text": (3, 2)}


def test_invention_costs_what_it_adds() -> None:
    page = f"{FIRST}\n\n{SECOND}"
    for candidate in (f"{page}\n\n{THIRD}", f"{THIRD}\n\n{page}", f"{FIRST}\n\n{THIRD}\n\n{SECOND}"):
        scores = compare(page, candidate)
        assert scores.recall == 1.0
        assert scores.value == scores.precision == pytest.approx(visible(page) / visible(candidate))


def test_a_page_said_twice_is_half_invented() -> None:
    scores = compare(PAGE, f"{PAGE}\n\n{PAGE}")
    assert scores.recall == 1.0 and scores.value == pytest.approx(0.5)


def test_equal_blocks_need_a_place_each() -> None:
    page = f"{FIRST}\n\n{SECOND}\n\n{FIRST}"
    assert element_score(page, page) == 1.0
    assert compare(page, f"{FIRST}\n\n{SECOND}").recall == pytest.approx(1 - visible(FIRST) / visible(page))


def test_swapped_blocks_cost_order_alone() -> None:
    page = f"{FIRST}\n\n{TABLE}\n\n{SECOND}"
    scores = compare(page, f"{FIRST}\n\n{SECOND}\n\n{TABLE}")
    moved = 16 / (16 + visible(FIRST) + visible(SECOND))  # the lighter of the two that changed places
    assert scores.content == 1.0
    assert scores.order == pytest.approx(1 - moved)
    assert scores.value == pytest.approx(1 - ORDER_SHARE * moved)


def test_to_leave_out_a_misplaced_block_never_pays() -> None:
    page = f"Page 7\n\n{FIRST}\n\n{SECOND}"
    assert element_score(page, f"{FIRST}\n\n{SECOND}\n\nPage 7") > element_score(page, f"{FIRST}\n\n{SECOND}")


@pytest.mark.parametrize("wrong", [0.0, 0.02, 0.1])
def test_to_leave_out_a_block_that_was_read_never_pays(wrong: float) -> None:
    rng = Random(5)
    page = [FIRST, "7", TABLE, SECOND, "re", FORMULA, THIRD, "Page 3 of 9", r"$$y_1 = 4$$"]
    for _ in range(4):
        read = [
            block if block[0] in "<$" else "".join("e" if rng.random() < wrong else letter for letter in block)
            for block in rng.sample(page, len(page))
        ]
        whole = element_score("\n\n".join(page), "\n\n".join(read))
        for n in range(len(read)):
            assert element_score("\n\n".join(page), "\n\n".join(read[:n] + read[n + 1 :])) < whole + 1e-3


def test_equal_elements_pair_in_order() -> None:
    page = "\n\n".join([TABLE, FORMULA, "Yes", "Yes"] * 6 + ["a", "b", "a b"])
    assert compare(page, page).parts == dict.fromkeys(compare(page, page).parts, 1.0)


def test_a_block_within_another_costs_order_alone() -> None:
    page = f"{FIRST} {SECOND}\n\n{THIRD}"
    scores = compare(page, f"{FIRST} {THIRD} {SECOND}")
    assert scores.recall > 0.99 and scores.precision > 0.98


def test_tables_by_parts() -> None:
    wrong = compare(TABLE, TABLE.replace("4120", "4170"))
    assert (wrong.tables, wrong.tables_structure) == (pytest.approx(1 - 0.25 / 6), 1.0)  # 2 rows, 4 cells
    assert wrong.value == wrong.tables
    ragged = compare(TABLE, TABLE.replace("<td>4120</td>", ""))
    assert (ragged.tables, ragged.tables_structure) == (pytest.approx(5 / 6), pytest.approx(5 / 6))
    assert ragged.value == pytest.approx(3 / 4 * (5 / 6) ** 2)  # 3 of 4 places are covered


def test_a_table_written_as_text_earns_a_little() -> None:
    as_text = compare(TABLE, "Year Tons 1901 4120")
    assert as_text.value == pytest.approx(0.3) and as_text.tables == as_text.tables_structure == 0.0
    assert element_score(TABLE, "Year Tons 1901 4170") == pytest.approx(0.3 * 18 / 19)
    assert element_score(TABLE, "") == 0.0


def test_formulas_by_degree() -> None:
    near = compare(FORMULA, FORMULA.replace("7", "1"))
    assert 0.6 < near.value < 1 and near.value == pytest.approx(near.formulas)
    far = compare(FORMULA, r"$$\sum_{n} \gamma_n$$")
    assert far.value < 0.1
    assert compare(FORMULA, f"so {FORMULA} holds").formulas == pytest.approx(0.8)  # as running text


def test_blank_pages() -> None:
    assert element_score("", "") == element_score("<!-- nothing -->", " \n") == 1.0
    assert element_score("", "A") > element_score("", "A line that is not there") > element_score("", PAGE) > 0.0
    assert element_score(PAGE, "") == 0.0
    assert compare("", "").parts == {"content": 1.0, "recall": 1.0, "precision": 1.0}


def test_parts_are_absent_where_the_reference_has_no_such_element() -> None:
    scores = compare(FIRST, PAGE)
    assert (scores.order, scores.tables, scores.tables_structure, scores.formulas) == (None, None, None, None)
    assert "tables" not in scores.parts


def test_another_page_earns_next_to_nothing() -> None:
    other = "Whales sing for hours beneath the ice.\n\n" * 8
    assert element_score(PAGE, other) < 0.05


@pytest.mark.parametrize(
    ("reference", "wrapped"),
    [
        (
            "日本語の文章は分かち書きをしない。次の文もここにある。",
            "日本語の文章は分かち\n書きをしない。\n\n次の文もここにある。",
        ),
        ("ภาษาไทยเขียนติดกันโดยไม่เว้นวรรค", "ภาษาไทยเขียน\nติดกันโดยไม่เว้นวรรค"),
    ],
)
def test_scripts_without_spaces_wrap_for_free(reference: str, wrapped: str) -> None:
    assert element_score(reference, wrapped) == 1.0
    assert element_score(reference, wrapped[:-1] + "X") == pytest.approx(1 - 1 / len(reference), abs=0.01)


def test_tex_that_does_not_show_is_folded() -> None:
    assert fold(r"x ^ {2} + \dfrac{a}{b} \, y_{\alpha}") == r"x^2+\frac{a}{b}y_\alpha"
    assert fold(r"\alpha b") == r"\alpha b" and fold("x^{12}") == "x^{12}"
    assert plain(r"Let $x^{2}$ be") == plain(r"Let \(x^2\) be") != plain("Let $x_2$ be")


@pytest.mark.parametrize(
    "hostile",
    [
        "a" * 250_000,
        "ab " * 60_000,
        "<table>" * 20_000,
        "<td colspan=1000 rowspan=1000>" * 5_000,
        "$x$ " * 40_000,
        "| a | b |\n" * 15_000,
        "\n\n".join("|a|b|\n|-|-|\n|1|2|" for _ in range(2_000)),
        "$$" * 50_000,
        "\ud800\0\ue000" * 10_000,
        PAGE * 400,
        "# " * 50_000,
    ],
)
def test_any_text_is_scored(hostile: str) -> None:
    scores = compare(PAGE, hostile)
    assert 0.0 <= scores.value < 0.05
    assert all(0.0 <= part <= 1.0 for part in scores.parts.values())
    assert element_score(hostile[:2_000], PAGE) <= 1.0


def test_the_reward_and_its_parts() -> None:
    group = [Transcript(raw=body, body=body, finish="stop", num_tokens=1) for body in (PAGE, FIRST, "")]
    page = Page(id="0a1b2c3d:p1", pdf=Path("a.pdf"), number=1, reference=PAGE)
    values = [score.value for score in load_reward("elements")(page, group)]
    assert values == [element_score(PAGE, transcript.body) for transcript in group]
    assert [s.value for s in load_reward("elements", {"part": "tables"})(page, group)] == [1.0, 0.0, 0.0]
    blind = Page(id="0a1b2c3d:p1", pdf=Path("a.pdf"), number=1)
    assert [score.value for score in load_reward("elements")(blind, group)] == [None] * 3


def test_what_was_earned_where_adds_up_to_the_content() -> None:
    """For any transcript, and in as many parts for each; figures that are no content have no parts."""
    page, blank = (Page(id="0a1b2c3d:p1", pdf=Path("a.pdf"), number=1, reference=text) for text in (PAGE, ""))
    place = load_reward("elements").place  # type: ignore[attr-defined]
    lost, twice = PAGE.replace(SECOND, ""), f"{PAGE}\n\n{THIRD} And more than that.\n\n{TABLE}"
    for body in (PAGE, FIRST, "", lost, twice, PAGE.replace("a", "o"), PAGE * 400, "<table>" * 500):
        parts = place(page, body)
        assert len(parts) == 6 + 1
        assert sum(part.adds for part in parts) == pytest.approx(compare(PAGE, body).content, abs=1e-12)
        assert all(0 <= start <= end <= len(body) for part in parts for start, end in part.spans)
    assert sum(part.adds for part in place(page, twice)) < sum(part.adds for part in place(page, PAGE)) == 1.0
    assert [part.adds for part in place(blank, "Some text")] == [0.0]
    assert load_reward("elements", {"part": "tables"}).place(page, PAGE) == []  # type: ignore[attr-defined]
