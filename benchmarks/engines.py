"""Engines to compare policies with: Tesseract, RapidOCR and the PDF's own text layer.

Each is a few lines around a program that is installed elsewhere; what they have in common is in
`ocr_rl.evaluate.engines`. What they give is plain text, line by line: no engine here knows tables or formulas.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pypdfium2 as pdfium
from PIL import Image

from ocr_rl.contract import Page, UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tesseract:
    """Tesseract's command line (Debian and Ubuntu: tesseract-ocr)."""

    languages: str = "eng"  # as in "eng+deu"
    longest_px: int = 3300  # a Letter page at the 300 dpi that Tesseract is made for
    timeout_s: float = 240.0  # of one page; below the worker's, so that the program ends with its page

    def version(self) -> str:
        if shutil.which("tesseract") is None:
            raise UserError("engine tesseract: the program is not installed; apt-get install tesseract-ocr.")
        known = self._run("--list-langs").decode().split()
        if lost := [language for language in self.languages.split("+") if language not in known]:
            raise UserError(f"engine tesseract: no language {lost[0]!r}; apt-get install tesseract-ocr-{lost[0]}.")
        return self._run("--version").decode().splitlines()[0].capitalize()

    def __call__(self, image: Image.Image, page: Page) -> str:
        buffer = io.BytesIO()
        image.save(buffer, format="ppm")  # lossless, and not compressed for a trip through a pipe
        return self._run("stdin", "stdout", "-l", self.languages, given=buffer.getvalue()).decode().replace("\f", "")

    def _run(self, *args: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            ["tesseract", *args],
            input=given,
            capture_output=True,
            timeout=self.timeout_s,
            check=False,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}")
        return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class RapidOcr:
    """RapidOCR on ONNX Runtime, with the small models (Latin and Chinese script) that its wheel carries."""

    longest_px: int = 2000  # what it scales larger images down to

    def version(self) -> str:
        try:
            return f"RapidOCR {version('rapidocr')}, ONNX Runtime {version('onnxruntime')}"
        except PackageNotFoundError as missing:
            raise UserError(
                f"engine rapidocr: {missing.name} is not installed; pip install ocr-rl[rapidocr]."
            ) from None

    def __call__(self, image: Image.Image, page: Page) -> str:
        found = _rapidocr()(np.asarray(image)[:, :, ::-1])  # it takes arrays for BGR
        return "\n".join(found.txts or ())


@cache
def _rapidocr() -> Any:
    from rapidocr import RapidOCR  # pyright: ignore[reportMissingImports]: an extra

    return RapidOCR(params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLayer:
    """The text that the PDF itself holds, in its own order; nothing where a page is a picture."""

    longest_px: int = 64  # it never looks at the image

    def version(self) -> str:
        return f"pypdfium2 {version('pypdfium2')}"

    def __call__(self, image: Image.Image, page: Page) -> str:
        document = pdfium.PdfDocument(page.pdf)
        try:
            text = document[page.number - 1].get_textpage().get_text_bounded()
        finally:
            document.close()
        # PDFium writes U+FFFE (older: U+0002) for a hyphen at the end of a line: the word goes on after the break
        return re.sub("[\ufffe\x02]\\s*", "", text).replace("\r\n", "\n")
