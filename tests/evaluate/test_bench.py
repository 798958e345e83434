"""`ocr-rl bench`: the public figures, by hand; killed and gone on with; what is missing, broken or mixed up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pypdfium2 as pdfium
import pytest

from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate import bench as module
from ocr_rl.evaluate import candidates, journal
from ocr_rl.evaluate.bench import bench, with_baseline
from ocr_rl.evaluate.report import read_candidates
from ocr_rl.evaluate.transcribe import attempts
from ocr_rl.pages.dataset import load_dataset, write_tests
from ocr_rl.pages.raster import ImageRef, PageError
from ocr_rl.pages.workers import Refusal
from ocr_rl.rollout.flow import Group, Prompt, Sample
from ocr_rl.rollout.sampler.base import Sampling

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "olmocr_bench" / "sample_data"
Script = Callable[[Page, Prompt, Sampling], str]  # a transcript; one that ends in "..." was cut off


def make_pdf(path: Path, num_pages: int, width_pt: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = pdfium.PdfDocument.new()
    for _ in range(num_pages):
        document.new_page(width_pt, 100)
    document.save(path)
    document.close()


def a_test(id: str, pdf: str, page: int = 1, **fields: Any) -> dict[str, Any]:
    return {"pdf": pdf, "page": page, "id": id, "type": "present", "text": "hello world"} | fields


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """a.pdf (tests in two files), sub/b.pdf (a test on page 2 alone), c.pdf (a baseline test of its own)."""
    folder = tmp_path / "data"
    make_pdf(folder / "pdfs/a.pdf", 1, 100)
    make_pdf(folder / "pdfs/sub/b.pdf", 2, 101)
    make_pdf(folder / "pdfs/c.pdf", 1, 102)
    write_tests(folder / "one.jsonl", [a_test("a1", "a.pdf"), a_test("b1", "sub/b.pdf", 2, type="absent")])
    write_tests(
        folder / "two.jsonl",
        [a_test("a2", "a.pdf", text="good night"), {"pdf": "c.pdf", "page": 1, "id": "c1", "type": "baseline"}],
    )
    return folder


def write(folder: Path, **texts: str) -> Path:
    """Transcripts by name without ".md"; "__" stands for a slash."""
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def whole(folder: Path, **more: str) -> Path:
    texts = {
        "a_pg1_repeat1": "hello world",
        "sub__b_pg1_repeat1": "some words",
        "sub__b_pg2_repeat1": "some words",
        "c_pg1_repeat1": "other words",
    }
    return write(folder, **(texts | more))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grading without worker processes, whose start is most of a small run."""
    monkeypatch.setattr(module, "guarded", lambda function, jobs, **_: [(job, function(job)) for job in jobs])


# --- the public figures -----------------------------------------------------------------------------------------------


def test_a_baseline_test_is_added_to_each_pdf_without_one(data: Path) -> None:
    pages = with_baseline(load_dataset(data), data / "pdfs")
    assert [(page.pdf.name, page.number, [check.id for check in page.checks]) for page in pages] == [
        ("a.pdf", 1, ["a1", "a2", "a.pdf_baseline"]),
        ("c.pdf", 1, ["c1"]),
        ("b.pdf", 1, ["sub/b.pdf_baseline"]),
        ("b.pdf", 2, ["b1"]),
    ]
    assert pages[2].id == pages[3].id.replace(":p2", ":p1")


