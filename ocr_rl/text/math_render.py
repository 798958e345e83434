"""TeX formulas to KaTeX's markup, in V8 inside this process: no browser, no network.

KaTeX 0.16.21 (MIT licence) lies in the folder `katex` beside this file. Every bound on a hostile formula is here:
its length, the time and the memory of V8. Knows nothing about layout or comparison.
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from py_mini_racer import MiniRacer

MAX_CHARS = 10_000
MAX_SECONDS = 2.0
MAX_BYTES = 160_000_000

# KaTeX warns through the console, which plain V8 does not have. `render` returns null for a formula that KaTeX refuses.
START = """
var console = {log() {}, warn() {}, error() {}};
function render(tex) {
  try { return katex.renderToString(tex, {displayMode: true, throwOnError: true}); }
  catch (error) { return null; }
}
"""
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
DEFINES = re.compile(r"\\(?:[egx]?def|let|futurelet|newcommand|renewcommand|providecommand)(?![a-zA-Z])")
MATHML = re.compile(r"<semantics>(.*?)<annotation encoding=\"application/x-tex\">", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Markup:
    """What KaTeX makes of a formula in display mode."""

    mathml: str  # the MathML without the TeX annotation
    html: ElementTree.Element  # the `span.katex-html`


def render(tex: str) -> Markup | None:
    """KaTeX's markup of a formula; None if KaTeX refuses it or it goes beyond the bounds of this module."""
    if len(tex) > MAX_CHARS:
        return None
    from py_mini_racer import JSEvalException, JSOOMException, JSTimeoutException  # of the extra `math`

    try:
        # The timer costs two thread switches, a third of the time that a usual formula takes. A short formula without
        # macros of its own cannot run long, so it needs no timer.
        harmless = len(tex) <= 300 and not DEFINES.search(tex)
        markup = _engine(os.getpid()).call("render", tex, timeout_sec=None if harmless else MAX_SECONDS)
    except JSOOMException:  # this V8 is lost; the next formula starts another
        _engine(os.getpid()).close()
        _engine.cache_clear()
        return None
    except (JSTimeoutException, JSEvalException):
        return None
    if markup is None:
        return None
    markup = UNPRINTABLE.sub("\ufffd", markup)
    mathml = MATHML.search(markup)
    display = ElementTree.fromstring(markup)
    html = next(span for span in display.iter("span") if span.get("class") == "katex-html")
    return Markup(mathml=mathml[1] if mathml else "", html=html)


@cache
def _engine(process_id: int) -> MiniRacer:
    """V8 with KaTeX loaded. It does not survive a fork, so each process has its own."""
    from py_mini_racer import MiniRacer

    engine = MiniRacer()
    # The engine must never be collected: its destructor waits for a thread, which is gone when the interpreter ends
    # and after a fork.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    engine.set_hard_memory_limit(MAX_BYTES)
    engine.eval((files("ocr_rl.text") / "katex" / "katex.min.js").read_text(encoding="utf-8"))
    engine.eval(START)
    return engine
