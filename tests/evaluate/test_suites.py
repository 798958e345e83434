"""Other people's benchmarks on made folders in their layouts; figures by hand."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.evaluate.suites import dp_bench
from ocr_rl.evaluate.suites.omnidocbench import matching, page_of, score
from ocr_rl.evaluate.suites.omnidocbench.blocks import cut, letters, tex_normal
from ocr_rl.evaluate.suites.omnidocbench.matching import assign, match
from ocr_rl.evaluate.suites.omnidocbench.unicode_tex import shown
from ocr_rl.evaluate.suites.page import MOST
from ocr_rl.evaluate.suites.run import SUITES, bench_suite, bench_suites

ROWS = "<tr><td>a</td><td>b</td></tr><tr><td>c</td><td>dddd</td></tr>"


def element(category: str, text: str = "", html: str = "") -> dict[str, Any]:
    return {"category": category, "content": {"text": text, "html": html}, "coordinates": []}


def dp(folder: Path, pages: dict[str, list[dict[str, Any]]]) -> Path:
    (folder / "dataset").mkdir(parents=True)
    text = json.dumps({name: {"elements": elements} for name, elements in pages.items()})
    (folder / "dataset/reference.json").write_text(text)
    return folder / "dataset/reference.json"


PAGE = [
    element("Heading1", "One"),
    element("Table", html=ROWS),
    element("Paragraph", "two\nthree"),
    element("Figure", "x"),
]


def test_dp_bench_gives_the_whole_to_its_own_reference(tmp_path: Path) -> None:
    own = dp(tmp_path / "dp", {"a.pdf": PAGE, "b.pdf": [element("Paragraph", "four")]})
    report = bench_suite(tmp_path / "dp", "dp-bench", [("own", own)], tmp_path / "out")
    assert "# DP-Bench: 2 pages" in report and "From reference.json." in report
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.splitlines() if line[:1] == "|"]
    assert cells[2] == ["own", "100.00 (100.0–100.0)", "100.00", "100.00", "0"]  # of one page there is no interval
    assert cells[3] == ["pages", "2", "1", "1", ""]
    saved = json.loads((tmp_path / "out/suite.json").read_text())["candidates"]["own"]
    assert saved["pages"]["b.pdf"] == {"nid": [1.0]}  # a page without a table has no TEDS


def test_dp_benchs_figures_are_its_own_codes() -> None:
    reference = dp_bench.of_elements(PAGE)
    assert reference.text == "One twothree "  # no line breaks, a blank after each, no figure and no table
    shorter = (
        ROWS.replace("dddd", "dd").replace("<tr><td>a", "<thead><tr><td>a", 1).replace("</tr><tr>", "</tr></thead><tr>")
    )
    answer = [element("Paragraph", "One two"), element("Table", html=f"<table>{shorter}</table>")]
    scores = dp_bench.score(reference, dp_bench.of_elements(answer))
    assert scores["nid"] == [pytest.approx(2 * 8 / (13 + 8))]  # "One two " in common
    assert scores["teds_s"] == [1.0]
    assert scores["teds"] == [pytest.approx(1 - 0.5 / 6)]  # half of a cell, of six elements below the table
    assert dp_bench.score(reference, None) == {"nid": [0.0], "teds": [0.0], "teds_s": [0.0]}


def test_dp_bench_reads_markdown_too(tmp_path: Path) -> None:
    dp(tmp_path / "dp", {"a.pdf": PAGE, "b.pdf": PAGE})
    (tmp_path / "md").mkdir()
    (tmp_path / "md/a.md").write_text(f"# One\n\n<table>{ROWS}</table>\n\ntwothree\n")
    report = bench_suite(tmp_path / "dp", "dp-bench", [("md", tmp_path / "md")], tmp_path / "out")
    line = next(line for line in report.splitlines() if line.startswith("| md"))
    assert line.count("50.00") == 3 and line.rstrip(" |").endswith("1")  # the other page is missing, and counts 0
    assert "- md lacks 'b.pdf'.\n" in report


def test_pages_that_a_candidate_lacks_are_named_but_not_all_of_many(tmp_path: Path) -> None:
    dp(tmp_path / "suites/dp-bench", {name: PAGE for name in ("a.pdf", "b.pdf", "\x1b[c.pdf", "d.pdf", "e.pdf")})
    (tmp_path / "md/dp-bench").mkdir(parents=True)
    (tmp_path / "md/dp-bench/a.md").write_text("# One\n")
    report = bench_suites(tmp_path / "suites", ["dp-bench"], [("md", tmp_path / "md")], tmp_path / "out")
    assert "- DP-Bench, md lacks 'b.pdf', '\\x1b[c.pdf', 'd.pdf', ….\n" in report


def det(category: str, order: int | None, anno: int, **more: Any) -> dict[str, Any]:
    return {"category_type": category, "order": order, "anno_id": anno, "ignore": False, "poly": [], **more}


LAYOUT = [
    det("text_block", 2, 1, text="A second paragraph of the page, which ends at the column's "),
    det("title", 1, 2, text="The title of it"),
    det("text_block", 3, 3, text="foot and goes on."),
    det("table", 4, 4, html=f"<table><thead>{ROWS}</thead></table>", latex=""),
    det("equation_isolated", 5, 5, latex="$$\\frac{a}{b}$$"),
    det("header", None, 6, text="Running header here"),
    det("figure", 6, 7),
]
RELATION = [{"relation_type": "truncated", "source_anno_id": 1, "target_anno_id": 3}]
TITLE, PARAGRAPH = "# The title of it", "A second paragraph of the page, which ends at the column's foot and goes on."
REST = f"<table>{ROWS}</table>\n\n$$\\frac{{a}}{{b}}$$"


@pytest.fixture
def omni(tmp_path: Path) -> Path:
    row = {"layout_dets": LAYOUT, "extra": {"relation": RELATION}, "page_info": {"image_path": "x/p.pdf_1.jpg"}}
    (tmp_path / "omni").mkdir()
    (tmp_path / "omni/OmniDocBench.json").write_text(json.dumps([row]))
    (tmp_path / "md").mkdir()
    return tmp_path / "omni"


def scored(omni: Path, text: str) -> dict[str, list[float]]:
    (omni.parent / "md/p.pdf_1.md").write_text(text)
    suite = SUITES["omnidocbench"](omni)
    return dict(suite.score("p.pdf_1.jpg", suite.read(omni.parent / "md")["p.pdf_1.jpg"]))


def test_a_true_transcript_has_no_edits(omni: Path) -> None:
    whole = {"text_edit": [0.0], "order_edit": [0.0], "teds": [1.0], "teds_s": [1.0], "formulas": [1.0]}
    assert scored(omni, f"{TITLE}\n\n{PARAGRAPH}\n\n{REST}") == whole
    assert scored(omni, f"Running header here\n\n{TITLE}\n\n{PARAGRAPH}\n\n{REST}") == whole  # may be there or not
    halves = PARAGRAPH.replace("page, which", "page,\n\nwhich")
    assert scored(omni, f"{TITLE}\n\n{halves}\n\n{REST}") == whole  # however it is cut


def test_what_is_missing_wrong_or_out_of_place_costs(omni: Path) -> None:
    turned = scored(omni, f"{PARAGRAPH}\n\n{TITLE}\n\n{REST}")
    assert turned["text_edit"] == [0.0] and turned["order_edit"] == [1.0]
    without = scored(omni, f"{PARAGRAPH}\n\n{REST}")
    title, paragraph = len("Thetitleofit"), sum(map(str.isalnum, PARAGRAPH))
    assert without["text_edit"] == [pytest.approx(title / (title + paragraph))]
    nothing = scored(omni, "")
    assert nothing == {"text_edit": [1.0], "order_edit": [1.0], "teds": [0.0], "teds_s": [0.0], "formulas": [0.0]}


def test_puredocbench_has_a_file_a_page(tmp_path: Path) -> None:
    """In the layout that its public validator asks for: gt/ beside html/ and images/, ids from 0, no relations."""
    release, page = tmp_path / "puredocbench-v1.1", "01_academic/01_journal_paper/paper_001_反应"
    for place in ("gt", "html", "images/clean", "images/digital_degraded", "images/real_degraded"):
        (release / place / page).parent.mkdir(parents=True)
    rows = [{**row, "anno_id": k} for k, row in enumerate(LAYOUT)]
    text = json.dumps({"layout_dets": rows, "page_info": {"image_path": f"{page}.png"}})
    (release / "gt" / f"{page}.json").write_text(text)
    (release / "html" / f"{page}.html").write_text("<p></p>")
    for stem in (page, "paper_001_反应", f"{page}__real_phone_flat_normal_top", "paper_001_反应__real_screen_na"):
        answer = tmp_path / "md" / f"{stem}.md"
        answer.parent.mkdir(parents=True, exist_ok=True)
        answer.write_text(f"{TITLE}\n\n{REST}")
        report = bench_suite(release, "puredocbench", [("mine", tmp_path / "md")], tmp_path / "out")
        assert "# PureDocBench: 1 pages" in report and "CC BY 4.0" in report and report.count("100.00") == 3
        answer.unlink()
    with pytest.raises(UserError, match=r"is no PureDocBench, there is no gt/\*\*/\*.json in it"):
        bench_suite(tmp_path / "md", "puredocbench", [("mine", tmp_path / "md")], tmp_path / "out")


def test_one_table_holds_all_suites(omni: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suites, mine = tmp_path / "suites", tmp_path / "mine"
    dp(suites / "dp-bench", {"a.pdf": [element("Paragraph", "four")], "b.pdf": [element("Paragraph", "five")]})
    omni.rename(suites / "omnidocbench")
    for place, text in (("dp-bench/a.md", "four"), ("omnidocbench/p.pdf_1.md", f"{TITLE}\n\n{PARAGRAPH}\n\n{REST}")):
        (mine / place).parent.mkdir(parents=True)
        (mine / place).write_text(text)
    argv = ["bench", str(suites), "--suite", "dp-bench", "omnidocbench", "--candidate", str(mine)]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in told.splitlines() if line.startswith("|")]
    assert rows[0] == ["suite", "pages", "figure", "mine"]
    assert rows[2:4] == [["DP-Bench", "2", "NID ↑", "50.00 (0.0–100.0)"], ["DP-Bench", "2", "pages missing", "1"]]
    assert ["OmniDocBench", "1", "text edit distance ↓", "0.00"] in rows
    assert (
        told == (tmp_path / "out/transfer.md").read_text()
        and "- DP-Bench, from reference.json, its own licence: MIT." in told
    )
    assert (tmp_path / "out/omnidocbench/suite.json").is_file()


def test_truncated_blocks_are_one_and_blocks_have_an_order() -> None:
    page = page_of({"layout_dets": LAYOUT, "extra": {"relation": RELATION}})
    kinds = [(block.category, block.norm[:9]) for block in page.blocks]
    wanted = [
        ("header", "Runninghe"),
        ("title", "Thetitleo"),
        ("text_block", "Asecondpa"),
        ("equation_isolated", "\\frac{a}{"),
    ]
    assert kinds == wanted and page.blocks[2].norm.endswith("goeson") and len(page.tables) == 1
    assert page.places == [0, 1, 2, 5]


def test_a_formula_of_several_lines_is_one_a_line() -> None:
    tex = r"\begin{array}{l} a=b \\ c=d \end{array}"
    page = page_of({"layout_dets": [det("equation_isolated", 7, 1, latex=f"$${tex}$$")], "extra": {}})
    assert [block.norm for block in page.blocks] == ["a=b", "c=d"] and page.places == [7.1, 7.2]
    assert [block.norm for block in page_of({"layout_dets": [det("table", 1, 1, html="")]}).blocks] == []


def test_texts_are_compared_as_the_authors_do() -> None:
    assert letters("A\tb, $x_{1}^2$ costs $5$ and $\\alpha\\mathbf{B}$!") == "Abx_12costs5andα𝐁"
    assert tex_normal(r"\[ \mathbf{A} \left( x \right) \tag{3} . \]") == "{a}(x)"
    assert shown(r"\hat{a}\mathbb{R}\ell\sin\foo{b}\hspace{1em}c % no") == "âℝℓsinbc "


def test_blocks_are_cut_as_the_authors_do() -> None:
    text = "One $a$ is.\n\n$$b$$\n\nlost\n| x | y: |\n|---|---|\n| z | w |\n\n<table><tr><td>q</td></tr></table>"
    blocks = {(block.kind, block.text) for block in cut(text)}
    cell = '      <td colspan="1" rowspan="1">{}</td>\n'
    rows = "".join(f"    <tr>\n{''.join(map(cell.format, row))}    </tr>\n" for row in ("x", "zw"))
    wanted = {("text", "One $a$ is."), ("inline", r"\[a\]"), ("formula", r"\[b\]")}
    wanted |= {("table", "<table><tr><td>q</td></tr></table>"), ("table", f'<table border="1" >\n{rows}</table>')}
    assert blocks == wanted  # the line before a table of Markdown is lost there, and so is a cell with a colon


def test_assignment_is_of_least_cost() -> None:
    rng = np.random.default_rng(0)
    for rows, cols in ((1, 1), (3, 3), (2, 4), (4, 2), (0, 3), (3, 0)):
        distances = rng.integers(0, 4, (rows, cols)) / 3  # with ties
        pairs = assign(distances)
        assert len(pairs) == min(rows, cols) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        few, many = sorted((rows, cols))
        table = distances if rows <= cols else distances.T
        least = min((sum(table[k, col] for k, col in enumerate(p)) for p in permutations(range(many), few)), default=0)
        assert sum(distances[a, b] for a, b in pairs) == pytest.approx(least)


LONG = "thequickbrownfoxjumpsoverthelazydogandrunsaway"


@pytest.mark.parametrize(
    ("page", "shown", "groups"),
    [
        ([LONG], [LONG[:20], LONG[20:]], [([0], [0, 1])]),  # a run
        ([LONG[:20], LONG[20:]], [LONG], [([0, 1], [0])]),  # the second one stands in the block of the first
        ([LONG, "zzzz"], [LONG, "qqqq"], [([0], [0]), ([1], [1])]),  # what is left goes together
        ([LONG, "zzzz"], [LONG], [([0], [0]), ([1], [])]),
        ([], ["a"], []),
        (["a"], [], [([0], [])]),
    ],
)
def test_matching(page: list[str], shown: list[str], groups: list[tuple[list[int], list[int]]]) -> None:
    assert sorted(match(page, [False] * len(page), shown)) == groups


def test_what_may_be_there_takes_its_like_away() -> None:
    assert match(["header", LONG], [True, False], ["headers", LONG]) == [([1], [1])]


def test_any_transcript_is_scored_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "MOST_WINDOWS", 20_000)  # the time goes with it
    rows = [det("text_block", k, k, text=f"{k} {'x' * 200}") for k in range(1, 60)]
    page = page_of({"layout_dets": rows, "extra": {}})
    for text in (
        "\n\n".join("y" * 300 for _ in range(500)),
        "$" * 20_001,
        "<table>" * 3_000,
        "| a |\n" * 3_000,
        "x" * 90_000,
    ):
        assert score(page, text)["text_edit"][0] > 0.5


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (("a.md",), r"a.md: would be the answer of two pages, x/a and y/a"),
        (
            ("x/a__real_scan.md", "x/a__real_phone.md"),
            r"answers page x/a twice, in x/a__real_phone.md and x/a__real",
        ),
        (("b.md",), "holds no page of the suite, as x/a.md would be one"),
        (("x/a.md", "x/a__real_scan.md"), r"answers page x/a twice, in x/a.md and x/a__real_scan.md"),
        (("x/a.md", "y/a__real_scan.md"), ""),
        (("x/a.md", "photos/a__real_scan.md"), r"answers page x/a twice"),  # or is it y's?
    ],
)
def test_an_answer_is_of_one_page_and_a_page_has_one(answers: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    for page in ("gt/x/a.json", "gt/y/a.json"):
        (tmp_path / page).parent.mkdir(parents=True)
        (tmp_path / page).write_text(json.dumps(json.loads(omni_page())[0]))
    for answer in answers:
        (tmp_path / "md" / answer).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "md" / answer).write_text("text")
    suite = SUITES["puredocbench"](tmp_path)
    if sentence:
        with pytest.raises(UserError, match=sentence):
            suite.read(tmp_path / "md")
    else:
        assert suite.read(tmp_path / "md") == {"x/a": "text", "y/a": "text"}


def test_what_is_empty_is_nothing(tmp_path: Path) -> None:
    page = json.loads(omni_page(order="", text=None, html=""))[0]
    for extra in ("", [], {"relation": []}, {"relation": [{"relation_type": "truncated"}]}):
        (tmp_path / "OmniDocBench.json").write_text(json.dumps([{**page, "extra": extra}]))
        assert SUITES["omnidocbench"](tmp_path).pages == ["a.png"]
    figure = {"category": "Figure", "content": None}
    dp(tmp_path / "dp", {"a.pdf": [element("Paragraph", "four"), figure, {"category": "Figure"}]})
    assert SUITES["dp-bench"](tmp_path / "dp").pages == ["a.pdf"]


def test_of_several_versions_none_is_taken(tmp_path: Path) -> None:
    for version in ("1_5", "1_6"):
        (tmp_path / f"OmniDocBench_v{version}.json").write_text(omni_page())
    with pytest.raises(UserError, match=r"holds OmniDocBench_v1_5.json and OmniDocBench_v1_6.json; leave the one"):
        SUITES["omnidocbench"](tmp_path)


def test_of_a_loop_the_first_part_counts(tmp_path: Path) -> None:
    dp(tmp_path / "dp", {"a.pdf": [element("Paragraph", "four")]})
    (tmp_path / "md").mkdir()
    (tmp_path / "md/a.md").write_text("four " * 10**5)
    assert len(SUITES["dp-bench"](tmp_path / "dp").read(tmp_path / "md")["a.pdf"].text) <= MOST + 1


def omni_page(times: int = 1, **item: Any) -> str:
    block = {"category_type": "text_block", "anno_id": 1, **item}
    return json.dumps([{"layout_dets": [block], "page_info": {"image_path": "x/a.png"}}] * times)


BAD = [
    ("dp-bench", "dataset/reference.json", "[", "this is not JSON"),
    ("dp-bench", "dataset/reference.json", "[1]", "reference.json: all of it: Input should be a valid dict"),
    ("dp-bench", "dataset/reference.json", '{"a": {"elements": [{}]}}', "json: a.elements.0.category: Field required"),
    (
        "dp-bench",
        "dataset/reference.json",
        '{"a": {"elements": [{"category": "P", "content": {"text": 3}}]}}',
        "a.elements.0.content.text: Input should be a valid string",
    ),
    ("dp-bench", "dataset/reference.json", "{}", "holds no page of DP-Bench"),
    (
        "omnidocbench",
        "OmniDocBench.json",
        '[{"layout_dets": 3}]',
        "annotations: 0.layout_dets: Input should be a valid list",
    ),
    (
        "omnidocbench",
        "OmniDocBench.json",
        omni_page(text=["a"]),
        "0.layout_dets.0.text: Input should be a valid string",
    ),
    ("omnidocbench", "OmniDocBench.json", omni_page(html=5), "0.layout_dets.0.html: Input should be a valid string"),
    (
        "omnidocbench",
        "OmniDocBench.json",
        omni_page(order=float("nan")),
        "0.layout_dets.0.order: Input should be a f",
    ),
    ("omnidocbench", "OmniDocBench.json", omni_page(order=10**400), "0.layout_dets.0.order: "),
    ("omnidocbench", "OmniDocBench.json", omni_page(anno_id=[1]), "0.layout_dets.0.anno_id"),
    ("omnidocbench", "OmniDocBench.json", omni_page(times=2), "two pages have the image a.png"),
]


@pytest.mark.parametrize(("suite", "name", "text", "sentence"), BAD)
def test_a_file_in_another_layout_is_a_sentence(
    suite: str, name: str, text: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=sentence):
        bench_suite(tmp_path, suite, [("a", tmp_path)], tmp_path / "out")


def test_the_verb(omni: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    (tmp_path / "md/p.pdf_1.md").write_text(TITLE)
    argv = ["bench", str(omni), "--suite", "omnidocbench", "--candidate", f"mine={tmp_path / 'md'}", *out]
    assert main(argv) == 0
    assert "| mine" in capsys.readouterr().out and (tmp_path / "out/suite.md").is_file()
    for wrong, sentence in (
        (["bench", str(tmp_path / "md"), *argv[2:]], "is no OmniDocBench, there is no OmniDocBench.json"),
        (["bench", "nothere", *argv[2:]], "nothere: there is no such folder"),
        ([*argv[:5], str(omni), *out], "holds no page of the suite, as p.pdf_1.md would be one"),
        ([*argv, "--engine", "tesseract"], "--suite takes folders of answers"),
    ):
        assert main(wrong) == 2
        assert sentence in capsys.readouterr().err
