"""A server as a candidate of a benchmark, and subsets that open only what they need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocr_rl.cli import main
from ocr_rl.contract import Transcript, UserError
from ocr_rl.evaluate import bench as bench_module
from ocr_rl.evaluate.bench import bench
from ocr_rl.evaluate.bench_notes import cost_note
from ocr_rl.evaluate.candidates import Answer
from ocr_rl.evaluate.endpoint_candidate import endpoint_candidate
from ocr_rl.evaluate.transcribe import Attempt
from ocr_rl.pages.dataset import write_tests
from ocr_rl.pages.subset import Subset, load_subset
from tests.evaluate.scripted import a_test, make_pdf
from tests.transcription.fake_chat import FakeChat, completion


@pytest.fixture(autouse=True)
def judged_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "guarded", lambda function, jobs, **_: [(job, function(job)) for job in jobs])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for number, name in enumerate(("a.pdf", "b.pdf")):
        make_pdf(folder / "pdfs" / name, 1, 100 + number)
    write_tests(folder / "one.jsonl", [a_test("a1", "a.pdf"), a_test("b1", "b.pdf", text="good night")])
    return folder


def test_a_server_is_judged_and_its_cost_stands_in_the_report(fake: FakeChat, data: Path, tmp_path: Path) -> None:
    fake.write = lambda body: completion("hello world")
    spec = f"served={fake.url},longest_px=64,price=2/10,preset=reducto/RolmOCR"
    report = bench(data, out=tmp_path / "out", endpoints=[spec])
    assert "0.00011 a page: 20 tokens of prompt at 2 and 7 of transcript at 10 a million" in report
    assert "fake at 127.0.0.1" in report and "a page image of 64 px" in report
    rows = [json.loads(line) for line in (tmp_path / "out/candidates/served/answers.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and rows[0]["attempts"][0]["prompt_tokens"] == 20
    fake.asked.clear()
    assert bench(data, out=tmp_path / "out", endpoints=[spec]).split("date")[0] == report.split("date")[0]
    assert not fake.asked  # nothing is read twice


def test_a_server_that_counts_no_tokens_has_no_cost() -> None:
    attempt = Attempt(
        transcript=Transcript(raw="a", body="a", finish="stop", num_tokens=0), temperature=0.0, rotation=0
    )
    notes = cost_note("a", [Answer(page="p", repeat=1, attempts=(attempt,))], {"prices": (1.0, 2.0)})
    assert notes == {"a, cost": "not known, for the server counts no tokens"}


def test_a_killed_bench_goes_on_with_the_same_rows(fake: FakeChat, data: Path, tmp_path: Path) -> None:
    fake.write = lambda body: completion(f"hello world {body['seed']}")
    how = {"endpoints": [f"served={fake.url},longest_px=64"], "repeats": 2}
    bench(data, out=tmp_path / "whole", **how)
    bench(data, out=tmp_path / "out", **how)
    place = tmp_path / "out/candidates/served/answers.jsonl"
    lines = place.read_text().splitlines(keepends=True)
    place.write_text("".join(lines[:2]) + lines[2][:30])
    fake.asked.clear()
    bench(data, out=tmp_path / "out", **how)
    assert len(fake.asked) == 2
    texts = [
        {
            (row["page"], row["repeat"]): row["attempts"][0]["transcript"]["raw"]
            for row in map(json.loads, (tmp_path / name / "candidates/served/answers.jsonl").read_text().splitlines())
        }
        for name in ("whole", "out")
    ]
    assert texts[0] == texts[1] and len(texts[0]) == 4


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere", "is no address"),
        ("http://h,price=1", "price is IN/OUT"),
        ("http://h,price=1/-2", "price is IN/OUT"),
        ("http://h,longest_px=0", "longest_px is a whole number from 1 to 8192"),
        ("http://h,size=3", "'size=3' is none of model, preset"),
        ("http://h,preset=olm", "'olm' is no known model"),
    ],
)
def test_wrong_words_are_refused(spec: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        endpoint_candidate(spec, repeats=1, temperature=0.0, preset=None, instruction=None, workers=1)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """1,000 documents of which three are PDFs: whoever opens another one finds a fault."""
    folder = tmp_path / "many"
    (folder / "pdfs").mkdir(parents=True)
    good = {7: "table", 500: "table", 900: "present"}
    for number in range(1000):
        path = folder / f"pdfs/{number:04}.pdf"
        if number in good:
            make_pdf(path, 1, 100 + number % 50)
        else:
            path.write_text("not to be opened")
    tests = [a_test(f"t{number}", f"{number:04}.pdf") for number in range(1000) if number not in good]
    write_tests(folder / "all.jsonl", tests)
    table = {"page": 1, "type": "table", "cell": "x"}
    wanted = [{**table, "id": "c7", "pdf": "0007.pdf"}, {**table, "id": "c500", "pdf": "0500.pdf"}]
    write_tests(folder / "tables.jsonl", wanted)
    write_tests(folder / "late.jsonl", [a_test("late", "0900.pdf"), a_test("also", "0007.pdf", text="x")])
    return folder


@pytest.mark.parametrize(
    ("subset", "tests"),
    [
        (Subset(limit=20, types=frozenset({"table"})), ["c7", "c500"]),
        (Subset(limit=1, types=frozenset({"table"})), ["c7"]),
        (Subset(files=frozenset({"late.jsonl"})), ["also", "late"]),
        (Subset(files=frozenset({"tables"}), limit=5), ["c7", "c500"]),
        (Subset(files=frozenset({"late"}), types=frozenset({"present"}), tags=frozenset({"tables"})), ["also"]),
    ],
)
def test_a_subset_opens_only_what_it_needs(many: Path, subset: Subset, tests: list[str]) -> None:
    pages, file_of = load_subset(many, subset)
    assert [check.id for page in pages for check in page.checks] == tests
    assert sorted(file_of) == sorted(tests)


def test_a_bench_of_tables_opens_two_documents_of_a_thousand(
    fake: FakeChat, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.write = lambda body: completion("hello world")
    opened: list[str] = []
    plain = Path.open

    def counted(self: Path, *how: Any, **more: Any) -> Any:
        opened.append(self.name)
        return plain(self, *how, **more)

    monkeypatch.setattr(Path, "open", counted)
    argv = ["bench", str(many), "--endpoint", f"{fake.url},longest_px=64", "--limit", "20", "--type", "table"]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    assert {name for name in opened if name.endswith(".pdf")} == {"0007.pdf", "0500.pdf"} and len(fake.asked) == 2


def test_a_limit_alone_takes_the_first_pages_with_all_their_tests(data: Path) -> None:
    pages, _ = load_subset(data, Subset(limit=1))
    assert [(page.pdf.name, [check.id for check in page.checks]) for page in pages] == [("a.pdf", ["a1"])]
    assert load_subset(data, Subset())[0][:1] == pages
    assert len(load_subset(data, Subset(limit=9))[0]) == 2


def test_another_subset_is_named_where_a_bench_goes_on(fake: FakeChat, data: Path, tmp_path: Path) -> None:
    fake.write = lambda body: completion("hello world")
    how = {"out": tmp_path / "out", "endpoints": [f"{fake.url},longest_px=64"]}
    bench(data, subset=Subset(limit=1), **how)
    with pytest.raises(UserError, match="begun with subset 'the first 1 pages', which is now 'the first 2 pages'"):
        bench(data, subset=Subset(limit=2), **how)
    with pytest.raises(UserError, match="begun with subset 'the first 1 pages', which is now 'all pages'"):
        bench(data, **how)


def test_tags_of_references_count_too(data: Path) -> None:
    front = "---\nprimary_language: de\nis_rotation_valid: True\nrotation_correction: 0\nis_table: True\n"
    (data / "pdfs/b.md").write_text(front + "is_diagram: False\n---\ngood night")
    (page,) = load_subset(data, Subset(limit=1, tags=frozenset({"is_table=True"})))[0]
    assert page.pdf.name == "b.pdf"


def test_the_command_says_what_fits_nothing(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    argv = ["bench", str(data), "--engine", "text_layer", "--type", "table", "math", "--out", str(tmp_path / "out")]
    assert main(argv) == 2
    assert "no page fits type math, table" in capsys.readouterr().err


def test_the_command_benches_a_server(
    fake: FakeChat, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.write = lambda body: completion("hello world")
    argv = ["bench", str(data), "--endpoint", f"{fake.url},longest_px=64", "--limit", "1", "--out", str(tmp_path / "o")]
    assert main(argv) == 0
    assert "the first 1 pages" in capsys.readouterr().out and len(fake.asked) == 1
