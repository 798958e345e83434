"""The page over HTTP: what it takes, what it refuses in one sentence, and that a transcript is text."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ocr_rl import local_web
from ocr_rl.evaluate.chat import Endpoint
from ocr_rl.evaluate.readers import AtEndpoint
from ocr_rl.models.settings import PromptSettings
from ocr_rl.pages.dataset import write_tests
from ocr_rl.transcription import dropped
from ocr_rl.transcription.shown import shown
from ocr_rl.transcription.web import View
from tests.transcription.fake_chat import FakeChat, completion

Ask = Callable[..., tuple[int, Any, http.client.HTTPResponse]]
OURS = {"X-Ocr-Rl": "1"}


def view_reader(fake: FakeChat) -> AtEndpoint:
    endpoint = Endpoint(url=fake.url, model="fake", deadline_s=5.0)
    return AtEndpoint(endpoint=endpoint, settings=PromptSettings(longest_px=64, instruction="", max_tokens=9))


def view_of(fake: FakeChat, data: Path | None = None) -> View:
    view = View(view_reader(fake), port=0, data=data)
    threading.Thread(target=view.serve, daemon=True).start()
    return view


@pytest.fixture
def view(fake: FakeChat) -> Iterator[View]:
    view = view_of(fake)
    yield view
    view.stop()


def asked(view: View, method: str, path: str, body: bytes | None = None, headers: dict[str, str] = OURS) -> tuple:  # noqa: B006
    connection = http.client.HTTPConnection("127.0.0.1", view.port, timeout=20)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
    return answer.status, json.loads(data) if is_json else data, answer


def test_a_dropped_pdf_is_seen_page_beside_transcript(fake: FakeChat, view: View, pdf: Callable[..., Path]) -> None:
    fake.write = lambda body: completion("# Title\n\nsome \\(x\\) text")
    status, document, _ = asked(view, "POST", "/documents", pdf("a.pdf", 2).read_bytes())
    assert status == 200 and document == {"id": document["id"], "pages": 2, "model": "fake"}
    status, png, _ = asked(view, "GET", f"/documents/{document['id']}/2.png")
    assert status == 200 and png.startswith(b"\x89PNG")
    status, read, _ = asked(view, "POST", f"/documents/{document['id']}/2")
    assert read["text"] == "# Title\n\nsome \\(x\\) text" and read["tokens"] == 7 and read["tests"] == []
    assert "<h1>Title</h1>" in read["shown"] and "\\(x\\)" in read["shown"]
    assert asked(view, "GET", f"/documents/{document['id']}")[1] == document


def test_tests_of_its_dataset_are_judged(fake: FakeChat, pdf: Callable[..., Path], tmp_path: Path) -> None:
    data = pdf("a.pdf", 1)
    (tmp_path / "data/pdfs").mkdir(parents=True)
    (tmp_path / "data/pdfs/a.pdf").write_bytes(data.read_bytes())
    test = {"pdf": "a.pdf", "page": 1, "type": "present"}
    write_tests(tmp_path / "data/t.jsonl", [{**test, "id": "1", "text": "hello"}, {**test, "id": "2", "text": "bye"}])
    fake.write = lambda body: completion("hello")
    view = view_of(fake, tmp_path / "data")
    document = asked(view, "POST", "/documents", data.read_bytes())[1]
    read = asked(view, "POST", f"/documents/{document['id']}/1")[1]
    assert [(test["id"], test["passed"]) for test in read["tests"]] == [("1", True), ("2", False)]
    view.stop()


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"no PDF", "It cannot be read: the file is not a PDF"), (b"", "It cannot be read: the file is empty")],
)
def test_what_is_no_document_gets_one_sentence(view: View, body: bytes, says: str) -> None:
    status, content, _ = asked(view, "POST", "/documents", body)
    assert status == 400 and content["error"].startswith(says)


def test_a_file_of_fifty_megabytes_is_refused_before_it_is_read(view: View) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", view.port, timeout=20)
    connection.putrequest("POST", "/documents")
    for name, value in {**OURS, "Content-Length": "50000000"}.items():
        connection.putheader(name, value)
    connection.endheaders(b"%PDF-1.7")
    assert json.loads(connection.getresponse().read()) == {"error": "The file has 50 MB; at most 40 MB are read here."}
    connection.close()


def test_who_sends_fifty_megabytes_gets_the_sentence(view: View) -> None:
    status, content, _ = asked(view, "POST", "/documents", b"%PDF-1.7" + bytes(50_000_000 - 8))
    assert status == 400 and content == {"error": "The file has 50 MB; at most 40 MB are read here."}


def test_nothing_stays_of_a_file_that_is_not_taken(
    fake: FakeChat, pdf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = dropped.Desk(view_reader(fake), None)
    data = pdf("a.pdf", 1).read_bytes()
    with monkeypatch.context() as patch, pytest.raises(dropped.Full):
        patch.setattr(dropped, "_WAIT_S", 0.0)
        patch.setattr(desk, "_room", threading.BoundedSemaphore(1))
        with desk._busy():
            desk.put(data)
    with pytest.raises(dropped.Wrong):
        desk.put(b"no PDF")
    folder = Path(desk._folder.name)
    assert list(folder.iterdir()) == []
    name = desk.put(data)["id"]
    assert desk.put(data)["id"] == name and [path.name for path in folder.iterdir()] == [name]
    desk.close()


def test_a_document_of_too_many_pages_is_refused(
    view: View, pdf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropped, "MAX_PAGES", 2)
    assert "It has 3 pages; at most 2" in asked(view, "POST", "/documents", pdf("a.pdf", 3).read_bytes())[1]["error"]


def test_the_last_documents_are_kept(view: View, pdf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "_KEPT", 1)
    names = ("a.pdf", "b.pdf")
    first, _ = (asked(view, "POST", "/documents", pdf(name, 1).read_bytes())[1]["id"] for name in names)
    assert "not kept any more" in asked(view, "POST", f"/documents/{first}/1")[1]["error"]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {}),  # as another site's form sends it
        ("POST", {**OURS, "Host": "evil.example:80"}),  # a name of theirs that leads here
        ("GET", {"Host": "evil.example"}),
    ],
)
def test_other_sites_cannot_ask_in_their_visitors_name(view: View, method: str, headers: dict[str, str]) -> None:
    path = "/documents" if method == "POST" else "/"
    assert asked(view, method, path, b"x" if method == "POST" else None, headers)[0] == 403


@pytest.mark.parametrize(
    "path", ["/../web.py", "/web.py", "/documents/x/1", "/documents/" + "0" * 32 + "/0", "/etc/passwd"]
)
def test_nothing_else_is_served(view: View, path: str) -> None:
    assert asked(view, "GET", path)[0] == 404 and asked(view, "POST", path, b"")[0] == 404


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/web.js", "text/javascript"), ("/web.css", "text/css"), ("/local_web.css", "text/css")],
)
def test_the_page_may_load_its_own_files_alone(view: View, path: str, kind: str) -> None:
    status, _, answer = asked(view, "GET", path)
    policy = answer.getheader("Content-Security-Policy") or ""
    assert status == 200 and (answer.getheader("Content-Type") or "").startswith(kind)
    assert "default-src 'none'" in policy and "script-src 'self';" in policy
    assert answer.getheader("X-Content-Type-Options") == "nosniff"


def test_more_connections_than_fit_are_told_so(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = [socket.create_connection(("127.0.0.1", view.port)) for _ in range(local_web.AT_ONCE)]
    for connection in waiting:
        connection.sendall(b"GET / HTTP/1.1\r\n")
    late = socket.create_connection(("127.0.0.1", view.port), timeout=10)
    assert late.recv(100).startswith(b"HTTP/1.1 503")
    for connection in (*waiting, late):
        connection.close()


def test_a_server_that_gives_no_answer_is_one_sentence(fake: FakeChat, view: View, pdf: Callable[..., Path]) -> None:
    fake.faults = ["400"]
    document = asked(view, "POST", "/documents", pdf("a.pdf", 1).read_bytes())[1]
    status, content, _ = asked(view, "POST", f"/documents/{document['id']}/1")
    assert status == 400 and "This page was not read: the server refuses it with 400" in content["error"]
    fake.faults = ["401"]
    status, content, _ = asked(view, "POST", f"/documents/{document['id']}/1")
    assert status == 400 and "the server refuses the key" in content["error"]


@pytest.mark.parametrize("text", ["", "\ud800", "[" * 200_000, "*" * 200_000, "<div>" * 40_000, "|a" * 50_000 + "\n|-"])
def test_any_text_is_shown(text: str) -> None:
    assert shown(text).startswith("<!doctype html>")
