"""Engine: RapidOCR on ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from PIL import Image

from ocr_rl.contract import Page, UserError


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
        result = _rapidocr()(np.asarray(image)[:, :, ::-1])  # it takes arrays for BGR
        return "\n".join(result.txts or ())


@cache
def _rapidocr() -> Any:
    from rapidocr import RapidOCR  # pyright: ignore[reportMissingImports]: an extra

    return RapidOCR(params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": 1})
