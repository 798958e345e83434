"""The review: decisions last, tests follow them, other sites cannot decide, and whatever is shown is text."""

from __future__ import annotations

import errno
import http.client
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.local_web import Wrong, as_json
from ocr_rl.pages.dataset import check_dataset, load_dataset, write_tests
from ocr_rl.review.decisions import Decision, edited, note, read_decisions, reviewed, standing
from ocr_rl.review.desk import apply_decisions, open_desk
from ocr_rl.review.run import review_tests
from ocr_rl.review.web import Review
from tests.evaluate.scripted import make_pdf

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
OURS = {"X-Ocr-Rl": "1"}


def a_test(id_: str, **more: Any) -> dict[str, Any]:
    return {"pdf": "a.pdf", "page": 1, "id": id_, "type": "present", "text": "hello", **more}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three tests in one file and one in another."""
    folder = tmp_path / "data"
    make_pdf(folder / "pdfs/a.pdf", 2, 100)
    write_tests(folder / "one.jsonl", [a_test("a"), a_test("b", text=HOSTILE), a_test("c", page=2)])
    write_tests(folder / "two.jsonl", [a_test("d", type="absent")])
    return folder


# ---- decisions


def test_the_last_decision_of_a_test_counts(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    note(journal, Decision(what="drop", was=a_test("a")))
    note(journal, Decision(what="edit", was=a_test("b"), test=a_test("b", text="bye")))
    note(journal, Decision(what="keep", was=a_test("a")))
    decisions = read_decisions(journal)
    assert {id_: decision.what for id_, decision in decisions.items()} == {"a": "keep", "b": "edit"}
    assert list(reviewed([a_test("a"), a_test("b"), a_test("c")], decisions)) == [
        a_test("a"),
        a_test("b", text="bye"),
        a_test("c"),
    ]


def test_a_decision_says_nothing_of_a_test_that_was_changed_since() -> None:
    decisions = {"a": Decision(what="drop", was=a_test("a", text="old"))}
    assert standing(decisions, a_test("a")) is None
    assert list(reviewed([a_test("a")], decisions)) == [a_test("a")]
    taken_back = {"a": Decision(what="open", was=a_test("a"))}
    assert standing(taken_back, a_test("a")) is None


def test_a_line_that_a_kill_cut_is_dropped_and_the_rest_goes_on(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    note(journal, Decision(what="drop", was=a_test("a")))
    with journal.open("a") as file:
        file.write('{"what": "keep", "was": {"id"')
    assert list(read_decisions(journal)) == ["a"]
    note(journal, Decision(what="keep", was=a_test("b")))
    assert list(read_decisions(journal)) == ["a", "b"]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"what": "keep"}',
        '{"what": "keep", "was": {}}',
        '{"what": "burn", "was": {"id": "a"}}',
        '{"what": "edit", "was": {"id": "a"}}',
        '{"what": "edit", "was": {"id": "a"}, "test": "x"}',
    ],
)
def test_a_line_that_is_no_decision_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text(line + "\n")
    with pytest.raises(UserError, match="journal:1: is no decision of a review; give another --journal"):
        read_decisions(tmp_path / "journal")


@pytest.mark.parametrize("content", ["my notes", "my notes\n", '{"a": 1}', "{"])
def test_a_file_of_somebodys_is_left_alone(content: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = data / "notes.txt"
    notes.write_text(content)
    code = main(["pages", "review", str(data), "--journal", str(notes), "--apply", "--in-place"])
    assert notes.read_text() == content
    if content != "{":  # which a kill may have left of a line
        assert code == 2 and "notes.txt:1: is no decision" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "This is not JSON (Expecting property name"),
        ("[]", "A test is a JSON object"),
        ('{"id": "\\ud800"}', "without halves of characters"),
        ("[" * 100_000, "This is not JSON that anybody would write."),
        (json.dumps(a_test("z")), "'id' must stay 'a'"),
        (json.dumps(a_test("a", page=2)), "'page' must stay 1"),
        (json.dumps(a_test("a", page=True)), "'page' must stay 1"),  # equal to 1, and no page to a dataset
        (json.dumps(a_test("a", text="x\0")), "A dataset cannot hold this test: the text holds a NUL"),
        (json.dumps(a_test("a", text=" ")), "text must be a text that is not blank"),
        (json.dumps(a_test("a", txt="x")), "did you mean 'text'?"),
        (json.dumps(a_test("a", type="presnt")), "did you mean 'present'?"),
        (json.dumps(a_test("a", max_diffs=[1])), "max_diffs must be a whole number"),
    ],
)
def test_an_edit_that_is_no_test_gets_one_sentence(text: str, says: str) -> None:
    with pytest.raises(Wrong) as wrong:
        edited(text, a_test("a"))
    assert says in str(wrong.value) and "\n" not in str(wrong.value)


# ---- the dataset that follows


def decide(data: Path, **what: Any) -> Path:
    """Decisions by the test's id: keep, drop, or the text of an edit."""
    journal = data / "review.journal"
    desk = open_desk(data, None, journal)
    for k, test in enumerate(desk.tests):
        if answer := what.get(test.check.id):
            is_edit = answer not in ("keep", "drop")
            text = json.dumps({**test.fields, "text": answer}) if is_edit else None
            desk.decide(k, "edit" if is_edit else answer, text)
    desk.close()
    return journal


