"""Gated DeltaNet in vLLM's CPU build in float32: the core of the layer in torch. Written for vLLM 0.32.

vLLM's own CPU kernels take bfloat16 alone, and heads of 64 or 128; an engine in float32 dies with its first sample.
They stay in use for bfloat16.

Shapes: X tokens of all sequences, N sequences side by side, C channels that are convolved, S = B + T inputs of the
convolution, H heads with keys K and values V wide.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv1d, silu, softplus
from transformers.models.qwen3_5 import modeling_qwen3_5 as layers
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.mamba.mamba_utils import is_conv_state_dim_first
from vllm.model_executor.layers.mamba.ops.cpu import gdn_attention as own
from vllm.utils.torch_utils import LayerNameType, _resolve_layer_name

_in_bfloat16 = own.cpu_gdn_attention_core


def install() -> None:
    """Before an engine starts: vLLM looks the function up, once a process, when it makes the first such layer."""
    own.cpu_gdn_attention_core = _core


def _core(mixed_qkv: Tensor, b: Tensor, a: Tensor, core_attn_out: Tensor, layer_name: LayerNameType) -> None:
    """Fill `core_attn_out` (tokens, heads, width) and the cached states of the sequences that the tokens belong to."""
    if mixed_qkv.dtype == torch.bfloat16:
        return _in_bfloat16(mixed_qkv, b, a, core_attn_out, layer_name)
    context = get_forward_context()
    layer = context.no_compile_layers[_resolve_layer_name(layer_name)]
    if context.attn_metadata is None:  # a trial run, for its memory
        return None
    meta: Any = context.attn_metadata[layer.prefix]  # type: ignore[index]
    decay_XH = -layer.A_log.float().exp() * softplus(a.float() + layer.dt_bias.float())
    beta_XH = b.float().sigmoid()
    slots, starts = meta.non_spec_state_indices_tensor, meta.non_spec_query_start_loc.tolist()
    single, count = meta.num_decodes, meta.num_decodes + meta.num_prefills
    together = [(0, single, False)] if single else []  # sequences one token on, side by side
    together += [(i, i + 1, not meta.has_initial_state[i]) for i in range(single, count)]
    for i, k, begins in together:
        tokens = slice(starts[i], starts[k])
        inputs = (x[tokens].unflatten(0, (k - i, -1)) for x in (mixed_qkv, decay_XH, beta_XH))
        core_attn_out[tokens] = _go_on(layer, slots[i:k].long(), *inputs, begins=begins).flatten(0, 1)
    return None


# The schema of the operator is read off the annotations, as objects.
_core.__annotations__ = {name: Tensor for name in ("mixed_qkv", "b", "a", "core_attn_out")}
_core.__annotations__ |= {"layer_name": LayerNameType, "return": None}


def _go_on(
    layer: Any, slots_N: Tensor, mixed_NTC: Tensor, decay_NTH: Tensor, beta_NTH: Tensor, *, begins: bool
) -> Tensor:
    """Outputs (N, T, H, V) of sequences, from the states in their slots of the cache, or from none; they are replaced.

    The cache holds the convolution's last inputs, B of them, and the rule's state (H, K, V).
    """
    inputs, states = layer.kv_cache[0], layer.kv_cache[1]
    inputs = inputs if is_conv_state_dim_first() else inputs.mT
    states = states.view(*states.shape[:2], layer.head_k_dim, layer.head_v_dim)
    before_NCB, state_NHKV = inputs[slots_N], states[slots_N]
    if begins:
        before_NCB, state_NHKV = torch.zeros_like(before_NCB), torch.zeros_like(state_NHKV)
    inputs_NCS = torch.cat([before_NCB, mixed_NTC.mT], dim=2)
    inputs[slots_N] = inputs_NCS[:, :, -before_NCB.shape[2] :]
    weight = layer.conv1d.weight
    mixed_XC = silu(conv1d(inputs_NCS, weight, layer.conv1d.bias, groups=len(weight))).mT.flatten(0, 1)
    # (1, X, heads, width) of all sequences
    query, key, value = (x[0].unflatten(0, mixed_NTC.shape[:2]) for x in layer.rearrange_mixed_qkv(mixed_XC))
    if (repeat := layer.num_v_heads // layer.num_k_heads) > 1:
        query, key = query.repeat_interleave(repeat, dim=2), key.repeat_interleave(repeat, dim=2)
    single = mixed_NTC.shape[1] == 1
    rule = layers.torch_recurrent_gated_delta_rule if single else layers.torch_chunk_gated_delta_rule
    output_NTHV, states[slots_N] = rule(
        query,
        key,
        value,
        g=decay_NTH,
        beta=beta_NTH,
        initial_state=state_NHKV,
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    return output_NTHV
