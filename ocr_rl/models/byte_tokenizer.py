"""A byte-level tokenizer of about 300 tokens, for policies that begin from nothing.

Tokens are bytes, plus the fixed strings of the output format (front matter keys, table tags), so that a page is about
as many tokens as characters.
"""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Fixed strings of the transcript format: one token each instead of 3 to 22 bytes.
FORMAT = (
    "---\n",
    "primary_language: ",
    "is_rotation_valid: ",
    "rotation_correction: ",
    "is_table: ",
    "is_diagram: ",
    "en\n",
    "null\n",
    "True\n",
    "False\n",
    "0\n",
    "<table>\n",
    "</table>",
    "<tr>",
    "</tr>\n",
    "<th>",
    "</th>",
    "<td>",
    "</td>",
    "**",
    "\\[ ",
    " \\]",
    "\\frac{",
    "\\sqrt{",
    "}{",
)
# Shorter than Qwen's (roles are left out), same structure: text and image of the user, then the answer.
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def byte_tokenizer(*more: str, **named: str) -> PreTrainedTokenizerFast:
    """With `more` special tokens after SPECIAL; `named`: what a family's processor asks by name (image_token=...)."""
    special = (*SPECIAL, *more)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate((*special, *letters))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in FORMAT])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(special),
        clean_up_tokenization_spaces=False,
        **({"model_specific_special_tokens": named} if named else {}),
    )
    if not named:
        fast.image_token, fast.video_token = "<|image_pad|>", "<|video_pad|>"
    fast.chat_template = CHAT_TEMPLATE
    return fast
