"""The review in a browser: a page of this machine, behind a token in its address.

Tests, readings and file names are somebody else's text: they are sent as JSON, and shown as text. Without the token of
the address nothing is told and nothing decided, so that no other page and no other user of this machine can ask.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Callable
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from ocr_rl import local_web
from ocr_rl.local_web import Wrong, as_json
from ocr_rl.review.desk import Desk

_MOST_BYTES = 2**20  # of an edited test
STATIC = {
    "": ("review.html", "text/html"),
    "review.js": ("review.js", "text/javascript"),
    "review.css": ("review.css", "text/css"),
}


def static(file: str) -> bytes:
    """A file of the page."""
    return files("ocr_rl.review").joinpath(file).read_bytes()


class Review(local_web.Site):
    """The web server, at this machine's own address; port 0 takes any that is free.

    `write` writes the dataset as it is decided, and says in one line what was written; it may raise Wrong.
    """

    def __init__(self, desk: Desk, write: Callable[[], str], *, port: int) -> None:
        """UserError where the port is taken."""
        token = secrets.token_urlsafe(16)
        super().__init__(_handler(desk, write, token), desk, port=port, option="--port")
        self.url = f"http://127.0.0.1:{self.port}/{token}/"


def _handler(desk: Desk, write: Callable[[], str], token: str) -> type[local_web.Handler]:
    class Handler(local_web.Handler):
        def do_GET(self) -> None:
            name = self._name()
            if name is None:
                return self.say(HTTPStatus.FORBIDDEN, "Open the whole address that the command printed.")
            if name == local_web.THEME:
                return self.send_theme()
            if name in STATIC:
                file, kind = STATIC[name]
                return self.send(HTTPStatus.OK, static(file), kind)
            if name == "tests":
                return self.answer(lambda: as_json({"data": desk.data.resolve().name, "tests": desk.listed()}))
            if asked := re.fullmatch(r"([0-9]{1,8})\.png", name):
                return self.answer(lambda: desk.image(int(asked[1])), "image/png")
            return self.say(HTTPStatus.NOT_FOUND, "There is no such page.")

        def do_POST(self) -> None:
            name = self._name()
            if name is None or not self.may_post():
                return self.say(HTTPStatus.FORBIDDEN, "Open the whole address that the command printed.")
            if name == "write":
                return self.answer(lambda: as_json({"written": write()}))
            if asked := re.fullmatch(r"tests/([0-9]{1,8})", name):
                return self.answer(lambda: as_json(_decide(desk, int(asked[1]), self.body(_MOST_BYTES))))
            return self.say(HTTPStatus.NOT_FOUND, "There is no such page.")

        def _name(self) -> str | None:
            """What stands behind the token; None where that is not the one of the address, or the host not ours."""
            given, slash, name = self.path.removeprefix("/").partition("/")
            known = hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
            return name if slash and known and self.is_ours() else None

    return Handler


def _decide(desk: Desk, k: int, body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
        what, text = asked["what"], asked.get("text")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Wrong("This is no decision.") from None
    if not isinstance(what, str) or not isinstance(text, str | None):
        raise Wrong("This is no decision.")
    return desk.decide(k, what, text)
