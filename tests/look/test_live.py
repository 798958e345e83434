"""A run's page over HTTP: its own files and no others, for its own machine, brought up to date."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocr_rl import outputs
from ocr_rl.contract import UserError
from ocr_rl.look.live import Server
from ocr_rl.look.post_mortem import PostMortem
from tests.look.conftest import Write, add_step

Ask = Callable[..., tuple[int, str, http.client.HTTPResponse]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served" / "data").mkdir(parents=True)
    return tmp_path / "served"


@pytest.fixture
def ask(folder: Path) -> Iterator[Ask]:
    server = Server(folder, 0)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def get(path: str, host: str | None = None, method: str = "GET") -> tuple[int, str, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text, answer

    yield get
    server.shutdown()
    server.server_close()


def test_the_page_and_its_data_are_served(ask: Ask, folder: Path, write_run: Write) -> None:
    assert "is being rendered" in ask("/")[1]
    page = PostMortem(write_run(steps=9), folder, live=True)
    page.refresh()
    status, text, answer = ask("/")
    assert status == 200 and '<html lang="en" data-live>' in text
    assert answer.getheader("Cache-Control") == "no-store"
    status, first, answer = ask("/data/now.js")
    assert status == 200 and first.startswith('take("now",')
    assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
    page.refresh()
    assert ask("/data/now.js")[1] == first  # nothing new
    add_step(page.run.folder, 3, "dead:p1")
    page.refresh()
    assert ask("/data/now.js")[1] != first
    page.close()


@pytest.mark.parametrize(
    "path", ["/.ocr-rl.sha256", "/data/../../secret", "/data/%2e%2e/x.js", "/data/A.js", "//etc", "/x"]
)
def test_nothing_else_is_served(ask: Ask, folder: Path, path: str) -> None:
    (folder / ".ocr-rl.sha256").write_text("list", encoding="utf-8")
    (folder.parent / "secret").write_text("secret", encoding="utf-8")
    assert ask(path)[0] == 404
    assert ask("/", method="POST")[0] == 501


def test_another_sites_name_leads_nowhere(ask: Ask) -> None:
    assert ask("/", host="evil.example:80")[0] == 403
    assert ask("/", host="localhost")[0] == 200  # so a browser asks at port 80


def test_a_port_that_is_taken_is_a_sentence(folder: Path) -> None:
    server = Server(folder, 0)
    with pytest.raises(UserError, match=f"--web-port {server.port}: cannot be used"):
        Server(folder, server.port)
    server.server_close()


def test_what_could_not_be_written_comes_the_next_time(
    folder: Path, write_run: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = PostMortem(write_run(steps=9), folder, live=True)

    def full(*_: object) -> None:
        raise UserError("the disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(outputs, "write", full)
        with pytest.raises(UserError, match="disk is full"):
            page.refresh()
    assert page.refresh()
    assert {path.name for path in (folder / "data").glob("s*.js")} == {"s000001.js", "s000002.js"}
    assert not page.refresh()
    page.close()
