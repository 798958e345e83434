"""How a policy wants to be asked: kept as `ocr_rl.json` in its folder, so that training, evaluation and use agree."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ocr_rl.pages.raster import LONGEST_PX, MAX_PX

FILE = "ocr_rl.json"
INSTRUCTION = (
    "Transcribe this page in natural reading order. Write text as Markdown, tables as HTML, inline formulas as "
    "\\( \\) and displayed ones as \\[ \\] in LaTeX. Leave out running headers, footers and page numbers."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSettings:
    longest_px: int = LONGEST_PX  # of the page image
    instruction: str = INSTRUCTION  # text before the image, or after it
    image_first: bool = False  # whether the image stands before the text
    max_prompt_tokens: int = 4096  # instruction and image; a page that needs more is refused, never cut
    max_tokens: int = 4096  # of a transcript


def require_sound(settings: PromptSettings) -> None:
    """ValueError where a value is of the wrong kind or too large."""
    sizes = (settings.longest_px, settings.max_prompt_tokens, settings.max_tokens)
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise ValueError("sizes are whole numbers above 0")
    if not isinstance(settings.instruction, str) or not isinstance(settings.image_first, bool):
        raise ValueError("instruction is text, image_first true or false")
    if settings.longest_px > MAX_PX:
        raise ValueError(f"longest_px is at most {MAX_PX}")


def write_settings(folder: Path, settings: PromptSettings) -> None:
    (folder / FILE).write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")
