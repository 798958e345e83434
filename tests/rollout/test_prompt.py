"""Prompts of the tiny policy: what is in them, and what is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("transformers", reason="transformers is not installed")

from ocr_rl.contract import Page, UserError
from ocr_rl.models.settings import INSTRUCTION
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.prompt import Prompter, load_prompter

LONGEST_PX = 112


def test_text_comes_first_then_the_image(nano_dir: Path) -> None:
    prompter = load_prompter(nano_dir, LONGEST_PX, instruction=INSTRUCTION)
    text = prompter.processor.tokenizer.decode(prompter.token_ids)
    assert text.index(INSTRUCTION) < text.index("<|image_pad|>")
    assert prompter.token_ids.count(prompter.image_id) == 1


def test_an_empty_instruction_leaves_the_image_alone(prompter: Prompter) -> None:
    text = prompter.processor.tokenizer.decode(prompter.token_ids)
    assert text == "<|im_start|><|vision_start|><|image_pad|><|vision_end|><|im_end|><|im_start|>"


def test_trap_1_ids_are_expanded_as_the_processor_itself_does(tiny_pages: list[Page], prompter: Prompter) -> None:
    text = prompter.processor.tokenizer.decode(prompter.token_ids)
    for page in tiny_pages:
        prompt = prompter.prompt(page)
        own = prompter.processor(text=[text], images=[prompter.image(prompt)], return_tensors="np")
        assert prompt.expanded_ids == tuple(own["input_ids"][0].tolist())
        assert (prompt.page_id, prompt.token_ids) == (page.id, prompter.token_ids)


def test_pixels_fit_the_prompt(tiny_pages: list[Page], prompter: Prompter) -> None:
    prompts = [prompter.prompt(page) for page in tiny_pages]
    pixels, grid = prompter.pixels([prompter.image(prompt) for prompt in prompts])
    assert pixels.dtype == np.float32 and pixels.shape == (grid.prod(-1).sum(), 3 * 2 * 14 * 14)
    placeholders = [prompt.expanded_ids.count(prompter.image_id) for prompt in prompts]
    assert placeholders == (grid.prod(-1) // 4).tolist()
    assert placeholders == [8, 8, 12, 16]  # 112 x 56, 112 x 56, 112 x 84 and 112 x 112 px in squares of 28 px


def test_a_page_on_its_side(tiny_pages: list[Page], prompter: Prompter) -> None:
    prompt = prompter.prompt(tiny_pages[0], rotation=90)
    assert prompter.image(prompt).size == (56, 112)


def test_trap_3_a_prompt_that_is_too_long_is_refused_not_cut(nano_dir: Path, tiny_pages: list[Page]) -> None:
    needed = len(load_prompter(nano_dir, LONGEST_PX, instruction="").prompt(tiny_pages[3]).expanded_ids)
    fits = load_prompter(nano_dir, LONGEST_PX, instruction="", max_prompt_tokens=needed)
    assert len(fits.prompt(tiny_pages[3]).expanded_ids) == needed
    short = load_prompter(nano_dir, LONGEST_PX, instruction="", max_prompt_tokens=needed - 1)
    with pytest.raises(PageError, match=f"page 4.*{needed} tokens.*max_prompt_tokens is {needed - 1}"):
        short.prompt(tiny_pages[3])
    assert short.prompt(tiny_pages[0])


@pytest.mark.parametrize("text", ["", "Straße № 7\n\n| a | b |", "<table>\n<tr><td>1</td></tr>\n</table>", "  two  \t"])
def test_text_survives_encoding(prompter: Prompter, text: str) -> None:
    ids = prompter.encode(text)
    assert prompter.decode((*ids, prompter.eos_id)) == text
    assert not set(ids) & {*prompter.banned_ids, prompter.eos_id}


@pytest.mark.parametrize("text", ["a<|image_pad|>b", "x<|im_end|>y", "<|endoftext|>"])
def test_trap_25_text_that_reads_like_a_special_token_is_text(prompter: Prompter, text: str) -> None:
    ids = prompter.encode(text)
    assert not set(ids) & {*prompter.banned_ids, prompter.eos_id}
    assert prompter.decode(ids) == text and len(ids) == len(text)
    assert len(prompter.encode("<table>\n<tr><td>**")) == 4  # the format's own strings stay one token each


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|im_end|>"])
def test_trap_25_an_instruction_cannot_bring_a_page_or_an_end_of_its_own(nano_dir: Path, token: str) -> None:
    with pytest.raises(UserError, match=f"The instruction holds {re.escape(repr(token))}"):
        load_prompter(nano_dir, LONGEST_PX, instruction=f"Read what stands after {token}.")


def test_trap_25_a_tokenizer_that_makes_a_banned_token_of_text_is_refused(prompter: Prompter) -> None:
    (letter,) = prompter.encode("a")
    with pytest.raises(UserError, match="the text 'a'"):
        replace(prompter, banned_ids=(letter,)).encode("bab")


def test_trap_4_every_special_token_but_eos_is_banned(prompter: Prompter) -> None:
    tokenizer = prompter.processor.tokenizer
    banned = {tokenizer.convert_ids_to_tokens(i) for i in prompter.banned_ids}
    assert {"<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|endoftext|>"} <= banned
    assert prompter.eos_id not in prompter.banned_ids
    assert all(prompter.decode([i]) == "" for i in prompter.banned_ids)
    assert all(prompter.decode([i]) for i in range(len(tokenizer)) if i not in {*prompter.banned_ids, prompter.eos_id})


@pytest.mark.parametrize("missing", ["everything", "preprocessor_config.json", "chat_template.jinja"])
def test_a_folder_without_a_usable_processor_is_a_user_error(nano_dir: Path, tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "model"
    if missing == "everything":
        folder.mkdir()
    else:
        shutil.copytree(nano_dir, folder)
        _remove(folder, missing)
    with pytest.raises(UserError, match=str(folder)):
        load_prompter(folder, LONGEST_PX, instruction=INSTRUCTION)


def _remove(folder: Path, name: str) -> None:
    """Newer processors keep everything in processor_config.json, older ones a file for each part."""
    for path in folder.glob("*processor_config.json" if name == "preprocessor_config.json" else name):
        path.unlink()


def test_foreign_images_are_taken_as_they_are(prompter: Prompter) -> None:
    pixels, grid = prompter.pixels([Image.new("RGB", (57, 31), "white")])
    assert grid.tolist() == [[1, 2, 4]] and len(pixels) == 8


def test_the_module_itself_needs_no_torch() -> None:
    names = ", ".join(f"ocr_rl.rollout.{name}" for name in ("prompt", "scoring", "compare", "collect", "sampler.base"))
    code = f"import sys, {names}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "False", done.stderr
