"""What self-contained pages share: how their templates treat texts, and how their policies admit a script by its hash.

A text is escaped, and characters that could disturb the layout are made visible; a name that the template misspells is
an error.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ocr_rl.evaluate.tables import visible


def environment() -> Environment:
    """An environment of its own for each page, to which filters and globals can be added."""
    return Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )


def source_hash(text: str) -> str:
    """How a Content-Security-Policy names a style or script of the page (CSP level 2, hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
