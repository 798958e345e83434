"""Tokens and their places in the text, for each way in which tokenizers write bytes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("transformers", reason="transformers is not installed")

from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from ocr_rl.models.byte_tokenizer import byte_tokenizer
from ocr_rl.rollout.token_ends import token_ends, tokens_in


def with_vocabulary(names: list[str], decoder: object) -> PreTrainedTokenizerFast:
    """Ids are the places of the names; the last one is the end, and special."""
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=names[-1]))
    tokenizer.decoder = decoder  # type: ignore[assignment]
    tokenizer.add_special_tokens([AddedToken(names[-1], special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=names[-1])


def test_a_byte_a_token() -> None:
    tokenizer = byte_tokenizer()
    text = "aé\n<td>€"  # 1, 2 and 1 bytes, one added token, 3 bytes
    ids = tokenizer.encode(text, add_special_tokens=False) + [tokenizer.eos_token_id]
    ends = token_ends(tokenizer, ids, text)
    assert ends == (1, 1, 2, 3, 7, 7, 7, 8, 8)  # the last one is the end, which shows nothing
    assert list(tokens_in((1, 2), ends)) == [1, 2]  # both halves of é
    assert list(tokens_in((4, 5), ends)) == [4]
    assert list(tokens_in((7, 8), ends)) == [5, 6, 7]
    assert list(tokens_in((3, 3), ends)) == [3, 4]  # nothing stands there: what is before and behind it
    assert list(tokens_in((0, 0), ends)) == [0]
    assert list(tokens_in((8, 8), ends)) == [7, 8]


def test_byte_level_tokens_that_end_inside_a_character() -> None:
    # "Ġ" is a space, "â" "Ĥ" "¬" the bytes of "€"; "a\n" was added as it stands.
    tokenizer = with_vocabulary(["Ġxâ", "Ĥ¬y", "a\n", "Ĥ", "<end>"], decoders.ByteLevel())
    for ids in ([0, 1, 2, 4], [0, 2, 1], [3, 3, 0], [0]):
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        ends = token_ends(tokenizer, ids, text)
        assert ends[-1] == len(text), (ids, text, ends)
    assert token_ends(tokenizer, [0, 1, 2, 4], " x€ya\n") == (2, 4, 6, 6)


def test_tokens_that_fall_back_to_bytes() -> None:
    decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = with_vocabulary(["\u2581ab", "<0xE2>", "<0x82>", "<0xAC>", "\u2581", "<end>"], decoder)
    ids = [0, 4, 1, 2, 3, 0, 5]
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert text == " ab € ab"
    assert token_ends(tokenizer, ids, text) == (3, 4, 4, 4, 5, 8, 8)
    # Bytes that are no character are one sign each here, and byte-level tokenizers write one for both.
    ids = [0, 1, 2, 0]
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert text == " ab\ufffd\ufffd ab"
    assert token_ends(tokenizer, ids, text) == (3, 3, 3, 8)


def test_a_tokenizer_that_writes_in_a_way_of_its_own() -> None:
    # WordPiece joins "##b" to what is before it and parts the others by spaces.
    tokenizer = with_vocabulary(["a", "##b", "c", "<end>"], decoders.WordPiece())
    ids = [0, 1, 2, 3, 2]
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert text == "ab c c"
    assert token_ends(tokenizer, ids, text) == (1, 2, 4, 4, 6)


@pytest.mark.parametrize("text", ["", "something else", "\ud800\x00", "a" * 50])
def test_a_text_that_is_not_theirs_is_no_error(text: str) -> None:
    tokenizer = byte_tokenizer()
    ends = token_ends(tokenizer, [70, 71, 10**6, tokenizer.eos_token_id, 99], text)
    assert len(ends) == 5
    assert all(0 <= end <= len(text) for end in ends) and list(ends) == sorted(ends)


def test_an_end_that_is_no_special_token_is_cut_off_the_text() -> None:
    names = {0: "a", 1: "b", 2: "</s>"}
    plain = SimpleNamespace(convert_ids_to_tokens=lambda ids: [names[i] for i in ids], added_tokens_decoder={})
    assert token_ends(plain, [0, 1, 2], "ab") == (1, 2, 2)


def test_no_tokens() -> None:
    assert token_ends(byte_tokenizer(), [], "") == ()
    assert list(tokens_in((0, 3), ())) == []
    assert list(tokens_in((0, 0), ())) == []
