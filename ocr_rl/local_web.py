"""Pages in a browser for one machine and a few people: a server with few connections, and answers that trust nobody.

Standard library only. Another site's page cannot ask here in its visitor's name: the host must be ours, and whatever
changes something must come with a header that a form cannot send. What is answered may load files of its own alone.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from socket import SHUT_WR, socket
from typing import Any, Protocol

from ocr_rl.contract import UserError

AT_ONCE = 16  # connections
THEME = "local_web.css"
_SILENT_S = 20.0  # that a connection may say nothing
_UPLOAD_S = 60.0
_OURS = re.compile(r"(?:127\.0\.0\.1|localhost)(?::\d+)?")  # a browser leaves port 80 out
_POLICY = (  # of a page; a frame of it inherits it and may do less
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Wrong(Exception):
    """What somebody asked for cannot be done; the message is for them."""


class Full(Exception):
    """Too many ask at once."""


class Closed(Protocol):
    def close(self) -> None: ...


class Server(ThreadingHTTPServer):
    """At this machine's own address; a connection too many is told so and closed."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int, option: str) -> None:
        """Port 0 takes any that is free. UserError, which names the option, where the port is taken."""
        try:
            super().__init__(("127.0.0.1", port), handler)
        except OSError as error:
            raise UserError(f"{option} {port}: cannot be used ({error.strerror}); give another one.") from None
        self.port = self.server_address[1]
        self._room = threading.BoundedSemaphore(AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        assert isinstance(request, socket)
        with contextlib.suppress(OSError):
            request.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing is said of a browser that went away."""


class Site:
    """A server, and what is to be closed when it ends."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], held: Closed, *, port: int, option: str) -> None:
        """UserError where the port is taken."""
        self._server, self._held = Server(handler, port, option), held
        self.port = self._server.port

    def serve(self) -> None:
        """Answer until `stop`, or for ever."""
        try:
            self._server.serve_forever(poll_interval=0.1)
        finally:
            self._server.server_close()
            self._held.close()

    def stop(self) -> None:
        self._server.shutdown()


class Handler(BaseHTTPRequestHandler):
    """Answers JSON, files and images; whoever derives from it says what there is."""

    timeout = _SILENT_S
    server_version, sys_version = "ocr-rl", ""
    policy = _POLICY

    def log_message(self, *_: object) -> None: ...

    def is_ours(self) -> bool:
        """Whether the browser means this server by its own name, so that no name of somebody else leads here."""
        return bool(_OURS.fullmatch(self.headers.get("Host", "")))

    def may_post(self) -> bool:
        return self.is_ours() and self.headers.get("X-Ocr-Rl") == "1"

    def body(self, most_bytes: int) -> bytes:
        """What was sent. Raises Wrong."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Wrong("The file has no length.")
        if int(length) > most_bytes:
            raise Wrong(f"The file has {int(length) / 1e6:.0f} MB; at most {most_bytes / 1e6:.0f} MB are read here.")
        data, end = bytearray(), time.monotonic() + _UPLOAD_S
        while len(data) < int(length):
            piece = self.rfile.read1(min(2**16, int(length) - len(data)))
            if not piece or time.monotonic() > end:
                raise Wrong("The file did not arrive.")
            data += piece
        return bytes(data)

    def answer(self, make: Callable[[], bytes], kind: str = "application/json") -> None:
        """What `make` returns, or the sentence of the Wrong that it raises."""
        try:
            self.send(HTTPStatus.OK, make(), kind)
        except Wrong as wrong:
            self.close_connection = True  # the rest of a body that was not read is no request
            self.say(HTTPStatus.BAD_REQUEST, str(wrong))
            self._let_come()
        except Full:
            self.say(HTTPStatus.SERVICE_UNAVAILABLE, "Others are being read; try again in a minute.")

    def _let_come(self) -> None:
        """Take what is still on its way: a browser reads an answer only once it has sent all of a file."""
        end = time.monotonic() + _UPLOAD_S
        with contextlib.suppress(OSError):
            self.connection.shutdown(SHUT_WR)
            while time.monotonic() < end and self.rfile.read1(2**16):
                pass

    def send_theme(self) -> None:
        """Colours and type, which a page loads as `THEME`."""
        self.send(HTTPStatus.OK, files("ocr_rl").joinpath(THEME).read_bytes(), "text/css")

    def say(self, status: HTTPStatus, sentence: str) -> None:
        self.send(status, as_json({"error": sentence}), "application/json")

    def send(self, status: HTTPStatus, data: bytes, kind: str) -> None:
        self.send_response(status)
        charset = "; charset=utf-8" if not kind.startswith("image/") else ""
        for name, value in {
            "Content-Type": kind + charset,
            "Content-Length": str(len(data)),
            "Content-Security-Policy": self.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",  # another site could run a script or show an image
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def as_json(content: Any) -> bytes:
    """ASCII, since a transcript may hold half a surrogate pair; null for what is no number, which no browser reads."""
    try:
        return json.dumps(content, allow_nan=False).encode()
    except ValueError:
        return json.dumps(json.loads(json.dumps(content), parse_constant=lambda _: None)).encode()
