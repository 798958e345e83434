import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.figures import summary
from ocr_rl.evaluate.report import read_candidates, write_report
from ocr_rl.evaluate.results import CheckVerdict, PageResult
from ocr_rl.evaluate.stats import Tally, benchmark_score
from ocr_rl.evaluate.tables import change_table, p_value, signed, summary_table, to_markdown_table, visible
from ocr_rl.evaluate.view import charts, word_differences

EVIL = (
    "</div><script>alert(1)</script><img src=x onerror=alert(2)><style>*{display:none}</style>"
    "\" onclick='x' style='top:0' \u202e\x00\ud800"
)


def result(page: str, passed: bool, text: str = "the cat", **more) -> PageResult:
    check = CheckVerdict(id=f"{page} cat", type="present", passed=passed, why="" if passed else "'cat' not found")
    return PageResult(page=page, checks=(check,), finish="stop", num_tokens=3, text=text, bleu=0.5, cer=0.1, **more)


def some_pages(count: int, reference: str | None = "the cat sat") -> dict[str, Page]:
    ids = [f"d{n:02}:p1" for n in range(count)]
    return {id_: Page(id=id_, pdf=Path(f"/somewhere/else/{id_[:3]}.pdf"), number=1, reference=reference) for id_ in ids}


class Elements(HTMLParser):
    """Counts elements and collects attribute names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def test_three_files_and_what_they_say(tmp_path: Path):
    pages = some_pages(30)
    before = [result(id_, n % 3 == 0) for n, id_ in enumerate(pages)]
    after = [result(id_, n % 3 > 0, "the cat sat") for n, id_ in enumerate(pages)]
    write_report(
        tmp_path / "report",
        title="A trial",
        candidates={"before": before, "after": after},
        pages=pages,
        images=lambda page: Image.new("RGB", (1200, 600), "white"),
        curves={"seed 1": [{"step": s, "reward": s / 10, "kl": math.nan} for s in range(5)]},
        notes={"device": "two cores"},
        max_pages=7,
    )
    html = (tmp_path / "report/report.html").read_text()
    markdown = (tmp_path / "report/report.md").read_text()
    rows = json.loads((tmp_path / "report/report.json").read_text())
    assert "+33.3" in html and "+33.3" in markdown and "20 / 10" in markdown
    assert html.count('<article class="card"') == 7 and "7 of 30 pages" in html
    assert html.count('src="data:image/png;base64,') == 7 and 'width="900" height="450"' in html
    assert "two cores" in html and "two cores" in markdown
    assert "<polyline" in html and rows["curves"]["seed 1"][1] == {"step": 1, "reward": 0.1, "kl": None}
    assert "/somewhere" not in html + markdown + json.dumps(rows)  # no path of the machine it was made on
    again = read_candidates(tmp_path / "report/report.json")
    assert again == {"before": before, "after": after}
    assert (
        summary(again["after"]).metrics["pass_rate"].mean == rows["summaries"]["after"]["metrics"]["pass_rate"]["mean"]
    )


def test_the_page_is_alone_and_guarded(tmp_path: Path):
    write_report(tmp_path, title="t", candidates={"a": [result("d00:p1", True)]}, pages=some_pages(1))
    html = (tmp_path / "report.html").read_text()
    assert "http://" not in html and "https://" not in html
    elements = Elements(html)
    assert elements.tags.count("script") == 1 and elements.tags.count("style") == 1
    assert not {"link", "iframe", "object", "base"} & set(elements.tags)
    policy = html[html.index("Content-Security-Policy") :].split(">")[0]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "script-src 'sha256-" in policy and "style-src 'sha256-" in policy
    assert "style" not in elements.attributes  # the policy would refuse style attributes


def test_nothing_from_outside_becomes_an_element(tmp_path: Path):
    def write(evil: str) -> tuple[Elements, str, str]:
        page = Page(
            id="d00:p1", pdf=Path(f"/x/{evil.replace('/', '')}.pdf"), number=1, reference=evil, tags=frozenset([evil])
        )
        check = CheckVerdict(id=evil, type=evil, passed=False, why=evil)
        row = PageResult(
            page=page.id, tags=(evil,), checks=(check,), finish="stop", num_tokens=1, text=evil, cer=0.0, bleu=0.0
        )

        def no_image(page: Page) -> Image.Image:
            raise UserError(evil)

        write_report(
            tmp_path,
            title=evil,
            candidates={evil: [row], evil + "2": [row]},
            pages={page.id: page},
            images=no_image,
            curves={evil: [{"step": s, evil: s} for s in range(3)]},
            notes={evil: evil},
            benchmark={
                evil: benchmark_score(
                    [Tally(id=evil, type=evil, file=evil, page="p", passes=1, repeats=1)], seed=0, draws=5
                )
            },
        )
        html = (tmp_path / "report.html").read_text(encoding="utf-8")
        return Elements(html), html, (tmp_path / "report.md").read_text(encoding="utf-8")

    tame, _, _ = write("harmless words")
    wild, html, markdown = write(EVIL)
    # not one element or attribute more than with harmless texts, but for marks of differences
    assert [tag for tag in wild.tags if tag not in ("ins", "del")] == [t for t in tame.tags if t not in ("ins", "del")]
    assert wild.attributes == tame.attributes
    assert (
        "onerror=alert(2)&gt;" in html and "\u27e8U+202E\u27e9" in html and "\u202e" not in html and "\x00" not in html
    )
    assert "<script" not in markdown and "<img" not in markdown and "\u27e8U+D800\u27e9" in markdown


def test_huge_transcripts_are_cut_in_the_page_only(tmp_path: Path):
    rows = {"a": [result("d00:p1", True, "M" * 500_000)]}
    write_report(tmp_path, title="t", candidates=rows, pages=some_pages(1))
    assert "480000 more characters" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "report.html").stat().st_size < 100_000
    assert len(read_candidates(tmp_path / "report.json")["a"][0].text) == 500_000


def test_without_reference_the_first_candidate_is_the_measure(tmp_path: Path):
    rows = {"a": [result("d00:p1", True, "one two")], "b": [result("d00:p1", True, "one three")]}
    write_report(tmp_path, title="t", candidates=rows, pages=some_pages(1, reference=None))
    html = (tmp_path / "report.html").read_text()
    assert "one <del>two</del> <ins>three</ins>" in html and "marked against a" in html


def test_shown_pages_run_from_loss_to_gain(tmp_path: Path):
    pages = some_pages(3)
    before = [result("d00:p1", False), result("d01:p1", True), result("d02:p1", True)]
    after = [result("d00:p1", True), result("d01:p1", True), result("d02:p1", False)]
    write_report(tmp_path, title="t", candidates={"a": before, "b": after}, pages=pages)
    html = (tmp_path / "report.html").read_text()
    assert html.index("<bdi>d02.pdf") < html.index("<bdi>d01.pdf") < html.index("<bdi>d00.pdf")
    assert 'data-type="present" data-bits="10"' in html and 'data-bits="01"' in html


def test_wrong_input_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="at least one candidate"):
        write_report(tmp_path, title="t", candidates={}, pages={})
    with pytest.raises(UserError, match="d09:p1 was judged but is not among"):
        write_report(tmp_path, title="t", candidates={"a": [result("d09:p1", True)]}, pages=some_pages(2))
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(UserError, match="not a report"):
        read_candidates(tmp_path / "report.json")


def test_word_differences_by_hand():
    true, read = "The cat sat on\nthe mat.", "The bat sat on the the mat"
    assert word_differences(true, read) == [
        ("same", "The "),
        ("missing", "cat"),
        ("extra", "bat"),
        ("same", " "),
        ("same", "sat on the "),
        ("extra", "the"),
        ("same", " "),
        ("same", "mat"),
        ("missing", "."),
    ]
    assert word_differences("a  b\n", "a b") == [("same", "a b")]
    assert word_differences("", "x") == [("extra", "x")] and word_differences("x", "") == [("missing", "x")]
    assert "".join(text for kind, text in word_differences(true, read) if kind != "missing") == read


def test_markdown_table_is_aligned_and_safe():
    assert to_markdown_table(["name", "n"], [["a|b_c_", "1"], ["<i>\nx", "22"]]).splitlines() == [
        "| name     |   n |",
        "| :------- | --: |",
        r"| a\|b_c\_ |   1 |",
        "| &lt;i> x |  22 |",
    ]


def test_numbers_in_words():
    assert (signed(0.1234, "%"), signed(-0.05, "%"), signed(-0.0001, "%"), signed(3.26, "tokens")) == (
        "+12.3",
        "\u22125.0",
        "+0.0",
        "+3.3",
    )
    assert (p_value(0.04321), p_value(1 / 10_001), p_value(1e-9)) == ("0.0432", "0.0001", "<0.0001")
    assert visible("a\u200bb\tc\n") == "a\u27e8U+200B\u27e9b\tc\n"


def test_a_clear_change_needs_interval_and_p():
    from ocr_rl.evaluate.figures import compare

    ids = list(some_pages(3))
    before, after = [result(id_, False) for id_ in ids], [result(id_, True) for id_ in ids]
    text = change_table(compare(before, after, draws=50, permutations=400))
    assert "+100.0" in text and "better" not in text  # three pages: the interval is a point, p is 1/4
    ids = list(some_pages(10))
    before, after = [result(id_, False) for id_ in ids], [result(id_, True) for id_ in ids]
    assert "better" in change_table(compare(before, after, draws=50, permutations=400))
    assert summary_table({"x": summary(before, draws=50)}).splitlines()[2].startswith("| x ")


def test_charts_skip_what_is_no_number():
    rows = [{"step": 1, "kl": None, "reward": 0.0, "name": "x"}, {"step": 2, "reward": 1.0, "kl": 2.0, "flag": True}]
    (chart,) = charts({"run": rows, "empty": []})
    assert chart["name"] == "reward" and chart["first"] and chart["steps"] == ("1", "2")
    assert chart["lines"][0]["raw"] == [(0.0, 120.0), (320.0, 0.0)] and chart["lines"][1]["raw"] == []
    (flat,) = charts({"run": [{"step": s, "loss": 0.0} for s in range(3)]})
    assert len(flat["ticks"]) >= 2
    assert charts({}) == []
