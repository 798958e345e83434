"""A transcript as a page of HTML for a frame that may do nothing: no scripts, no forms, no addresses.

The frame is sandboxed and has a policy of its own; nothing here is trusted to clean the text.
"""

from __future__ import annotations

import re
from functools import cache

from markdown_it import MarkdownIt

from ocr_rl.text.normalize import without_surrogates

MAX_SHOWN = 50_000  # characters: half a second at worst, for brackets take the square of their number
_FORMULA = re.compile(r"\\[()\[\]]")  # their marks, which Markdown would take for signs of its own
_HEAD = """<!doctype html><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
:root { color-scheme: light dark; font: 15px/1.5 Georgia, 'DejaVu Serif', serif; }
body { margin: 1rem; overflow-wrap: anywhere; background: Canvas; color: CanvasText; }
table { border-collapse: collapse; } td, th { border: 1px solid GrayText; padding: 0.2em 0.5em; text-align: left; }
h1, h2, h3 { line-height: 1.2; } a { color: inherit; pointer-events: none; }
</style>
<body>
"""


def shown(text: str) -> str:
    """The HTML of a transcript, whatever it holds."""
    return _HEAD + _markdown().render(_FORMULA.sub(r"\\\g<0>", without_surrogates(text[:MAX_SHOWN])))


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": True, "breaks": True}).enable(["table", "strikethrough"])
