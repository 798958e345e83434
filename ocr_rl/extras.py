"""What is installed apart from the core, and which extra of this package brings it. Imports none of it.

The core checks, scores, benches and reports. Whoever needs more is told what to install, in one sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

from ocr_rl.contract import UserError

_SYNTH = ("typst", "faker", "matplotlib", "font_caladea", "font_hanken_grotesk", "font_manrope", "font_source_sans_pro")
_SYNTH += ("font_source_serif_pro", "font_lato", "fontpkg_noto_sans_thai", "pylopdf_fonts_cjk")
_POLICY = ("torch", "transformers", "peft", "safetensors", "tokenizers", "psutil", "vllm")
# top-level module -> what to install
_BROUGHT_BY: Mapping[str, str] = {
    **dict.fromkeys(_SYNTH, "ocr-rl[synth]"),
    **dict.fromkeys(_POLICY, "ocr-rl[vllm] (CUDA) or ocr-rl[cpu]"),
    "py_mini_racer": "ocr-rl[math]",
    "pyarrow": "ocr-rl[hub]",
    "ray": "ocr-rl[ray]",
}


def modules() -> list[str]:
    """Top-level modules that only an extra brings."""
    return list(_BROUGHT_BY)


def way_out(error: BaseException) -> str | None:
    """A clause on a module of an extra that could not be imported; None for any other error."""
    module = str(error.name).split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return f"{module} is not installed; install {_BROUGHT_BY[module]}" if module in _BROUGHT_BY else None


@cache
def require(module: str, why: str) -> None:
    """Raises UserError, which begins with `why`, where a module of an extra is not installed."""
    if find_spec(module) is None:
        raise UserError(f"{why}: {module} is not installed; install {_BROUGHT_BY[module]}.")
