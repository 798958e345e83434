"""Qwen3.5, dense: three of four text layers are a Gated DeltaNet, whose memory is a state and no list of keys.

Yang et al., Gated Delta Networks, arXiv:2412.06464. Packed, a completion starts from where its prompt has left the
state, and the gradient goes back through it: siblings' gradients add up there.

Shapes: N sequences side by side, S = T tokens and the few before them that the
convolution looks back at, C channels that are convolved, H heads with keys K and values V wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus
from transformers import PreTrainedTokenizerFast, Qwen3_5Config, Qwen3VLProcessor
from transformers.models.qwen3_5 import modeling_qwen3_5 as layers

from ocr_rl.models.attention import Packing, apart, together
from ocr_rl.models.byte_tokenizer import byte_tokenizer
from ocr_rl.models.families.qwen3_vl import Qwen3Vl
from ocr_rl.models.family import SMALL_TEXT, Family, Sizes, kept_by_attention

# Tokens that the rule reads at once. A decay between two of them is a difference of sums of logarithms, which are the
# larger the longer the chunk is, so float32 rounds more: docs/families.md has figures. transformers has 64.
CHUNK = 32

# Of a policy that begins from nothing, as the published template ends: an answer begins with its thoughts, or without.
THINKING = (
    "{% if add_generation_prompt %}{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% else %}{{ '<think>\\n' }}{% endif %}{% endif %}"
)


class Qwen3_5(Family):
    name = "Qwen3.5"
    model_type = "qwen3_5"
    architectures = ("Qwen3_5ForConditionalGeneration",)
    vllm_class = "vllm.model_executor.models.qwen3_5:Qwen3_5ForConditionalGeneration"
    config_class = Qwen3_5Config
    processor_class = Qwen3VLProcessor
    never = (*Family.never, "<think>", "</think>")  # special or not: its answers do not think
    template = {"enable_thinking": False}
    rounding = 2e-5  # its rule adds up over the whole text; in float64 the two ways differ by less than 1e-12
    nano = Sizes(
        text={
            **SMALL_TEXT,
            "head_dim": 64,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 64,
            "linear_value_head_dim": 64,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
                "partial_rotary_factor": 0.25,
            },
        },
        vision={key: size for key, size in Qwen3Vl.nano.vision.items() if key != "deepstack_visual_indexes"},
    )

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return byte_tokenizer("<think>", "</think>")

    def processor(self, sizes: Sizes, tokenizer: Any) -> Any:
        processor = super().processor(sizes, tokenizer)
        processor.chat_template += THINKING
        return processor

    def pack(self, model: Any) -> None:
        super().pack(model)
        for layer in model.model.language_model.layers:
            if hasattr(layer, "linear_attn"):
                layer.linear_attn.__class__ = PackedDeltaNet

    def kept_by_mixers(self, text: Any, size: int, seen: float) -> list[float]:
        """Measured on transformers' rule in torch, which keeps float32: 32 times its values, its chunks included.

        Attention keeps its gate and its normed queries too. `fla` keeps less.
        """
        width, heads = text.num_attention_heads * text.head_dim, text.num_key_value_heads / text.num_attention_heads
        kept = {
            "linear_attention": 4.0 * 32 * text.linear_num_value_heads * text.linear_value_head_dim,
            "full_attention": size * (kept_by_attention(width, heads, seen) + 6 * width),
        }
        return [kept[kind] for kind in text.layer_types]

    def engine_options(self, *, on_gpu: bool) -> dict[str, Any]:
        """To keep states with its prefix cache vLLM reads prompts in parts; it refuses to start where it may not."""
        return {"enable_chunked_prefill": True}

    def ready_engine(self, *, on_gpu: bool) -> None:
        if not on_gpu:
            from ocr_rl.models.families.qwen3_5_cpu import install  # here: it needs vLLM

            install()


class PackedDeltaNet(layers.Qwen3_5GatedDeltaNet):
    """The layer over packed tokens: prompts from nothing, completions from their prompt's state.

    Projections are made once over all tokens; the convolution and the rule go by rectangle (`attention.apart`). What a
    prompt leaves is the rule's state and the convolution's last inputs. transformers' functions take the kernels of
    `fla` and `causal_conv1d` where these are installed; with them the packed layer was not tried.
    """

    def forward(self, hidden_states: Tensor, *, packing: Packing, **_: Any) -> Tensor:  # type: ignore[override]
        """(1, X, D) in and out."""
        x_XD = hidden_states[0]
        decay_XH = -self.A_log.float().exp() * softplus(self.in_proj_a(x_XD).float() + self.dt_bias)
        inputs = (self.in_proj_qkv(x_XD), decay_XH, self.in_proj_b(x_XD).sigmoid())
        rectangles = zip(*(apart(x, packing) for x in inputs), strict=True)
        outputs, left = [], []
        for owner in (None,) * len(packing.shapes_PK) + packing.blocks:
            mixed_NTC, decay_NTH, beta_NTH = next(rectangles)
            begin = None if owner is None else [x.index_select(0, owner.owner_R) for x in left[owner.prompts]]
            output, end = self._read(mixed_NTC, decay_NTH, beta_NTH, begin)
            outputs.append(output)
            left.append(end)
        z_XHV = self.in_proj_z(x_XD).unflatten(-1, (-1, self.head_v_dim))
        normed_HV = self.norm(together(outputs, packing).flatten(0, 1), z_XHV.flatten(0, 1))
        return self.out_proj(normed_HV.view(len(x_XD), -1))[None]

    def _read(
        self, mixed_NTC: Tensor, decay_NTH: Tensor, beta_NTH: Tensor, begin: Sequence[Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Outputs (N, T, H, V) of sequences that go on from what others have left, and what they leave themselves."""
        before = self.conv_kernel_size - 1
        nothing = mixed_NTC.new_zeros(len(mixed_NTC), before, mixed_NTC.shape[-1])
        inputs_NBC, state = begin or (nothing, None)
        inputs_NSC = torch.cat([inputs_NBC, mixed_NTC], dim=1)
        conv, bias = self.conv1d.weight.squeeze(1), self.conv1d.bias
        mixed_NSC = layers.causal_conv1d_fn(inputs_NSC.mT, conv, bias, activation=self.activation).mT
        widths = [self.key_dim, self.key_dim, self.value_dim]
        query, key, value = (
            x.unflatten(-1, (-1, n))
            for x, n in zip(
                mixed_NSC[:, before:].split(widths, -1),
                [self.head_k_dim, self.head_k_dim, self.head_v_dim],
                strict=True,
            )
        )
        if (repeat := self.num_v_heads // self.num_k_heads) > 1:
            query, key = query.repeat_interleave(repeat, dim=2), key.repeat_interleave(repeat, dim=2)
        with torch.autocast(mixed_NTC.device.type, enabled=False):  # the rule is for float32
            output_NTHV, state = layers.torch_chunk_gated_delta_rule(
                query,
                key,
                value,
                g=decay_NTH,
                beta=beta_NTH,
                chunk_size=CHUNK,
                initial_state=state,
                output_final_state=True,
                use_qk_l2norm_in_kernel=True,
            )
        return output_NTHV, (inputs_NSC[:, -before:], state)
