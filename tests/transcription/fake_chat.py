"""A chat server that answers, or misbehaves on order; it remembers what it was asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


def image_of(body: Body) -> str:
    """The image's data URL in a question."""
    return next(part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url")


def text_of(body: Body) -> str:
    """A transcript that belongs to the image alone."""
    return "page " + hashlib.sha256(image_of(body).encode()).hexdigest()[:12]


def completion(text: object, finish: str = "stop", tokens: int = 7) -> Body:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 20, "completion_tokens": tokens}}


class FakeChat:
    """`faults`: what befalls the next questions, in their order; "" answers."""

    def __init__(self, write: Callable[[Body], Any] = lambda body: completion(text_of(body))) -> None:
        self.write, self.faults, self.asked = write, list[str](), list[Body]()
        self.cards = [{"id": "fake", "root": ""}]
        self.keys: list[str | None] = []
        self.most = self._now = 0  # questions side by side
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                self.send(200, json.dumps({"object": "list", "data": fake.cards}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.keys.append(self.headers.get("Authorization"))
                with fake._side_by_side(), contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    with fake._lock:
                        fake.asked.append(body)
                        fault = fake.faults.pop(0) if fake.faults else ""
                    FAULTS[fault](self, json.dumps(fake.write(body)).encode())

            def send(self, status: int, data: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @contextmanager
    def _side_by_side(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _cut(handler: Any, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True


def _drip(handler: Any, piece: bytes, wait_s: float) -> None:
    """An answer without an end: until the client goes away."""
    handler.send_response(200)
    handler.end_headers()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        handler.wfile.write(piece)
        handler.wfile.flush()
        time.sleep(wait_s)


def _headers_without_end(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    end = time.monotonic() + 20
    while time.monotonic() < end:
        handler.wfile.write(b"x")
        time.sleep(0.02)


FAULTS: dict[str, Callable[[Any, bytes], None]] = {
    "": lambda handler, data: handler.send(200, data),
    "slow": lambda handler, data: (time.sleep(5), handler.send(200, data))[1],
    "429": lambda handler, data: handler.send(429, b"slow down", Retry_After="0.05"),
    "429 for an hour": lambda handler, data: handler.send(429, b"no quota", Retry_After="3600"),
    "429 until a date": lambda handler, data: handler.send(429, b"", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "500": lambda handler, data: handler.send(500, b"oh no"),
    "503": lambda handler, data: handler.send(503, b"starting"),
    "400": lambda handler, data: handler.send(400, b"maximum context length"),
    "401": lambda handler, data: handler.send(401, b"wrong key sk-secret"),
    "cut": _cut,
    "no JSON": lambda handler, data: handler.send(200, b"<html>hello"),
    "deep JSON": lambda handler, data: handler.send(200, b"[" * 200_000),
    "other JSON": lambda handler, data: handler.send(200, b'{"choices": []}'),
    "no text": lambda handler, data: handler.send(200, json.dumps(completion(None)).encode()),
    "no end": lambda handler, data: _drip(handler, b" ", 0.02),
    "much": lambda handler, data: _drip(handler, b" " * 2**20, 0.0),
    "headers without end": lambda handler, data: _headers_without_end(handler),
}
