"""A page to show a policy: drop a PDF, see each page beside what the policy reads, and its tests if there are any.

Whoever asks is bounded: so many at once (`ocr_rl.local_web`), so large a file, so many pages, so many seconds. What a
policy writes is hostile until shown otherwise: it is shown as text, and rendered only inside a frame without scripts,
forms or addresses of its own.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path

from ocr_rl import local_web
from ocr_rl.evaluate.readers import AtEndpoint
from ocr_rl.local_web import as_json
from ocr_rl.transcription.dropped import MAX_BYTES, Desk

_STATIC = {
    "/": ("web.html", "text/html"),
    "/web.js": ("web.js", "text/javascript"),
    "/web.css": ("web.css", "text/css"),
}
_PAGE = re.compile(r"/documents/([0-9a-f]{32})/([1-9][0-9]{0,4})(\.png)?")


class View(local_web.Site):
    """The web server, at this machine's own address; port 0 takes any that is free."""

    def __init__(self, reader: AtEndpoint, *, port: int, data: Path | None) -> None:
        """UserError where the port is taken."""
        desk = Desk(reader, data)
        super().__init__(_handler(desk), desk, port=port, option="--web-port")


def _handler(desk: Desk) -> type[local_web.Handler]:
    class Handler(local_web.Handler):
        def do_GET(self) -> None:
            if not self.is_ours():
                return self.say(HTTPStatus.FORBIDDEN, "This page is for its own machine.")
            if self.path == f"/{local_web.THEME}":
                return self.send_theme()
            if self.path in _STATIC:
                name, kind = _STATIC[self.path]
                return self.send(HTTPStatus.OK, files("ocr_rl.transcription").joinpath(name).read_bytes(), kind)
            if (asked := _PAGE.fullmatch(self.path)) and asked[3]:
                return self.answer(lambda: desk.image(asked[1], int(asked[2])), "image/png")
            if asked := re.fullmatch(r"/documents/([0-9a-f]{32})", self.path):
                return self.answer(lambda: as_json(desk.document(asked[1])))
            return self.say(HTTPStatus.NOT_FOUND, "There is no such page.")

        def do_POST(self) -> None:
            if not self.may_post():
                return self.say(HTTPStatus.FORBIDDEN, "This page is for its own machine.")
            if self.path == "/documents":
                return self.answer(lambda: as_json(desk.put(self.body(MAX_BYTES))))
            if (asked := _PAGE.fullmatch(self.path)) and not asked[3]:
                return self.answer(lambda: as_json(desk.read(asked[1], int(asked[2]))))
            return self.say(HTTPStatus.NOT_FOUND, "There is no such page.")

    return Handler