def test_files_majorities_and_the_mean_over_files(data: Path, tmp_path: Path) -> None:
    """By hand: one.jsonl 1 of 2 (a1 passes in 1 of 2 repeats, no majority), two.jsonl 1 of 2, baseline 2 of 2."""
    folder = whole(tmp_path / "mine", a_pg1_repeat2="other words")
    bench(data, out=tmp_path / "out", candidates=[str(folder)], workers=1)
    report = json.loads((tmp_path / "out/report.json").read_text())
    score = report["benchmark"]["mine"]
    assert score["by_file"] == {"baseline": [2, 2], "one.jsonl": [1, 2], "two.jsonl": [1, 2]}
    assert score["overall"]["mean"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert score["by_type"] == {"absent": 1.0, "baseline": 1.0, "present": (1 / 2 + 0) / 2}
    assert set(score["overall"]) >= {"low", "high"} and "two.jsonl" in (tmp_path / "out/report.md").read_text()


def test_two_candidates_are_compared_and_named(data: Path, tmp_path: Path, in_process: None) -> None:
    first, second = whole(tmp_path / "x/model"), whole(tmp_path / "y/model", a_pg1_repeat1="hello world, good night")
    with pytest.raises(UserError, match="two candidates are called 'model'"):
        bench(data, out=tmp_path / "out", candidates=[str(first), str(second)])
    said = bench(data, out=tmp_path / "out", candidates=[f"old={first}", f"new={second}"], workers=1)
    assert "new against old" in said and "1 / 0" in said  # one test fixed, none broken


# --- what is missing or broken ----------------------------------------------------------------------------------------


def test_a_missing_page_is_an_error_or_fails_all_its_tests(data: Path, tmp_path: Path, in_process: None) -> None:
    folder = whole(tmp_path / "mine")
    (folder / "sub/b_pg2_repeat1.md").unlink()
    (folder / "c_pg1_repeat1.md").unlink()
    with pytest.raises(UserError, match=r"no transcript of 2 of 4 pages, the first is c_pg1_repeat1\.md"):
        bench(data, out=tmp_path / "out", candidates=[str(folder)])
    said = bench(data, out=tmp_path / "out", candidates=[str(folder)], missing="fail", workers=1)
    rows = {row.page[-2:] + row.text: row for row in read_candidates(tmp_path / "out/report.json")["mine"]}
    absent = rows["p2"].checks[0]  # nothing was found in an empty text, but there is no text
    assert (absent.id, absent.passed, absent.why) == ("b1", False, "no transcript: there is no file for this page")
    assert "b.pdf, page 2: there is no file for this page" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "name at least one"),
        ({"candidates": ["nowhere"]}, "nowhere: there is no such folder"),
        ({"models": ["nano"], "repeats": 0}, "--repeats must be at least 1"),
        ({"models": ["nano"], "repeats": 2, "temperature": 0.0}, "gives one transcript 2 times"),
        ({"models": ["nano"], "temperature": 99.0}, "--temperature must be 0"),
        ({"engines": ["tesserakt"]}, "no plug-in 'tesserakt'"),
    ],
)
def test_wrong_arguments_are_one_sentence(data: Path, tmp_path: Path, arguments: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        bench(data, out=tmp_path / "out", **arguments)


def test_a_page_that_breaks_the_grader_fails_alone(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def guarded(function: Any, jobs: Any, **_: Any) -> Iterator[Any]:
        for job in jobs:
            yield job, Refusal("it took too long") if job.page.pdf.stem == "c" else function(job)

    monkeypatch.setattr(module, "guarded", guarded)
    bench(data, out=tmp_path / "out", candidates=[str(whole(tmp_path / "mine"))])
    rows = read_candidates(tmp_path / "out/report.json")["mine"]
    why = {check.id: check.why for row in rows for check in row.checks if not check.passed}
    assert why["c1"] == "the page could not be judged: it took too long" and "sub/b.pdf_baseline" not in why
    assert "other words" in [row.text for row in rows]  # its transcript is kept for the report


# --- policies ---------------------------------------------------------------------------------------------------------


class FakePrompter:
    """One token a character; a page too odd to be drawn is refused."""

    banned_ids = ()

    def prompt(self, page: Page, rotation: int = 0) -> Prompt:
        if page.pdf.stem == "odd":
            raise PageError(page.pdf, page.number, "it is odd")
        image = ImageRef(pdf=page.pdf, number=page.number, longest_px=64, rotation=rotation)
        return Prompt(page_id=page.id, image=image, token_ids=(1,), expanded_ids=(1,))


class ScriptedSampler:
    """Says what the script says, and remembers what it was asked: (page number, temperature, rotation)."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[int, float, int]] = []

    def sample(self, asked: Sequence[tuple[Page, Prompt]], how: Sampling) -> Iterator[Group]:
        for page, prompt in reversed(asked):  # out of order, as engines may
            self.asked.append((page.number, how.temperature, prompt.image.rotation))
            text = self.script(page, prompt, how)
            ids = tuple(range(len(text)))
            sample = Sample(
                token_ids=ids,
                logprobs=(0.0,) * len(ids),
                text=text,
                finish="length" if text.endswith("...") else "stop",
                policy=0,
            )
            yield Group(page=page, prompt=prompt, samples=(sample,), temperature=how.temperature, banned_ids=())


def some_pages(count: int) -> list[Page]:
    return [Page(id=f"d:p{n}", pdf=Path("d.pdf"), number=n) for n in range(1, count + 1)]


def said(page: Page, prompt: Prompt, how: Sampling) -> str:
    return f"page {page.number} at {how.temperature}" + ("..." if how.temperature < 0.3 * (page.number - 1) else "")


def test_what_does_not_end_is_asked_for_again_hotter() -> None:
    sampler = ScriptedSampler(said)
    made = list(attempts(some_pages(3), sampler, FakePrompter(), max_tokens=99, retries=(0.2, 0.5), batch=2))
    assert [page.number for page, _ in made] == [1, 2, 3]
    assert [[attempt.temperature for attempt in found] for _, found in made] == [
        [0.0],
        [0.0, 0.2, 0.5],
        [0.0, 0.2, 0.5],
    ]
    assert [found[-1].transcript.finish for _, found in made] == ["stop", "stop", "length"]


UPSIDE_DOWN = """---
primary_language: en
is_rotation_valid: False
rotation_correction: 180
is_table: False
is_diagram: False
---
"""


def test_a_page_called_turned_is_asked_for_once_more_upright() -> None:
    def script(page: Page, prompt: Prompt, how: Sampling) -> str:
        if page.number == 1:
            return "upright" if prompt.image.rotation else UPSIDE_DOWN + "umop"
        return UPSIDE_DOWN + "for ever" + ("..." if how.temperature == 0 else "")

    sampler = ScriptedSampler(script)
    (_, first), (_, second) = attempts(some_pages(2), sampler, FakePrompter(), max_tokens=99, retries=(0.2,))
    assert [(a.rotation, a.transcript.body) for a in first] == [(0, "umop"), (180, "upright")]
    # turned once and not back again; the retry keeps the turned image
    assert [(a.rotation, a.temperature) for a in second] == [(0, 0.0), (180, 0.0), (180, 0.2)]


def test_without_retries_nothing_is_asked_twice() -> None:
    sampler = ScriptedSampler(lambda page, prompt, how: UPSIDE_DOWN + "...")
    ((_, made),) = attempts(some_pages(1), sampler, FakePrompter(), max_tokens=99)
    assert len(made) == 1


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch, in_process: None) -> Callable[[Script], ScriptedSampler]:
    """Every policy that is opened is the scripted one."""

    def scripted(script: Script) -> ScriptedSampler:
        sampler = ScriptedSampler(script)

        @contextmanager
        def opened(model: str, engine: str) -> Iterator[Any]:
            yield SimpleNamespace(sampler=sampler, prompter=FakePrompter(), settings=SimpleNamespace(max_tokens=99))

        monkeypatch.setattr(candidates, "_open_policy", opened)
        return sampler

    return scripted


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return str(folder)


def test_first_attempts_and_retries_are_scored_apart(data: Path, tmp_path: Path, policy: Any, model: str) -> None:
    policy(lambda page, prompt, how: "hello world, good night" if how.temperature else "he...")
    text = bench(data, out=tmp_path / "out", models=[model], workers=1)
    scores = json.loads((tmp_path / "out/report.json").read_text())["benchmark"]
    assert scores["mine, first attempt"]["by_file"]["two.jsonl"] == [1, 2]
    assert scores["mine, with retries"]["by_file"]["two.jsonl"] == [2, 2]
    assert "4 of 4 pages asked again, 0 of them turned" in text and "tokens a second" in text


def test_repeats_are_sampled_and_the_majority_counts(data: Path, tmp_path: Path, policy: Any, model: str) -> None:
    sampler = policy(lambda page, prompt, how: "hello world" if how.seed in (0, 2000) else "other words")
    bench(data, out=tmp_path / "out", models=[model], repeats=3, workers=1)
    assert len(sampler.asked) == 12 and {heat for _, heat, _ in sampler.asked} == {0.7}
    score = json.loads((tmp_path / "out/report.json").read_text())["benchmark"]["mine"]
    assert score["by_file"]["one.jsonl"] == [1, 2]  # a1 in 2 of 3 passes; b1, absent, in 1 of 3 fails
    assert score["by_type"]["absent"] == pytest.approx(1 / 3)


def test_a_page_that_cannot_be_drawn_is_named_and_fails(data: Path, tmp_path: Path, policy: Any, model: str) -> None:
    (data / "pdfs/a.pdf").rename(data / "pdfs/odd.pdf")
    for file in ("one.jsonl", "two.jsonl"):
        (data / file).write_text((data / file).read_text().replace('"a.pdf"', '"odd.pdf"'))
    policy(lambda page, prompt, how: "hello world")
    text = bench(data, out=tmp_path / "out", models=[model], workers=1)
    rows = read_candidates(tmp_path / "out/report.json")["mine"]
    failed = [row for row in rows if row.finish == "abort"]
    assert len(failed) == 1 and not any(check.passed for check in failed[0].checks)
    assert "odd.pdf, page 1: it is odd" in text


# --- killed and gone on with ------------------------------------------------------------------------------------------


def killed_after(rows: int) -> Callable[[Path, Any], None]:
    """`journal.append` in a process that dies in the middle of the line after `rows` whole ones."""
    whole = journal.append
    left = [rows]

    def append(path: Path, row: Any) -> None:
        if left[0] == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(row)[:-5])
            raise KeyboardInterrupt
        left[0] -= 1
        whole(path, row)

    return append


def test_a_killed_run_goes_on_and_does_nothing_twice(
    data: Path, tmp_path: Path, policy: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(page: Page, prompt: Prompt, how: Sampling) -> str:
        return f"hello world {page.pdf.name} {page.number}"

    policy(script)
    bench(data, out=tmp_path / "whole", models=[model], workers=1)
    sampler = policy(script)
    for rows in (3, 3):  # killed in the fourth answer, then in the third verdict, each time in the middle of a line
        with monkeypatch.context() as patch:
            patch.setattr(journal, "append", killed_after(rows))
            with pytest.raises(KeyboardInterrupt):
                bench(data, out=tmp_path / "out", models=[model], workers=1)
    bench(data, out=tmp_path / "out", models=[model], workers=1)
    assert read_candidates(tmp_path / "out/report.json") == read_candidates(tmp_path / "whole/report.json")
    for name in ("answers", "verdicts"):
        lines = (tmp_path / f"out/candidates/mine/{name}.jsonl").read_text().splitlines()
        assert len(lines) == len({json.loads(line)["page"] for line in lines}) == 4

    asked = len(sampler.asked)
    monkeypatch.setattr(journal, "append", killed_after(0))
    bench(data, out=tmp_path / "out", models=[model], workers=1)
    assert len(sampler.asked) == asked


def test_a_run_does_not_go_on_with_other_settings(data: Path, tmp_path: Path, policy: Any, model: str) -> None:
    policy(lambda page, prompt, how: "hello world")
    bench(data, out=tmp_path / "out", models=[model], workers=1)
    with pytest.raises(UserError, match="reading 'compatible', which is now 'strict'"):
        bench(data, out=tmp_path / "out", models=[model], reading="strict")
    with pytest.raises(UserError, match="repeats 1, which is now 2"):
        bench(data, out=tmp_path / "out", models=[model], repeats=2)
    write_tests(data / "three.jsonl", [a_test("a3", "a.pdf")])
    with pytest.raises(UserError, match="begun with tests"):
        bench(data, out=tmp_path / "out", models=[model])


def test_an_edited_transcript_is_judged_again(data: Path, tmp_path: Path, in_process: None) -> None:
    folder = whole(tmp_path / "mine")
    for text, passed in (("hello world", True), ("goodbye", False), ("hello world", True)):
        write(folder, a_pg1_repeat1=text)
        bench(data, out=tmp_path / "out", candidates=[str(folder)], workers=1)
        assert read_candidates(tmp_path / "out/report.json")["mine"][0].checks[0].passed is passed


def test_a_journal_ends_where_the_last_whole_line_does(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert journal.resume(path) == []
    journal.append(path, {"text": "\ud800 ü"})
    with path.open("ab") as file:
        file.write('{"text": "ü'.encode()[:-1])
    assert journal.resume(path) == [{"text": "\ud800 ü"}]
    journal.append(path, {"text": "b"})
    assert journal.resume(path) == [{"text": "\ud800 ü"}, {"text": "b"}]
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(UserError, match="line 2: not JSON"):
        journal.resume(path)


# --- real data --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared collection of real PDFs is not beside the checkout")
def test_the_public_sample_and_its_outputs(tmp_path: Path) -> None:
    bench(SHARED, out=tmp_path, candidates=[str(SHARED / "olmocr_pipeline")], workers=2)
    score = json.loads((tmp_path / "report.json").read_text())["benchmark"]["olmocr_pipeline"]
    tests = {file.name: file.read_text("utf-8").splitlines() for file in SHARED.glob("*.jsonl")}
    own = {json.loads(line)["pdf"] for lines in tests.values() for line in lines if '"baseline"' in line}
    num_pdfs = len(list((SHARED / "pdfs").rglob("*.pdf")))
    assert {file: total for file, (_, total) in score["by_file"].items()} == {
        **{name: sum(bool(line.strip()) for line in lines) for name, lines in tests.items()},
        "baseline": num_pdfs - len(own),
    }
