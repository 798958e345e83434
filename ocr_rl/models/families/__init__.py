"""The families, one file each; `family_of` is how everybody else finds theirs."""

from __future__ import annotations

import os
from typing import Any

import torch

from ocr_rl.models.families.glm_ocr import GlmOcr
from ocr_rl.models.families.internvl import InternVl
from ocr_rl.models.families.lighton_ocr import LightOnOcr
from ocr_rl.models.families.paddleocr_vl import PaddleOcrVl
from ocr_rl.models.families.qwen2_5_vl import Qwen2_5Vl
from ocr_rl.models.families.qwen2_vl import Qwen2Vl
from ocr_rl.models.families.qwen3_5 import Qwen3_5
from ocr_rl.models.families.qwen3_vl import Qwen3Vl
from ocr_rl.models.family import Family
from ocr_rl.torchvision_shim import ASKED

FAMILIES: tuple[Family, ...] = (
    Qwen2Vl(),
    Qwen2_5Vl(),
    Qwen3Vl(),
    Qwen3_5(),
    GlmOcr(),
    PaddleOcrVl(),
    LightOnOcr(),
    InternVl(),
)


def family_of(settings: Any) -> Family:
    """The family of a model's configuration, by the architecture that it names; by its type where it names none.

    Raises LookupError, a sentence without its stop, for a model of none of them.
    """
    written = getattr(settings, "architectures", None) or ()
    written = (written,) if isinstance(written, str) else written
    for family in FAMILIES:
        if set(written) & set(family.architectures) or (not written and settings.model_type == family.model_type):
            return family
    names = ", ".join(family.name for family in FAMILIES)
    raise LookupError(
        f"is a {[*written, settings.model_type][0]}, which is none of the families that run here ({names})"
    )


def ready_server() -> None:
    """An entry point that vLLM calls in everybody's processes: in those of a server started here, as in an engine's."""
    if os.environ.get(ASKED) == "1":
        for family in FAMILIES:
            family.ready_engine(on_gpu=torch.cuda.is_available())
