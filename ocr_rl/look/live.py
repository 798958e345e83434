"""`ocr-rl watch --web`: a run's page, brought up to date while the run goes on, on this machine alone.

A folder of files over HTTP and nothing else: the page asks every few seconds whether there are new steps, by the same
scripts by which it loads everything. What is served is what was written there, by exact names; nobody can ask here
for a path, nor in the name of another site.
"""

from __future__ import annotations

import contextlib
import re
import threading
from contextlib import closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

from ocr_rl.contract import UserError
from ocr_rl.look.post_mortem import PostMortem

_SILENT_S = 20.0  # that a connection may say nothing
_FIRST = b"<!doctype html><meta http-equiv=refresh content=2><title>ocr-rl</title><p>The run is being rendered."
_FILES = re.compile(r"/(|index\.html|data/[a-z0-9_]{1,40}\.js)(\?.*)?")


class Server(ThreadingHTTPServer):
    """Serves one folder at 127.0.0.1; port 0 takes any that is free. UserError where the port is taken."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        try:
            super().__init__(("127.0.0.1", port), _handler(folder))
        except OSError as error:
            raise UserError(f"--web-port {port}: cannot be used ({error.strerror}); give another one.") from None
        self.port = self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing is said of a browser that went away."""


def _handler(folder: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SILENT_S
        server_version, sys_version = "ocr-rl", ""

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            if self.headers.get("Host", "").partition(":")[0] not in ("127.0.0.1", "localhost"):
                return self._send(HTTPStatus.FORBIDDEN, b"This page is for its own machine.", "text/plain")
            path = _FILES.fullmatch(self.path)
            with contextlib.suppress(OSError):
                if path:
                    name = path[1] or "index.html"
                    kind = "text/javascript" if name.endswith(".js") else "text/html"
                    return self._send(HTTPStatus.OK, (folder / name).read_bytes(), kind)
            if path and path[1] in ("", "index.html"):
                return self._send(HTTPStatus.OK, _FIRST, "text/html")
            return self._send(HTTPStatus.NOT_FOUND, b"There is no such page.", "text/plain")

        def _send(self, status: HTTPStatus, data: bytes, kind: str) -> None:
            self.send_response(status)
            for name, value in {
                "Content-Type": f"{kind}; charset=utf-8",
                "Content-Length": str(len(data)),
                "Content-Security-Policy": "frame-ancestors 'none'",  # the page has a stricter one of its own
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Resource-Policy": "same-origin",  # data are scripts, which other sites could run
                "Cache-Control": "no-store",
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    return Handler


def serve_run(run: Path, *, port: int, every_s: float) -> None:
    """Serve the page of a run until Ctrl-C, with its new steps as they come. UserError for what is no run."""
    with (
        TemporaryDirectory(prefix="ocr-rl-look-") as folder,
        closing(PostMortem(run, Path(folder), workers=1, live=True)) as page,
    ):
        server = Server(Path(folder), port)
        print(f"The run: http://127.0.0.1:{server.port}/ (this machine alone; Ctrl-C ends it)", flush=True)
        ended = threading.Event()
        renewing = threading.Thread(target=_renew, args=(page, ended, every_s), daemon=True)
        renewing.start()
        try:
            server.serve_forever(poll_interval=0.1)
        finally:
            ended.set()
            server.server_close()
            renewing.join()


def _renew(page: PostMortem, ended: threading.Event, every_s: float) -> None:
    while True:
        try:
            page.refresh(ended=ended.is_set)
        except (UserError, OSError) as flaw:  # a file that is being written, a disk that is full: the next time
            print(f"! {flaw}", flush=True)
        if ended.wait(every_s):
            return
