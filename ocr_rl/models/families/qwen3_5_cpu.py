"""Gated DeltaNet in vLLM's CPU build in float32: the core of the layer in torch. Written for vLLM 0.32.

vLLM's own CPU kernels take bfloat16 alone, and heads of 64 or 128; an engine in float32 dies with its first sample.
They stay in use for bfloat16.
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
from vllm.utils.torch_utils import _resolve_layer_name

_in_bfloat16 = own.cpu_gdn_attention_core


def install() -> None:
    """Before an engine starts: vLLM looks the function up, once a process, when it makes the first such layer."""
    own.cpu_gdn_attention_core = _core


def _core(mixed_qkv: Tensor, b: Tensor, a: Tensor, core_attn_out: Tensor, layer_name: own.LayerNameType) -> None:
    """Fill `core_attn_out` (tokens, heads, width) and the cached states of the sequences that the tokens belong to."""
    if mixed_qkv.dtype == torch.bfloat16:
        return _in_bfloat16(mixed_qkv, b, a, core_attn_out, layer_name)
    context = get_forward_context()
    layer = context.no_compile_layers[_resolve_layer_name(layer_name)]
    if context.attn_metadata is None:  # a trial run, for its memory
        return None
    meta: Any = context.attn_metadata[layer.prefix]  # type: ignore[index]
    decay = -layer.A_log.float().exp() * softplus(a.float() + layer.dt_bias.float())
    beta = b.float().sigmoid()
    slots, starts = meta.non_spec_state_indices_tensor.tolist(), meta.non_spec_query_start_loc.tolist()
    for i in range(meta.num_decodes + meta.num_prefills):
        tokens = slice(starts[i], starts[i + 1])
        begins = i >= meta.num_decodes and not meta.has_initial_state[i]
        output = _go_on(layer, slots[i], mixed_qkv[tokens], decay[tokens], beta[tokens], begins=begins)
        core_attn_out[tokens] = output
    return None


# The schema of the operator is read off the annotations, as objects.
_core.__annotations__ = {name: Tensor for name in ("mixed_qkv", "b", "a", "core_attn_out")}
_core.__annotations__ |= {"layer_name": own.LayerNameType, "return": None}


def _go_on(layer: Any, slot: int, mixed_TC: Tensor, decay_TH: Tensor, beta_TH: Tensor, *, begins: bool) -> Tensor:
    """Outputs (T, H, V) of one sequence, from the states in a slot of the cache, or from none; they are replaced."""
    before_CB, state_HKV = _states(layer, slot)
    if begins:
        before_CB.zero_()
        state_HKV.zero_()
    inputs_CS = torch.cat([before_CB, mixed_TC.T], dim=1)
    before_CB.copy_(inputs_CS[:, -before_CB.shape[1] :])
    weight_C1B = layer.conv1d.weight
    mixed_TC = silu(conv1d(inputs_CS[None], weight_C1B, layer.conv1d.bias, groups=len(weight_C1B)))[0].T
    query, key, value = layer.rearrange_mixed_qkv(mixed_TC)
    if (repeat := layer.num_v_heads // layer.num_k_heads) > 1:
        query, key = query.repeat_interleave(repeat, dim=2), key.repeat_interleave(repeat, dim=2)
    single = len(mixed_TC) == 1
    rule = layers.torch_recurrent_gated_delta_rule if single else layers.torch_chunk_gated_delta_rule
    output_1THV, state_1HKV = rule(
        query,
        key,
        value,
        g=decay_TH[None],
        beta=beta_TH[None],
        initial_state=state_HKV[None],
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    state_HKV.copy_(state_1HKV[0])
    return output_1THV[0]


def _states(layer: Any, slot: int) -> tuple[Tensor, Tensor]:
    """Views of the cache: the convolution's last inputs (C, before) and the rule's state (H, K, V)."""
    inputs, states = layer.kv_cache[0][slot], layer.kv_cache[1][slot]
    inputs_CB = inputs if is_conv_state_dim_first() else inputs.T
    return inputs_CB, states.view(len(states), layer.head_k_dim, layer.head_v_dim)
