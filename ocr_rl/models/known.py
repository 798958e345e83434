"""Known models: how each was asked when its published figures were taken, so that they can be taken again.

A model is known by its hub name, by a folder of that name, or by the preset that its `ocr_rl.json`, a recipe or the
command line names. Prompts are facts of an interface and stand here to the letter; each row names its source. Where a
model writes olmOCR's front matter, `rotation_correction` there is counter-clockwise (`ocr_rl.text.front_matter`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ocr_rl.contract import UserError
from ocr_rl.files import require_text
from ocr_rl.models.settings import FILE, INSTRUCTION, PromptSettings, require_sound
from ocr_rl.text.suggest import did_you_mean

ASK_FRONT_MATTER = (
    " Begin with front matter: between lines of ---, the YAML fields primary_language, is_rotation_valid, "
    "rotation_correction, is_table and is_diagram."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Models that are asked alike."""

    names: tuple[str, ...]  # on the hub
    settings: PromptSettings
    front_matter: bool  # whether a transcript begins with olmOCR's front matter
    general: bool = False  # whether the model answers any prompt; the row is how a public benchmark asked it
    source: str


_BASIC = PromptSettings(  # olmOCR-Bench's
    longest_px=1024,
    instruction=(
        "Please provide a natural, plain text representation of the document, formatted in Markdown. Skip any "
        "headers and footers. For ALL mathematical expressions, use LaTeX notation with \\( and \\) for inline "
        "equations and \\[ and \\] for display equations. Convert any tables into Markdown format."
    ),
    max_tokens=8000,
)
_NOT_PUBLISHED = "asked as Qwen2.5-VL; no published figure was taken so"

KNOWN: tuple[Known, ...] = (
    Known(
        names=("allenai/olmOCR-2-7B-1025", "allenai/olmOCR-2-7B-1025-FP8"),
        settings=PromptSettings(
            longest_px=1288,
            instruction=(
                "Attached is one page of a document that you must process. Just return the plain text representation "
                "of this document as if you were reading it naturally. Convert equations to LateX and tables to HTML.\n"
                "If there are any figures or charts, label them with the following markdown syntax "
                "![Alt text describing the contents of the figure](page_startx_starty_width_height.png)\n"
                "Return your output as markdown, with a front matter section on top specifying values for the "
                "primary_language, is_rotation_valid, rotation_correction, is_table, and is_diagram parameters."
            ),
            max_tokens=8000,
        ),
        front_matter=True,
        source="allenai/olmocr v0.4.0: build_no_anchoring_v4_yaml_prompt in prompts.py, pipeline.py",
    ),
    Known(
        names=(
            "allenai/olmOCR-7B-0825",
            "allenai/olmOCR-7B-0825-FP8",
            "allenai/olmOCR-7B-0725",
            "allenai/olmOCR-7B-0725-FP8",
        ),
        settings=PromptSettings(
            longest_px=1288,
            instruction=(
                "Attached is one page of a document that you must process. Just return the plain text representation "
                "of this document as if you were reading it naturally. Convert equations to LateX and tables to "
                "markdown.\n"
                "Return your output as markdown, with a front matter section on top specifying values for the "
                "primary_language, is_rotation_valid, rotation_correction, is_table, and is_diagram parameters."
            ),
            max_tokens=4500,
        ),
        front_matter=True,
        source="allenai/olmocr v0.3.0 and v0.2.1: build_no_anchoring_yaml_prompt in prompts.py, pipeline.py",
    ),
    Known(
        names=tuple(f"Qwen/Qwen2.5-VL-{size}-Instruct" for size in ("3B", "7B", "32B", "72B")),
        settings=_BASIC,
        front_matter=False,
        general=True,
        source="allenai/olmocr f7cfe4c, bench: convert_all.sh (prompt_template=basic), prompts.py, run_server.py",
    ),
    Known(
        names=tuple(f"Qwen/Qwen3-VL-{size}-Instruct" for size in ("2B", "4B", "8B", "32B")),
        settings=_BASIC,
        front_matter=False,
        general=True,
        source=_NOT_PUBLISHED,
    ),
    Known(
        names=tuple(f"Qwen/Qwen3.5-{size}" for size in ("0.8B", "2B", "4B", "9B", "27B")),
        settings=_BASIC,
        front_matter=False,
        general=True,
        source=_NOT_PUBLISHED,
    ),
    Known(
        names=(
            *(f"OpenGVLab/InternVL3-{size}-hf" for size in ("1B", "2B", "8B", "14B", "38B", "78B")),
            *(f"OpenGVLab/InternVL3_5-{size}-HF" for size in ("1B", "2B", "4B", "8B", "14B", "38B")),
        ),
        settings=_BASIC,
        front_matter=False,
        general=True,
        source=_NOT_PUBLISHED,
    ),
    Known(
        names=("reducto/RolmOCR",),
        settings=PromptSettings(
            longest_px=1024,
            instruction=(
                "Return the plain text representation of this document as if you were reading it naturally.\n"
            ),
            image_first=True,
        ),
        front_matter=False,
        source="allenai/olmocr f7cfe4c, bench: run_rolmocr.py",
    ),
    Known(
        names=(
            "lightonai/LightOnOCR-2-1B",
            "lightonai/LightOnOCR-2-1B-base",
            "lightonai/LightOnOCR-2-1B-ocr-soup",
            "lightonai/LightOnOCR-1B-1025",
        ),
        settings=PromptSettings(longest_px=1540, instruction="", max_tokens=4096),
        front_matter=False,
        source="their cards (request with an image alone, longest dimension); lightonai/LightOnOCR 36755d4: models.py",
    ),
    # A reader of regions that a layout model cuts out. This is the prompt for text in the model's card and for regions
    # in its SDK; whole pages the SDK asked otherwise while it could (`default_prompt`), now it always cuts.
    Known(
        names=("zai-org/GLM-OCR",),
        settings=PromptSettings(
            longest_px=2339,
            instruction="Text Recognition:",
            image_first=True,
            max_prompt_tokens=6200,
            max_tokens=4096,
        ),
        front_matter=False,
        source="zai-org/GLM-OCR 1c6bb76: config.yaml (task_prompt_mapping, pdf_dpi 200, max_tokens), page_loader.py",
    ),
    # Another one: "supports element-level recognition only" where it is used without PaddleOCR's layout model.
    Known(
        names=("PaddlePaddle/PaddleOCR-VL", "PaddlePaddle/PaddleOCR-VL-1.5", "PaddlePaddle/PaddleOCR-VL-1.6"),
        settings=PromptSettings(instruction="OCR:", image_first=True),
        front_matter=False,
        source="huggingface/transformers 0959191: docs/source/en/model_doc/paddleocr_vl.md",
    ),
)
NAMES = tuple(name for model in KNOWN for name in model.names)


