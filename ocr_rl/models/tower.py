"""Attention of vision towers on a GPU: patches see those of their own image, or window, in one call of a kernel.

transformers calls torch once for each image or window, in every layer: 108 windows and 28 layers are 3,000 launches a
page of Qwen2.5-VL, and the host waits in each layer to learn where to cut. By a name with "flash" in it the towers hand
over all patches with the bounds instead, as transformers' own Flash Attention wants them. Where no kernel takes the
numbers (float32), it is transformers' way again.

Shapes: S patches of all images; H heads of width D; N images or windows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ocr_rl.models.varlen import apart_segments, by_segments, kernel_for

BY_BOUNDS = "flash_by_bounds"  # its name among transformers' attention functions


def attend_by_bounds(
    module: torch.nn.Module,
    query_1HSD: Tensor,
    key_1HSD: Tensor,
    value_1HSD: Tensor,
    attention_mask: None,
    scaling: float,
    dropout: float = 0.0,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """As transformers asks for it, (1, H, S, D) in and (1, S, H, D) out; bounds (N + 1) begin with 0."""
    given = (query_1HSD, key_1HSD, value_1HSD)
    if dropout == 0 and (output := by_kernel(*given, cu_seq_lens_q, max_length_q, scaling)) is not None:
        return output, None
    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]
    lengths = (cu_seq_lens_q[1:] - cu_seq_lens_q[:-1]).tolist()
    pieces = zip(*(x.split(lengths, dim=2) for x in given), strict=True)
    how: dict[str, Any] = {"scaling": scaling, "dropout": dropout, "is_causal": False}
    return torch.cat([plain(module, *piece, attention_mask=None, **how)[0] for piece in pieces], dim=1), None


def by_kernel(
    query_1HSD: Tensor, key_1HSD: Tensor, value_1HSD: Tensor, bounds_N: Tensor, longest: int, scale: float
) -> Tensor | None:
    """(1, S, H, D); None where there is no kernel for such numbers."""
    device = query_1HSD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query_1HSD.dtype
    query, key, value = (x[0].transpose(0, 1) for x in (query_1HSD, key_1HSD, value_1HSD))
    if (kernel := kernel_for(query, key, dtype)) is None:
        return None
    segments = apart_segments(bounds_N, longest)
    return by_segments(query.to(dtype), key.to(dtype), value.to(dtype), segments, scale, kernel)[None]
