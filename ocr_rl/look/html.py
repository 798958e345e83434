"""The page's files: index.html with its script, style and numbers inside, and data files that it loads on demand.

A page opened from disk may not fetch, so data come as scripts: each is one call with compressed JSON in base64, which
no text of a policy can break out of. The Content-Security-Policy admits the page's own style and script by their
hashes, and what that script itself asks for ('strict-dynamic'): a Trusted Types policy holds this to names of data
files. Texts become text nodes and nothing else.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from markupsafe import Markup

from ocr_rl.evaluate.html import environment, source_hash

_SCRIPTS = ("parts.js", "data.js", "charts.js", "strip.js", "run.js", "words.js", "group.js", "main.js")
_LEVEL = 6


def data_file(name: str, content: Any) -> str:
    """The script that hands `content` to the page under `name`."""
    packed = zlib.compress(json.dumps(content, allow_nan=False, separators=(",", ":")).encode(), _LEVEL)
    return f'take("{name}","{base64.b64encode(packed).decode()}");\n'


def index_html(view: Mapping[str, Any], *, live: bool = False) -> str:
    """The page; one that is `live` asks again for itself while the run goes on."""
    style, script = _asset("look.css"), _script()
    return _template().render(
        title=f"{view['run']}: a run to look at",
        style=Markup(style),
        script=Markup(script),
        style_hash=source_hash(style),
        script_hash=source_hash(script),
        view=Markup(_inert(json.dumps(view, allow_nan=False, separators=(",", ":")))),
        live=live,
    )


def _inert(data: str) -> str:
    """JSON (ASCII) that cannot end the element which holds it."""
    return data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _script() -> str:
    body = "\n".join(_asset(name) for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{body}\n}})();\n'


@cache
def _template() -> Any:
    return environment().from_string(_asset("look.html.j2"))


@cache
def _asset(name: str) -> str:
    return (resources.files("ocr_rl.look") / "page" / name).read_text(encoding="utf-8")
