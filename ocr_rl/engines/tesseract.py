"""Engine: Tesseract's command line."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from dataclasses import dataclass

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
        languages = self._run("--list-langs").decode().split()
        if lost := [language for language in self.languages.split("+") if language not in languages]:
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
