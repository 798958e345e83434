"""A page becomes a prompt: instruction text and the page's image, in the policy's own chat format.

The only caller of the chat template and of the model's processor, by way of its family. It knows nothing about
weights, samplers or rewards, and holds no tensors: pixels leave as numpy arrays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ocr_rl.contract import Page, UserError
from ocr_rl.pages.images import page_image, prefetch
from ocr_rl.pages.raster import LONGEST_PX, ImageRef, PageError
from ocr_rl.rollout.flow import Prompt
from ocr_rl.torchvision_shim import declare_in_time

if TYPE_CHECKING:
    from ocr_rl.models.family import Family
    from ocr_rl.models.settings import PromptSettings


class PromptTooLong(PageError):
    """More tokens than `max_prompt_tokens`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompter:
    """Everything around the weights that turns pages into token ids and pixels, and token ids back into text."""

    family: Family
    processor: Any  # transformers' own
    token_ids: tuple[int, ...]  # the whole prompt with ONE image placeholder; the same for every page
    image_id: int  # the placeholder
    eos_id: int
    banned_ids: tuple[int, ...]  # never sampled: vision tokens and every special token but EOS, which decode drops
    longest_px: int
    max_prompt_tokens: int | None

    def prompt(self, page: Page, rotation: int = 0) -> Prompt:
        """Ask for one page. Raises PageError when it cannot be drawn or is too long; nothing is ever cut off."""
        ref = self._ref(page, rotation)
        expanded_ids = self.expand(self.num_image_tokens(page_image(ref)))
        if self.max_prompt_tokens is not None and len(expanded_ids) > self.max_prompt_tokens:
            raise PromptTooLong(
                page.pdf,
                page.number,
                f"the prompt has {len(expanded_ids)} tokens and max_prompt_tokens is {self.max_prompt_tokens}: "
                "raise it or lower longest_px",
            )
        return Prompt(page_id=page.id, image=ref, token_ids=self.token_ids, expanded_ids=expanded_ids)

    def prefetch(self, pages: Iterable[Page]) -> None:
        """Begin to draw pages that will be asked for soon, while others are read or learnt from."""
        prefetch(map(self._ref, pages))

    def _ref(self, page: Page, rotation: int = 0) -> ImageRef:
        return ImageRef(pdf=page.pdf, number=page.number, longest_px=self.longest_px, rotation=rotation)

    def image(self, prompt: Prompt) -> Image.Image:
        """The page's image, RGB, before the processor's own resizing. Raises PageError."""
        return page_image(prompt.image)

    def num_image_tokens(self, image: Image.Image) -> int:
        """Number of placeholders that stand for an image."""
        return self.family.num_image_tokens(self.processor, image)

    def expand(self, num_image_tokens: int) -> tuple[int, ...]:
        """The prompt as the model sees it, with that many placeholders instead of one."""
        at = self.token_ids.index(self.image_id)
        image_ids = self.family.image_ids(self.processor, num_image_tokens)
        return (*self.token_ids[:at], *image_ids, *self.token_ids[at + 1 :])

    def pixels(self, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """For the vision tower: float32 pixels of all images, and their sizes (images, ...) as the tower reads them."""
        return self.family.pixels(self.processor, images)

    def encode(self, text: str) -> tuple[int, ...]:
        """A transcript as token ids, without EOS. Text that reads like a special token is text, and stays it."""
        tokenizer, split = self.processor.tokenizer, self._split
        never = {self.eos_id, *self.banned_ids}
        ids = tuple(split(text))
        if never.isdisjoint(ids):
            return ids
        # Tokens that tokenizer.json does not declare special are not split: the text is, after their first letter.
        names = tokenizer.convert_ids_to_tokens(sorted(never))
        inside = re.compile("|".join(f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in names))
        ids = tuple(chain.from_iterable(map(split, inside.split(text))))
        if wrong := never.intersection(ids):
            name = tokenizer.convert_ids_to_tokens(min(wrong))
            raise UserError(
                f"The tokenizer makes of the text {name!r} a token that no answer may hold; declare it special in the "
                "model's tokenizer.json, or take it out of the text."
            )
        return ids

    def count(self, text: str) -> int:
        """Tokens of any text, EOS included: how long a sample is that says it."""
        return len(self._split(text.encode("utf-8", "replace").decode("utf-8"))) + 1  # a PDF may hold half a letter

    def _split(self, text: str) -> list[int]:
        return self.processor.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def decode(self, token_ids: Sequence[int]) -> str:
        """A transcript as text, without special tokens."""
        ended = len(token_ids) > 0 and token_ids[-1] == self.eos_id
        return self.processor.tokenizer.decode(
            list(token_ids[:-1] if ended else token_ids),  # the end may be no special token
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The model that a policy starts from: where it lies, how it wants to be asked, and what asks it."""

    path: str  # a folder or a hub name
    settings: PromptSettings
    prompter: Prompter


def load_prompter(
    model: str | Path,
    longest_px: int = LONGEST_PX,
    *,
    instruction: str,
    image_first: bool = False,
    max_prompt_tokens: int | None = None,
    trust_remote_code: bool = False,
) -> Prompter:
    """The prompter of a model folder or hub name. Raises UserError for one without a usable processor."""
    from ocr_rl.models.families import family_of  # here: this module is imported where there is no torch
    from ocr_rl.models.load import load_config

    settings = load_config(str(model), trust_remote_code=trust_remote_code)
    family = family_of(settings)
    processor = _processor(model, family, trust_remote_code)
    if reason := family.unlike(processor, settings):
        raise UserError(f"{model}: its processor and its config.json differ: {reason}; copy the folder again.")
    tokenizer, image_id = processor.tokenizer, processor.image_token_id
    end = family.end_token or tokenizer.eos_token
    if end is None:
        raise UserError(f"{model}: its tokenizer names no eos_token, so no answer could end; add it to the tokenizer.")
    for token in (tokenizer.convert_ids_to_tokens(image_id), end):
        if token in instruction:
            raise UserError(f"The instruction holds {token!r}, which {model} does not read as text; take it out.")
    chat = _chat(processor, family, instruction, model, image_first=image_first)
    token_ids = tuple(tokenizer.encode(chat, add_special_tokens=False))
    if token_ids.count(image_id) != 1:
        raise UserError(
            f"{model}: its chat template writes {token_ids.count(image_id)} image placeholders for one image; "
            f"use a chat template of {family.name}."
        )
    eos_id = tokenizer.convert_tokens_to_ids(end)
    return Prompter(
        family=family,
        processor=processor,
        token_ids=token_ids,
        image_id=image_id,
        eos_id=eos_id,
        banned_ids=_banned_ids(tokenizer, family, eos_id),
        longest_px=longest_px,
        max_prompt_tokens=max_prompt_tokens,
    )


def _processor(model: str | Path, family: Family, trust_remote_code: bool) -> Any:
    declare_in_time()
    try:
        processor = family.load_processor(str(model), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{model}: no processor loads from it ({reason}); give the folder of a model that reads images."
        ) from None
    for part in ("tokenizer", "image_processor", "image_token_id"):
        if not hasattr(processor, part):
            raise UserError(f"{model}: its processor has no {part}; give the folder of a model that reads images.")
    return processor


def _chat(processor: Any, family: Family, instruction: str, model: str | Path, *, image_first: bool) -> str:
    if not processor.chat_template:
        raise UserError(f"{model}: it has no chat template; add chat_template.jinja to the folder.")
    return processor.apply_chat_template(
        family.messages(instruction, image_first=image_first),
        tokenize=False,
        add_generation_prompt=True,
        **family.template,
    )


def _banned_ids(tokenizer: Any, family: Family, eos_id: int) -> tuple[int, ...]:
    """Decoding drops special tokens: the rewards could not see a sampled one, yet the loss would."""
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    vocabulary = tokenizer.get_vocab()
    never = {vocabulary[token] for token in family.never if token in vocabulary}
    return tuple(sorted((special | never) - {eos_id}))