def texts(data: Path) -> dict[str, str]:
    return {check.id: check.text for page in load_dataset(data) for check in page.checks}  # type: ignore[attr-defined]


def test_a_new_dataset_beside_the_old_one(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = (data / "one.jsonl").read_bytes()
    decide(data, a="keep", b="drop", c="bye")
    assert main(["pages", "review", str(data), "--apply"]) == 0
    assert "3 of 4 tests are left" in capsys.readouterr().out
    assert texts(tmp_path / "data_reviewed") == {"a": "hello", "c": "bye", "d": "hello"}
    assert not check_dataset(tmp_path / "data_reviewed")
    assert (data / "one.jsonl").read_bytes() == old
    assert main(["pages", "review", str(data), "--apply"]) == 0  # nothing is written over
    assert texts(tmp_path / "data_reviewed-2") == texts(tmp_path / "data_reviewed")
    assert main(["pages", "review", str(data), "--apply", "--out", str(tmp_path / "data_reviewed")]) == 2
    assert "data_reviewed: is there already" in capsys.readouterr().err


def test_in_place_only_by_word_and_the_old_file_stays(data: Path) -> None:
    old, other = (data / "one.jsonl").read_bytes(), (data / "two.jsonl").stat().st_mtime_ns
    journal = decide(data, b="drop", c="bye")
    assert main(["pages", "review", str(data), "--apply", "--in-place"]) == 0
    assert texts(data) == {"a": "hello", "c": "bye", "d": "hello"}
    assert (data / "one.jsonl.before-review").read_bytes() == old
    assert (data / "two.jsonl").stat().st_mtime_ns == other
    desk = open_desk(data, None, journal)  # what was decided is not asked again
    assert [row["decision"] for row in desk.listed()] == ["open", "open", "edit"]  # page by page
    with pytest.raises(UserError, match="is there already, an earlier review left it"):
        decide(data, a="drop")
        apply_decisions(data, journal, None)


def test_in_place_again_and_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person edits a test, writes, edits it again and writes; two tabs that write at once keep one old file."""
    write, desks = [], []
    monkeypatch.setattr(
        "ocr_rl.review.run.Review", lambda desk, how, port: desks.append(desk) or write.append(how) or Idle
    )
    review_tests(data, None, data / "review.journal", None, in_place=True, port=0)
    ((desk,), (write_in_place,)) = desks, write
    old = (data / "one.jsonl").read_bytes()
    for text in ("once", "twice"):
        desk.decide(0, "edit", json.dumps(a_test("a", text=text)))
        with ThreadPoolExecutor(2) as tabs:
            outcomes = [tab.exception() for tab in [tabs.submit(write_in_place) for _ in range(2)]]
        assert outcomes == [None, None]  # nothing is left for the second one to change
        assert texts(data)["a"] == text
        backup = data / "one.jsonl.before-review"
        assert backup.read_bytes() == old
        old = (data / "one.jsonl").read_bytes()
        backup.unlink()
    monkeypatch.setattr("ocr_rl.review.desk.write_tests", full)
    desk.decide(0, "drop", None)
    with pytest.raises(Wrong, match=r"one.jsonl: cannot be written \(No space left on device\)"):
        write_in_place()


class Idle:
    url = ""

    @staticmethod
    def serve() -> None: ...


def full(path: Path, tests: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_no_old_file_is_written_over_by_another_process(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, backup = decide(data, b="drop"), data / "one.jsonl.before-review"
    backup.write_text("of another process, a moment ago")
    monkeypatch.setattr(type(backup), "exists", lambda path: path != backup and os.path.exists(path))
    with pytest.raises(FileExistsError):
        apply_decisions(data, journal, None)
    assert backup.read_text() == "of another process, a moment ago"


def test_suspects_are_looked_at_in_their_order(data: Path, tmp_path: Path) -> None:
    suspects = tmp_path / "suspects.jsonl"
    suspects.write_text('{"id": "c", "suspicion": 0.5, "readings": [["hullo", 2]], "else": 1}\n{"id": "a"}\n')
    rows = open_desk(data, suspects, data / "review.journal").listed()
    assert [row["test"]["id"] for row in rows] == ["c", "a"]
    assert rows[0]["figures"] == {"suspicion": 0.5, "readings": [["hullo", 2]]}
    suspects.write_text('{"id": "z"}\n')
    with pytest.raises(UserError, match="suspects.jsonl:1: .* has no test 'z'"):
        open_desk(data, suspects, data / "review.journal")


# ---- the page

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def url(data: Path) -> Iterator[str]:
    def write() -> str:
        raise Wrong("not here")

    review = Review(open_desk(data, None, data / "review.journal"), write, port=0)
    threading.Thread(target=review.serve, daemon=True).start()
    yield review.url
    review.stop()


def asked(url: str, name: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, http.client.HTTPResponse]:
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request("GET" if body is None else "POST", f"/{path}{name}", body, {**OURS, **headers})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
    return answer.status, json.loads(data) if is_json else data, answer


def test_a_decision_is_in_the_journal_at_once(url: str, data: Path) -> None:
    status, row, _ = asked(url, "tests/1", b'{"what": "drop"}')
    assert (status, row["decision"]) == (200, "drop")
    assert read_decisions(data / "review.journal")["b"].was["text"] == HOSTILE
    assert [one["decision"] for one in asked(url, "tests")[1]["tests"]] == ["open", "drop", "open", "open"]
    body = json.dumps({"what": "edit", "text": json.dumps(a_test("a", text="bye"))}).encode()
    assert asked(url, "tests/0", body)[1]["edited"]["text"] == "bye"
    assert asked(url, "tests/0", b'{"what": "open"}')[1] == {**asked(url, "tests")[1]["tests"][0]}


def test_the_page_of_a_test_is_drawn(url: str) -> None:
    status, png, answer = asked(url, "2.png")
    assert status == 200 and png.startswith(b"\x89PNG") and answer.getheader("Content-Type") == "image/png"
    assert asked(url, "9.png")[1] == {"error": "There is no such test."}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "This is no decision."),
        (b"[]", "This is no decision."),
        (b'{"what": 3}', "This is no decision."),
        (b'{"what": "edit", "text": 3}', "This is no decision."),
        (b'{"what": "burn"}', "A test is kept, dropped or edited."),
        (b'{"what": "edit"}', "This is not JSON"),
        (b"\xff", "This is no decision."),
    ],
)
def test_what_is_no_decision_decides_nothing(body: bytes, says: str, url: str, data: Path) -> None:
    status, content, _ = asked(url, "tests/0", body)
    assert status == 400 and content["error"].startswith(says)
    assert not (data / "review.journal").exists()


def test_a_browser_reads_what_is_no_number() -> None:
    """Of a suspect or a test with NaN, which JSON in Python takes and JSON in a browser does not."""
    assert as_json({"a": [float("nan"), 1.5], "b": "NaN"}) == b'{"a": [null, 1.5], "b": "NaN"}'


def test_writing_says_what_is_wrong(url: str) -> None:
    assert asked(url, "write", b"{}")[:2] == (400, {"error": "not here"})


def test_other_sites_and_other_users_can_neither_see_nor_decide(url: str, data: Path) -> None:
    base = url[: url.index("/", 7) + 1]
    decision = b'{"what": "drop"}'
    for prefix in (base, base + "x/", base + "%C3%A9/", url[:-2] + "/"):
        assert asked(prefix, "tests")[0] == 403
        assert asked(prefix, "tests/0", decision)[0] == 403
    assert asked(url, "tests/0", decision, Host="evil.example")[0] == 403
    assert asked(url, "tests", Host="evil.example:80")[0] == 403
    assert asked(url, "tests/0", decision, **{"X-Ocr-Rl": "0"})[0] == 403  # as another site's form sends it
    assert not (data / "review.journal").exists()


@pytest.mark.parametrize("name", ["../web.py", "web.py", "review.py", "1.jpg", "tests/../0", "tests/x"])
def test_nothing_else_is_served(name: str, url: str) -> None:
    assert asked(url, name)[0] == 404 and asked(url, name, b"{}")[0] == 404


@pytest.mark.parametrize("name", ["", "review.js", "review.css", "local_web.css"])
def test_the_page_may_load_its_own_files_alone(name: str, url: str) -> None:
    status, content, answer = asked(url, name)
    policy = answer.getheader("Content-Security-Policy") or ""
    assert status == 200 and "default-src 'none'" in policy and "script-src 'self';" in policy
    assert answer.getheader("Referrer-Policy") == "no-referrer"  # the address holds the token
    assert b"innerHTML" not in content and b"http" not in content
