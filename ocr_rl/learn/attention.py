"""Vision attention over many images at once: chunks of equal length in one call instead of one call each.

transformers' SDPA path of Qwen2.5-VL's vision tower calls attention once per window or image, in Python; a batch of
small pages spends most of its time there. This is the same computation, batched; exact, on any device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

# transformers hands chunk lengths only to implementations whose name has "flash" in it.
NAME = "flash_by_equal_length"


def attend(
    module: nn.Module,
    query_1HSD: Tensor,
    key_1HSD: Tensor,
    value_1HSD: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: Tensor,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within chunks; `cu_seq_lens_q` are their borders, (chunks + 1,). Returns (1, S, H, D)."""
    lengths = cu_seq_lens_q.diff().tolist()
    places: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        places.setdefault(length, []).append(i)
    chunks: list[Tensor | None] = [None] * len(lengths)
    split = [tensor[0].split(lengths, dim=1) for tensor in (query_1HSD, key_1HSD, value_1HSD)]
    for where in places.values():
        query_CHTD, key_CHTD, value_CHTD = (torch.stack([pieces[i] for i in where]) for pieces in split)
        out_CHTD = scaled_dot_product_attention(query_CHTD, key_CHTD, value_CHTD, dropout_p=dropout, scale=scaling)
        for i, out_HTD in zip(where, out_CHTD.unbind(), strict=True):
            chunks[i] = out_HTD
    out_HSD = torch.cat([chunk for chunk in chunks if chunk is not None], dim=1)
    return out_HSD.transpose(0, 1)[None], None


def batch_vision_attention(model: PreTrainedModel) -> None:
    """Switch a Qwen2.5-VL's vision tower over; the name is not saved with the model."""
    model.model.visual.config._attn_implementation = NAME


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
