"""Engine: the text that a PDF itself holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version

import pypdfium2 as pdfium
from PIL import Image

from ocr_rl.contract import Page


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLayer:
    """The text that the PDF itself holds, in its own order; nothing where a page is a picture."""

    longest_px: int = 64  # it never looks at the image
    join_hyphens: bool = True  # at the ends of lines: the word goes on after the break

    @property
    def changes(self) -> tuple[str, ...]:
        return ("words that a hyphen parts at a line's end are joined (join_hyphens=false)",) * self.join_hyphens

    def version(self) -> str:
        return f"pypdfium2 {version('pypdfium2')}"

    def __call__(self, image: Image.Image, page: Page) -> str:
        with page.pdf.open("rb") as file:
            if b"%PDF-" not in file.read(1024):
                return ""  # a picture
        document = pdfium.PdfDocument(page.pdf)
        try:
            text = document[page.number - 1].get_textpage().get_text_bounded()
        finally:
            document.close()
        # PDFium writes U+FFFE (older: U+0002) for a hyphen at the end of a line
        text = re.sub("[\ufffe\x02]\\s*", "", text) if self.join_hyphens else re.sub("[\ufffe\x02]", "-", text)
        return text.replace("\r\n", "\n")
