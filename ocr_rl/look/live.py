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
from pathlib import Path
from tempfile import TemporaryDirectory

from ocr_rl import local_web
from ocr_rl.contract import UserError
from ocr_rl.look.post_mortem import PostMortem

_FIRST = b"<!doctype html><meta http-equiv=refresh content=2><title>ocr-rl</title><p>The run is being rendered."
_FILES = re.compile(r"/(|index\.html|data/[a-z0-9_]{1,40}\.js)(\?.*)?")


class Server(local_web.Server):
    """Serves one folder at 127.0.0.1; port 0 takes any that is free. UserError where the port is taken."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(_handler(folder), port, "--web-port")


def _handler(folder: Path) -> type[local_web.Handler]:
    class Handler(local_web.Handler):
        policy = "frame-ancestors 'none'"  # the page has a stricter one of its own

        def do_GET(self) -> None:
            if not self.is_ours():
                return self.say(HTTPStatus.FORBIDDEN, "This page is for its own machine.")
            path = _FILES.fullmatch(self.path)
            with contextlib.suppress(OSError):
                if path:
                    name = path[1] or "index.html"
                    kind = "text/javascript" if name.endswith(".js") else "text/html"
                    return self.send(HTTPStatus.OK, (folder / name).read_bytes(), kind)
            if path and path[1] in ("", "index.html"):
                return self.send(HTTPStatus.OK, _FIRST, "text/html")
            return self.say(HTTPStatus.NOT_FOUND, "There is no such page.")

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
