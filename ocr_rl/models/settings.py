"""How a policy wants to be asked: kept as `ocr_rl.json` in its folder, so that training, evaluation and use agree."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ocr_rl.contract import UserError
from ocr_rl.pages.raster import LONGEST_PX, MAX_PX

FILE = "ocr_rl.json"
INSTRUCTION = (
    "Transcribe this page in natural reading order. Write text as Markdown, tables as HTML, inline formulas as "
    "\\( \\) and displayed ones as \\[ \\] in LaTeX. Leave out running headers, footers and page numbers."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSettings:
    longest_px: int = LONGEST_PX  # of the page image
    instruction: str = INSTRUCTION  # text before the image
    max_prompt_tokens: int = 4096  # instruction and image; a page that needs more is refused, never cut
    max_tokens: int = 4096  # of a transcript


def read_settings(model: str) -> PromptSettings:
    """Those in the model's folder; the defaults for a hub name or a folder without the file."""
    path = Path(model) / FILE
    if not path.is_file():
        return PromptSettings()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if unknown := set(data) - {field.name for field in fields(PromptSettings)}:
            raise ValueError(f"unknown key {sorted(unknown)[0]}")
        settings = PromptSettings(**data)
        sizes = (settings.longest_px, settings.max_prompt_tokens, settings.max_tokens)
        if not (all(isinstance(size, int) and size > 0 for size in sizes) and isinstance(settings.instruction, str)):
            raise ValueError("sizes are whole numbers above 0, instruction is text")
        if settings.longest_px > MAX_PX:
            raise ValueError(f"longest_px is at most {MAX_PX}")
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: is not a settings file of a policy ({error}); mend or delete it.") from None
    return settings


def write_settings(folder: Path, settings: PromptSettings) -> None:
    (folder / FILE).write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")
