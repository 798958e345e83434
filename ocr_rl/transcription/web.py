"""A page to show a policy: drop a PDF, see each page beside what the policy reads, and its tests if there are any.

Standard library only, for one machine and a few people. Whoever asks is bounded: so many at once, so large a file, so
many pages, so many seconds. What a policy writes is hostile until shown otherwise: it is shown as text, and rendered
only inside a frame without scripts, forms or addresses of its own. Another site's page cannot ask here in its
visitor's name: the host must be ours, and a header must be there that a form cannot send.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from socket import SHUT_WR, socket
from typing import Any

from ocr_rl.contract import UserError
from ocr_rl.evaluate.readers import AtEndpoint
from ocr_rl.transcription.dropped import MAX_BYTES, Desk, Full, Wrong

_AT_ONCE = 16  # connections
_SILENT_S = 20.0  # that a connection may say nothing
_UPLOAD_S = 60.0
_POLICY = (  # of the page; the frame of a transcript inherits it and may do less
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_STATIC = {
    "/": ("web.html", "text/html"),
    "/web.js": ("web.js", "text/javascript"),
    "/web.css": ("web.css", "text/css"),
}
_PAGE = re.compile(r"/documents/([0-9a-f]{32})/([1-9][0-9]{0,4})(\.png)?")


class View:
    """The web server, at this machine's own address; port 0 takes any that is free."""

    def __init__(self, reader: AtEndpoint, *, port: int, data: Path | None) -> None:
        """UserError where the port is taken."""
        desk = Desk(reader, data)
        try:
            self._server = _Server(("127.0.0.1", port), _handler(desk))
        except OSError as error:
            raise UserError(f"--web-port {port}: cannot be used ({error.strerror}); give another one.") from None
        self.port = self._server.server_address[1]
        self._desk = desk

    def serve(self) -> None:
        """Answer until `stop`, or for ever."""
        try:
            self._server.serve_forever(poll_interval=0.1)
        finally:
            self._server.server_close()
            self._desk.close()

    def stop(self) -> None:
        self._server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._room = threading.BoundedSemaphore(_AT_ONCE)

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


def _handler(desk: Desk) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SILENT_S
        server_version, sys_version = "ocr-rl", ""

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            if not self._is_ours():
                return self._say(HTTPStatus.FORBIDDEN, "This page is for its own machine.")
            if self.path in _STATIC:
                name, kind = _STATIC[self.path]
                return self._send(HTTPStatus.OK, files("ocr_rl.transcription").joinpath(name).read_bytes(), kind)
            if (asked := _PAGE.fullmatch(self.path)) and asked[3]:
                return self._answer(lambda: desk.image(asked[1], int(asked[2])), "image/png")
            if asked := re.fullmatch(r"/documents/([0-9a-f]{32})", self.path):
                return self._answer(lambda: _json(desk.document(asked[1])))
            return self._say(HTTPStatus.NOT_FOUND, "There is no such page.")

        def do_POST(self) -> None:
            if not self._is_ours() or self.headers.get("X-Ocr-Rl") != "1":
                return self._say(HTTPStatus.FORBIDDEN, "This page is for its own machine.")
            if self.path == "/documents":
                return self._answer(lambda: _json(desk.put(self._body())))
            if (asked := _PAGE.fullmatch(self.path)) and not asked[3]:
                return self._answer(lambda: _json(desk.read(asked[1], int(asked[2]))))
            return self._say(HTTPStatus.NOT_FOUND, "There is no such page.")

        def _is_ours(self) -> bool:
            """Whether the browser means this server by its own name, so that no name of somebody else leads here."""
            host = self.headers.get("Host", "").rpartition(":")[0]
            return host in ("127.0.0.1", "localhost")

        def _body(self) -> bytes:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal():
                raise Wrong("The file has no length.")
            if int(length) > MAX_BYTES:
                raise Wrong(f"The file has {int(length) / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} MB are read here.")
            data, end = bytearray(), time.monotonic() + _UPLOAD_S
            while len(data) < int(length):
                piece = self.rfile.read1(min(2**16, int(length) - len(data)))
                if not piece or time.monotonic() > end:
                    raise Wrong("The file did not arrive.")
                data += piece
            return bytes(data)

        def _answer(self, make: Any, kind: str = "application/json") -> None:
            try:
                self._send(HTTPStatus.OK, make(), kind)
            except Wrong as wrong:
                self.close_connection = True  # the rest of a body that was not read is no request
                self._say(HTTPStatus.BAD_REQUEST, str(wrong))
                self._let_come()
            except Full:
                self._say(HTTPStatus.SERVICE_UNAVAILABLE, "Others are being read; try again in a minute.")

        def _let_come(self) -> None:
            """Take what is still on its way: a browser reads an answer only once it has sent all of a file."""
            end = time.monotonic() + _UPLOAD_S
            with contextlib.suppress(OSError):
                self.connection.shutdown(SHUT_WR)
                while time.monotonic() < end and self.rfile.read1(2**16):
                    pass

        def _say(self, status: HTTPStatus, sentence: str) -> None:
            self._send(status, _json({"error": sentence}), "application/json")

        def _send(self, status: HTTPStatus, data: bytes, kind: str) -> None:
            self.send_response(status)
            charset = "; charset=utf-8" if not kind.startswith("image/") else ""
            for name, value in {
                "Content-Type": kind + charset,
                "Content-Length": str(len(data)),
                "Content-Security-Policy": _POLICY,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store",
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    return Handler


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()  # ASCII: a transcript may hold half a surrogate pair
