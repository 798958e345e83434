"""Typst sets structured sources as PDF bytes. The same sources give the same bytes on every machine.

System fonts are ignored. Typst uses its own fonts, matplotlib's and those of font packages, all under open licences.
Knows nothing about what the pages say.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pypdfium2 as pdfium
import typst

from ocr_rl.pages.synth.document import Source, to_typst

# The folder of each package that holds its typefaces.
FONT_PACKAGES = {
    "font_source_sans_pro": "files",
    "font_source_serif_pro": "files",
    "font_caladea": "files",
    "font_hanken_grotesk": "files",
    "font_manrope": "files",
    "font_lato": "files",
    "fontpkg_noto_sans_thai": "files",
    "pylopdf_fonts_cjk": "",
}


def typeset(sources: Sequence[Source]) -> bytes:
    """One PDF with a page for each source.

    Raises OverflowError when a source does not fit on its page.
    """
    pdf, count = compiled(to_typst(sources))
    if count != len(sources):
        raise OverflowError(f"{len(sources)} pages came out as {count}")
    return pdf


def compiled(markup: str) -> tuple[bytes, int]:
    """The PDF of a Typst document, and how many pages it has."""
    pdf = _compiler().compile(markup.encode())
    assert isinstance(pdf, bytes)
    with pdfium.PdfDocument(pdf) as document:
        return pdf, len(document)


def fits(source: Source) -> bool:
    try:
        typeset([source])
    except OverflowError:
        return False
    return True


@cache
def _compiler() -> typst.Compiler:
    """One compiler a process, which reads the fonts once: 27 ms for the first page, 2 ms for a later one."""
    return typst.Compiler(ignore_system_fonts=True, font_paths=font_folders())


def font_folders() -> list[str]:
    folders = [_package_folder("matplotlib") / "mpl-data" / "fonts" / "ttf"]
    folders += [_package_folder(name) / below for name, below in FONT_PACKAGES.items()]
    return [str(folder) for folder in folders]


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the font package {name} is missing", name=name)
    return Path(spec.origin).parent
