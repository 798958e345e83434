"""People's own PDFs: what can be trusted becomes tests, what cannot is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.pages.dataset import check_dataset, load_dataset
from ocr_rl.pages.imported import import_folder
from ocr_rl.pages.mined import mine_folder
from ocr_rl.pages.split import write_split
from ocr_rl.pages.synth.make import Looks, make_document, write_dataset
from ocr_rl.pages.text_layer import layers
from tests.pages.pdfs import FOOTER, HEADER, HIDDEN, SEEN, block, pdf


def test_what_may_be_a_running_header_is_not_tested(tmp_path: Path) -> None:
    body = block(*SEEN, y=650)
    (tmp_path / "own").mkdir()
    for name, y, foot in (("outer", 750, 40), ("gap", 705, 85)):  # 5 % and 11 % from the edges
        page = f"{block(HEADER, y=y)} {body} {block(FOOTER, y=foot)}"
        (tmp_path / "own" / f"{name}.pdf").write_bytes(pdf(page, page))
    mine_folder(tmp_path / "own", tmp_path / "out", 0)
    tests = (tmp_path / "out" / "mined.jsonl").read_text(encoding="utf-8")
    assert (
        '"present"' in tests and "harbour committee" not in tests and "members" not in tests and "absent" not in tests
    )
    first, *rest = layers(tmp_path / "own" / "gap.pdf")[0].lines
    assert first.margin and rest[-1].margin and not any(line.margin for line in rest[:-1])


def test_own_pdfs_become_pages_whose_truth_we_know(tmp_path: Path) -> None:
    write_dataset("book", n=6, seed=2, out=tmp_path / "made", pages_per_document=6)
    truth = {page.number: page.reference for page in load_dataset(tmp_path / "made")}
    own = tmp_path / "own"
    own.mkdir()
    (own / "book.pdf").write_bytes(next((tmp_path / "made/pdfs").glob("*.pdf")).read_bytes())
    harvest = mine_folder(own, tmp_path / "out", 0)
    assert harvest.pages == 6
    assert check_dataset(tmp_path / "out") == []
    from ocr_rl.text.checks import judge

    pages = load_dataset(tmp_path / "out")
    verdicts = [verdict for page in pages for verdict in judge(page.checks, truth[page.number] or "", "strict")]
    # Footnotes stand at the end of a reference and inside a page's text; ligatures are one letter in some layers.
    assert sum(verdict.passed for verdict in verdicts) >= 0.95 * len(verdicts)
    assert {check.type for page in pages for check in page.checks} >= {"present", "order", "baseline"}


def test_a_scan_is_left_out_with_the_reason(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    document = make_document("letter", 1, 0, 1, Looks(scan=1.0))
    (own / "scan.pdf").write_bytes(document.pdf)
    (own / "torn.pdf").write_bytes(document.pdf[:300])
    (own / "good.pdf").write_bytes(pdf(block(*SEEN)))
    harvest = mine_folder(own, tmp_path / "out", 0)
    assert harvest.pages == 1
    reasons = {reason.split(": ")[0].rsplit("/", 1)[-1]: reason for reason in harvest.left_out}
    assert "most of the page is a picture" in reasons["scan.pdf, page 1"]
    assert "the file is truncated: its end is missing" in reasons["torn.pdf"]  # as every verb says
    assert (tmp_path / "out/left_out.txt").read_text().splitlines() == list(harvest.left_out)


def test_a_transcript_beside_a_pdf_is_its_reference(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for k, kind in enumerate(("paper", "ledger", "office")):
        document = make_document(kind, 4, k, 1)
        (own / f"{kind}.pdf").write_bytes(document.pdf)
        (own / f"{kind}.md").write_text(document.front_matter[0].to_text() + document.references[0], encoding="utf-8")
    (own / "alone.pdf").write_bytes(make_document("letter", 4, 9, 1).pdf)
    harvest = import_folder(own, tmp_path / "out", 0)
    assert harvest.pages == 3
    assert [reason.rsplit(": ")[-1] for reason in harvest.left_out] == ["there is no alone.md beside it"]
    assert check_dataset(tmp_path / "out") == []
    pages = load_dataset(tmp_path / "out")
    assert all(page.reference and not page.reference.startswith("---") for page in pages)
    types = {check.type for page in pages for check in page.checks}
    assert types >= {"present", "order", "table", "math", "format", "baseline"}


def test_a_bench_folder_is_taken_over_less_what_is_wrong(tmp_path: Path) -> None:
    write_dataset("form", n=2, seed=3, out=tmp_path / "bench")
    file = tmp_path / "bench/form.jsonl"
    tests = file.read_text(encoding="utf-8").splitlines()
    wrong = {**json.loads(tests[0]), "id": "wrong", "type": "present", "text": "nobody wrote this sentence"}
    keep = {key: wrong[key] for key in ("pdf", "page", "id", "type", "text")}
    file.write_text("\n".join([*tests, json.dumps(keep), "not json"]), encoding="utf-8")
    harvest = import_folder(tmp_path / "bench", tmp_path / "out", 0)
    assert harvest.tests == len(tests)
    assert [reason.split(": ", 1)[1] for reason in harvest.left_out][0] == "the page's own transcript fails it"
    assert len(harvest.left_out) == 2
    assert check_dataset(tmp_path / "out") == []


@pytest.mark.parametrize(("verb", "nor"), [("mine", ""), ("import", " (nor parquet)")])
def test_a_folder_without_pdfs_is_one_sentence(tmp_path: Path, verb: str, nor: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ocr_rl.cli", "pages", verb, str(tmp_path), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"there is no PDF, PNG, JPEG, WebP or TIFF{nor} in this folder" in done.stderr


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/a.pdf").write_bytes(make_document("title", 1, 0, 1).pdf)
    with pytest.raises(UserError, match="is not empty"):
        mine_folder(tmp_path / "own", tmp_path / "own", 0)


def test_a_contact_sheet_shows_the_pages(tmp_path: Path) -> None:
    from PIL import Image

    write_dataset("letter", n=7, seed=1, out=tmp_path / "made")
    out = tmp_path / "sheet.png"
    assert main(["pages", "show", str(tmp_path / "made"), "--cell-px", "100", "--out", str(out)]) == 0
    with Image.open(out) as image:
        assert image.size == (6 * 110 + 10, 2 * 110 + 10)  # seven pages: six in the first row, one in the second


@pytest.mark.parametrize("verb", [mine_folder, import_folder])
def test_no_pdf_has_the_name_of_anothers_page(verb, tmp_path: Path) -> None:
    for folder, name, pages in (("a", "x_pg1", 1), ("b", "x", 2)):
        (tmp_path / "own" / folder).mkdir(parents=True)
        document = make_document("book", 3, 0, pages, Looks())
        (tmp_path / "own" / folder / f"{name}.pdf").write_bytes(document.pdf)
        (tmp_path / "own" / folder / "x_pg1.md").write_text(document.references[0], encoding="utf-8")
    harvest = verb(tmp_path / "own", tmp_path / "out", 0)
    assert not [why for why in harvest.left_out if "page 2: has no transcript" not in why]
    pages_by_name = {page.pdf.name: page for page in load_dataset(tmp_path / "out")}
    for name, pages in (("x.pdf", 2), ("x_pg1-2.pdf", 1)):
        assert pages_by_name[name].reference == make_document("book", 3, 0, pages, Looks()).references[0]


def test_a_pdf_without_a_transcript_is_not_given_anothers(tmp_path: Path) -> None:
    for folder, name, pages in (("a", "x", [block(*SEEN)] * 2), ("b", "x_pg1", [block(*SEEN, "Something else")])):
        (tmp_path / "own" / folder).mkdir(parents=True)
        (tmp_path / "own" / folder / f"{name}.pdf").write_bytes(pdf(*pages))
    (tmp_path / "own" / "a" / "x_pg1.md").write_text("\n\n".join(SEEN), encoding="utf-8")
    mine_folder(tmp_path / "own", tmp_path / "out", 0)
    assert check_dataset(tmp_path / "out") == []
    assert {page.pdf.name: bool(page.reference) for page in load_dataset(tmp_path / "out")} == {
        "x.pdf": True,
        "x_pg1-2.pdf": False,
    }


def test_a_bench_folder_keeps_its_files(tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    (bench / "pdfs").mkdir(parents=True)
    (bench / "pdfs" / "a.pdf").write_bytes(make_document("book", 3, 0, 1, Looks()).pdf)
    for name, text in (("one", "alpha beta"), ("two", "line\u2028separator"), ("half", "\ud800")):
        test = {"pdf": "a.pdf", "page": 1, "id": name, "type": "present", "text": text}
        (bench / f"{name}.jsonl").write_text(json.dumps(test, ensure_ascii=name == "half") + "\n", encoding="utf-8")
    harvest = import_folder(bench, tmp_path / "out", 0)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jsonl")) == ["one.jsonl", "two.jsonl"]
    assert len(harvest.left_out) == 1


def test_mined_pages_bound_how_much_a_transcript_may_say(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.pdf").write_bytes(make_document("book", 3, 0, 1, Looks()).pdf)
    mine_folder(tmp_path / "own", tmp_path / "out", 0)
    (page,) = load_dataset(tmp_path / "out")
    assert any(getattr(check, "max_length", None) for check in page.checks)


def test_a_bench_folder_keeps_its_transcripts_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    (bench / "pdfs").mkdir(parents=True)
    (bench / "pdfs" / "two.pdf").write_bytes(pdf(block(*SEEN), block(*SEEN)))
    (bench / "pdfs" / "two_pg2.md").write_text(SEEN[0], encoding="utf-8")
    (bench / "pdfs" / "bare.pdf").write_bytes(pdf(block(*SEEN)))
    test = {"pdf": "two.pdf", "page": 2, "type": "present"}
    tests = [{**test, "id": "good", "text": SEEN[0]}, {**test, "id": "bad", "text": HIDDEN}]
    (bench / "a.jsonl").write_text("\n".join(map(json.dumps, tests)), encoding="utf-8-sig")
    os.mkfifo(bench / "pipe.jsonl")
    harvest = import_folder(bench, tmp_path / "out", 0)
    (page,) = load_dataset(tmp_path / "out")
    assert page.reference == SEEN[0] and [check.id for check in page.checks] == ["good"]
    whys = ("own transcript fails it", "pipe.jsonl: this is not a file", "bare.pdf: no test and no transcript")
    assert len(harvest.left_out) == len(whys) and all(any(why in line for line in harvest.left_out) for why in whys)


@pytest.mark.parametrize("verb", ["mine", "import"])
def test_where_no_page_is_kept_nothing_is_written(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "scan.pdf").write_bytes(pdf(block("Page 1")))
    assert main(["pages", verb, str(tmp_path / "own"), "--out", str(tmp_path / "new" / "out")]) == 2
    reason, sentence = capsys.readouterr().err.splitlines()
    assert reason.startswith("left out: ") and "scan.pdf" in reason
    assert sentence == f"ocr-rl: {tmp_path / 'own'}: no page of it can be used, so nothing was written; see above why."
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("transcript", [True, False])
def test_a_page_that_cannot_be_drawn_gives_no_tests(tmp_path: Path, transcript: bool) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "wide.pdf").write_bytes(pdf(block(*SEEN), box="0 0 20000 20000"))
    if transcript:
        (tmp_path / "own" / "wide.md").write_text("\n\n".join(SEEN), encoding="utf-8")
    harvest = mine_folder(tmp_path / "own", tmp_path / "out", 0)
    assert harvest.tests == 0 and "absurdly large" in harvest.left_out[0]


def test_a_file_name_that_is_not_utf8_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / os.fsdecode(b"caf\xe9.pdf")).write_bytes(pdf(block(*SEEN)))
    with pytest.raises(UserError, match=r"caf\\xe9.pdf: this file's name is not UTF-8"):
        mine_folder(tmp_path / "own", tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()


def test_half_a_character_in_a_test_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_dataset("letter", n=4, seed=1, out=tmp_path / "made")
    half = {"pdf": next((tmp_path / "made/pdfs").glob("*.pdf")).name, "page": 1, "id": "half", "type": "present"}
    (tmp_path / "made" / "half.jsonl").write_text(json.dumps({**half, "text": "\ud800"}), encoding="utf-8")
    with pytest.raises(UserError, match="half a character"):
        write_split(tmp_path / "made", {"a": 0.5, "b": 0.5}, 0, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


def test_references_in_capitals_are_references(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for k in range(8):
        (tmp_path / "own" / f"{k}.pdf").write_bytes(pdf(block(*SEEN, str(k))))
        (tmp_path / "own" / f"{k}.MD").write_text("\n\n".join([*SEEN, str(k)]), encoding="utf-8")
    mine_folder(tmp_path / "own", tmp_path / "out", 0)
    assert all(page.reference for page in load_dataset(tmp_path / "out"))
    for path in (tmp_path / "out" / "pdfs").glob("*.md"):
        path.rename(path.with_suffix(".MD"))
    write_split(tmp_path / "out", {"a": 0.5, "b": 0.5}, 0, tmp_path / "parts")
    parts = [page for name in "ab" for page in load_dataset(tmp_path / "parts" / name)]
    assert len(parts) == 8 and all(page.reference for page in parts)


def test_a_manifest_says_where_the_pages_came_from(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.pdf").write_bytes(pdf(block(*SEEN)))
    (tmp_path / "own" / "a.md").write_text("\n\n".join(SEEN), encoding="utf-8")
    for verb, work in (("mine", mine_folder), ("import", import_folder)):
        work(tmp_path / "own", tmp_path / verb, 7)
        manifest = json.loads((tmp_path / verb / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["made_by"] == {"verb": verb, "source": "own", "seed": 7}
        assert "pdfs/a.pdf" in manifest["files"] and "left_out.txt" in manifest["files"]


def test_a_missing_file_to_draw_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pages", "render", str(tmp_path / "nope.pdf"), "--out", str(tmp_path / "out")]) == 2
    assert "nope.pdf: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["pages", "check", "nowhere"]])
def test_a_reader_that_goes_away_ends_a_verb_quietly(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "ocr_rl.cli", *words], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode in (0, 141) and done.stderr == b""  # argparse itself forgives, if Python does not buffer
