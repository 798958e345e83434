"""One text, one figure: what no reader tells apart counts the same everywhere; what a reader tells apart does not."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from ocr_rl.contract import Page, Transcript
from ocr_rl.evaluate.results import judge_page
from ocr_rl.plugins import load_reward
from ocr_rl.text.checks import judge, load_check
from ocr_rl.text.figures import Pair, bleu, cer, chrf, diff_ratio, pair, wer

FIGURES = ("elements", "text_blocks", "bleu", "diff_ratio", "cer", "wer")
REWARDS = ("elements", "bleu", "chrf", "diff_ratio", "cer", "wer")
BEST = {"elements": 1.0, "text_blocks": 1.0, "bleu": 1.0, "diff_ratio": 1.0, "cer": 0.0, "wer": 0.0}
TABLE = "<table><tr><td>Year</td><td>Tons</td></tr><tr><td>1901</td><td>4120</td></tr></table>"

VIETNAMESE = "Tiếng Việt là ngôn ngữ của người Việt"
SAME = {
    "NFD": (VIETNAMESE, unicodedata.normalize("NFD", VIETNAMESE)),
    "ligatures": ("the final office of the firefly", "the ﬁnal oﬃce of the ﬁreﬂy"),
    "full-width digits": ("in the year 1984 there were 12", "in the year １９８４ there were １２"),
    "full-width letters and signs": ("OCR (RL) costs 5%!", "ＯＣＲ （ＲＬ） costs ５％！"),
    "half-width kana": ("カタカナのテストです、ガラス", "ｶﾀｶﾅのﾃｽﾄです、ｶﾞﾗｽ"),
    "soft hyphen": ("a separated word stands here", "a sepa\u00adrated word stands here"),
    "zero-width space": ("a hidden mark within", "a hid\u200bden\ufeff mark within"),
    "hyphens": ("a well-known end-to-end test", "a well\u2010known end\u2011to\u2011end test"),
    "dashes and minus": ("pages 3-5 at -7 degrees - cold", "pages 3–5 at \u22127 degrees — cold"),
    "quotes": ("\"Don't\" he said, 'never'", "“Don’t” he said, ‘never’"),
    "wrapped lines": ("one line that goes on and on", "one line\nthat goes\non and on"),
    "wrapped without spaces": ("日本語の長い文章はどこでも折り返される", "日本語の長い文章は\nどこでも折り返される"),
    "no-break and thin spaces": ("12 000 km of 3 m", "12\u00a0000 km\u2009of 3\u202fm"),
    "HTML and pipe table": (TABLE, "| Year | Tons |\n|---|---|\n| 1901 | 4120 |"),
    "delimiters of formulas": (r"so \(x_1 + y\) is positive", "so $x_1 + y$ is positive"),
    "braces in TeX": (r"so $x^{2} + \frac{a}{b}$ is positive", r"so $x^2+\dfrac{a}{b}$ is positive"),
    "entities": ("Müller & Söhne, 5 < 7", "M&uuml;ller &amp; S&ouml;hne, 5 &lt; 7"),
    "trailing new line": ("the last line of a page", "\nthe last line of a page  \n\n"),
    "emphasis": ("a bold and an italic word", "a **bold** and an <i>italic</i> word"),
    "paragraphs": ("One sentence here. Another there.", "One sentence here.\n\nAnother there."),
    "bullets": ("* first thing\n* second thing", "- first thing\n- second thing"),
    "comment and hidden text": ("what a reader sees", "<!-- no -->\n\nwhat a reader sees<span hidden> or not</span>"),
    "micro sign and prime": ("5 μm and 3' long", "5 µm and 3′ long"),
    "ellipsis": ("and so on... until", "and so on… until"),
    "mathematical letters": ("let x be the value", "let 𝑥 be the value"),
}  # fmt: skip

OTHER = {
    "a letter": ("the quick brown fox jumps far", "the quick brown fax jumps far"),
    "a digit": ("it came to 4120 tons in May", "it came to 4170 tons in May"),
    "a superscript": ("an area of 30 m2 in the end", "an area of 30 m² in the end"),
    "case": ("the river Main flows here on", "the river main flows here on"),
    "word order": ("the dog bites the old man now", "the man bites the old dog now"),
    "a word left out": ("he did not come on that day", "he did come on that day"),
    "a word invented": ("he came again on that day", "he never came again on that day"),
    "a space lost": ("we saw them now here at all", "we saw them nowhere at all"),
    "punctuation": ("Let us eat, grandma and all", "Let us eat grandma and all"),
    "an accent": ("the résumé was sent out again", "the resumé was sent out again"),
    "a script without spaces": ("日本語の文章を正しく読むこと", "日本語の文草を正しく読むこと"),
    "Thai": ("ภาษาไทยเขียนติดกันโดยไม่เว้นวรรค", "ภาษาไทยเขียนติดกันโดยไม่เว้นวรรด"),
    "an exponent": ("so $x^{2} + y$ is positive then", "so $x^{3} + y$ is positive then"),
}


def page(reference: str) -> Page:
    return Page(id="0a1b2c3d:p1", pdf=Path("a.pdf"), number=1, reference=reference)


def transcript(body: str) -> Transcript:
    return Transcript(raw=body, body=body, finish="stop", num_tokens=1)


def figures(reference: str, body: str) -> dict[str, float | None]:
    row = judge_page(page(reference), transcript(body))
    values = {name: getattr(row, name) for name in FIGURES}
    return {name: value for name, value in values.items() if value is not None}  # no text in a table


def rewards(reference: str, body: str) -> dict[str, float | None]:
    return {name: load_reward(name)(page(reference), [transcript(body)])[0].value for name in REWARDS}


@pytest.mark.parametrize("name", SAME)
def test_what_no_reader_tells_apart_is_the_same_in_every_figure(name: str) -> None:
    for reference, body in (SAME[name], SAME[name][::-1]):
        assert figures(reference, body) == pytest.approx({k: BEST[k] for k in figures(reference, reference)}, abs=1e-12)
        assert rewards(reference, body) == pytest.approx(dict.fromkeys(REWARDS, 1.0), abs=1e-12)


# A present test searches one line of text; TeX is for math tests, cells for table tests.
NO_PHRASE = {"HTML and pipe table", "bullets", "comment and hidden text", "paragraphs", "braces in TeX"}


@pytest.mark.parametrize("name", sorted(SAME.keys() - NO_PHRASE))
def test_what_no_reader_tells_apart_passes_the_strict_checks(name: str) -> None:
    for text, body in (SAME[name], SAME[name][::-1]):
        check = load_check({"pdf": "a.pdf", "page": 1, "id": "t", "type": "present", "text": text, "max_diffs": 0})
        (verdict,) = judge([check], f"Before it.\n\n{body}\n\nBehind it.", "strict")
        assert verdict.passed, verdict.why


@pytest.mark.parametrize("name", OTHER)
def test_what_a_reader_tells_apart_differs_in_every_figure(name: str) -> None:
    reference, body = OTHER[name]
    free = {"chrf"} if name == "a space lost" else set()  # by its definition
    assert {key for key, value in figures(reference, body).items() if value == pytest.approx(BEST[key])} == set()
    assert {key for key, value in rewards(reference, body).items() if value == pytest.approx(1.0)} == free
    check = load_check({"pdf": "a.pdf", "page": 1, "id": "t", "type": "present", "text": reference, "max_diffs": 0})
    (verdict,) = judge([check], body, "strict")
    assert not verdict.passed or name == "a word invented"


def test_reports_and_rewards_have_one_definition() -> None:
    for reference, body in (*SAME.values(), *OTHER.values(), ("", ""), ("", "x"), ("x y", "")):
        row, paid = judge_page(page(reference), transcript(body)), rewards(reference, body)
        assert (paid["elements"], paid["bleu"], paid["diff_ratio"]) == (row.elements, row.bleu, row.diff_ratio)
        assert row.cer is not None and row.wer is not None
        assert paid["cer"] == 1 - min(1.0, row.cer) and paid["wer"] == 1 - min(1.0, row.wer)


def test_figures_by_hand() -> None:
    assert diff_ratio(Pair("abcd", "abd", "word")).value == pytest.approx(1 - 1 / 7)
    assert diff_ratio(Pair("", "", "word")).value == 1.0 and diff_ratio(Pair("", "a", "word")).value == 0.0
    assert diff_ratio(Pair("one two three", "one too three", "word"), "word").value == pytest.approx(1 - 2 / 6)
    assert cer(Pair("abcd", "abxd", "word")).value == 0.25
    assert wer(Pair("the big cat", "the cat sat", "word")).value == pytest.approx(2 / 3)
    assert cer(Pair("", "", "word")).value == wer(Pair("", " ", "word")).value == 0.0
    assert cer(Pair("", "x", "word")).value == wer(Pair("", "x", "word")).value == 1.0
    assert chrf(Pair("ab cd", "abcd", "word")).value == 1.0


def test_scripts_without_spaces_count_characters_and_say_so() -> None:
    reference, body = OTHER["a script without spaces"]
    seen, written = pair(reference, body), pair(reference, body, "written")
    assert (seen.unit, written.unit) == ("character", "word")
    assert bleu(seen).value > 0.6 and bleu(written).value < 0.1
    assert wer(seen).value == pytest.approx(1 / 14) and wer(written).value == 1.0
    assert all("by character" in figure(seen).why for figure in (bleu, wer))
    assert not any("by character" in figure(written).why for figure in (bleu, wer))
    assert pair("The firm of 北京 has moved its office", "").unit == "word"  # a name is no script


def test_written_texts_are_compared_as_they_are() -> None:
    nfc, nfd = SAME["NFD"]
    for name in ("bleu", "chrf", "diff_ratio", "cer", "wer"):
        (score,) = load_reward(name, {"text": "written"})(page(nfc), [transcript(nfd)])
        assert score.value is not None and score.value < 0.95
    group = [transcript(nfc), transcript(nfd), transcript(nfd)]
    assert [score.value for score in load_reward("medoid")(page(nfc), group)] == [1.0, 1.0, 1.0]
    assert [s.value for s in load_reward("medoid", {"text": "written"})(page(nfc), group)] == [0.0, 1.0, 1.0]
    assert list(load_reward("medoid")(page(nfc), [])) == []