def known(model: str) -> Known | None:
    """The row of a hub name, or of a folder that is named so (the hub's own cache included); None for another one."""
    *above, last = Path(model).parts or ("",)
    cached = [part.removeprefix("models--").replace("--", "/") for part in above if part.startswith("models--")]
    hub = [model, "/".join([*above[-1:], last]), *cached]
    wanted = {name.lower() for name in hub}
    if os.path.isdir(model):  # False for a name that is no path at all
        wanted |= {name.lower() for name in NAMES if name.lower().endswith(f"/{last.lower()}")}
    return next((row for row in KNOWN if wanted & {name.lower() for name in row.names}), None)


def require_preset(preset: str, of: str = "") -> Known:
    """The row of a preset. UserError for a name that is not known."""
    row = next((row for row in KNOWN if preset.lower() in map(str.lower, row.names)), None)
    if row is None:
        raise UserError(f"{of}{preset!r} is no known model{did_you_mean(preset, NAMES)} (known: docs/models.md).")
    return row


def read_settings(model: str, preset: str | None = None) -> PromptSettings:
    """How a model wants to be asked: as the preset says, else as its folder does, else as its name is known for.

    A folder's `ocr_rl.json` may name a preset of its own, over which its other keys stand. Where nothing is known, the
    defaults. UserError for an unknown preset, and for a file that is no such settings.
    """
    if preset is not None:
        return require_preset(preset).settings
    path = Path(model) / FILE
    if not os.path.isfile(path):
        row = known(model)
        return row.settings if row else PromptSettings()
    text = require_text(path)
    try:
        data = json.loads(text)
        own = data.pop("preset", None)
        if unknown := set(data) - {field.name for field in fields(PromptSettings)}:
            raise ValueError(f"unknown key {sorted(unknown)[0]}")
        settings = replace(require_preset(own, f"{path}: preset ").settings if own else PromptSettings(), **data)
        require_sound(settings)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: is not a settings file of a policy ({error}); mend or delete it.") from None
    return settings


def instruction_to_learn(model: str, preset: str | None, *, front_matter: bool) -> str | None:
    """What a model is asked that learns here and has no format of its own; None where it has one.

    The general instruction, and front matter is asked for where it is rewarded: a model that was never asked for it
    would not write it, and would learn nothing from its reward.
    """
    row = require_preset(preset) if preset else known(model)
    if (Path(model) / FILE).is_file() or (row and not row.general):
        return None
    return INSTRUCTION + (ASK_FRONT_MATTER if front_matter else "")
