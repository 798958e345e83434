"""Where each token of a sample ends in its text: the bridge from places in a transcript to tokens.

    token_ends(tokenizer, ids, text)    # one character offset a token, never falling; the last is at most len(text)
    tokens_in((3, 9), ends)             # range of the tokens that hold a character of text[3:9], or a part of one

A byte-level token may end inside a character, which then ends with the token that completes it. Knows nothing about
scores.
"""

from __future__ import annotations

import codecs
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any

WINDOW = 8  # tokens that are decoded at once where a tokenizer's own pieces do not add up to the text
_NAMES = 2**16  # whose bytes are kept: a rollout uses the same few thousand names again and again
_BYTES = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}  # of tokenizers that fall back to bytes


def token_ends(tokenizer: Any, ids: Sequence[int], text: str) -> tuple[int, ...]:
    """The offset in `text` (characters) where each token ends; a token that shows nothing ends where the last one does.

    `text` is what the ids decode to without special tokens; where it is anything else the offsets are clipped to it.
    Linear in the ids, and never an error for any text.
    """
    special = _special_ids(tokenizer)
    names = tokenizer.convert_ids_to_tokens(list(ids))
    names = ["" if i in special or name is None else name for i, name in zip(ids, names, strict=True)]
    for to_bytes in (_byte_level, _sentence_piece):
        pieces = _decoded(map(to_bytes, names))
        if "".join(pieces).startswith(text):  # an end that is no special token may be cut off
            return _clipped(accumulate(map(len, pieces)), text)
    shown = [i for i, name in zip(ids, names, strict=True) if name]
    ends = iter(_by_windows(shown, lambda some: tokenizer.decode(some, clean_up_tokenization_spaces=False)))
    every, at = [], 0
    for name in names:
        at = next(ends, at) if name else at
        every.append(at)
    return _clipped(every, text)


def tokens_in(span: tuple[int, int], ends: Sequence[int]) -> range:
    """The tokens that hold some of text[start:end], one that only begins a character of it too.

    An empty span has the token before it and the one behind it.
    """
    start, end = span
    if start >= end:
        first = bisect_left(ends, start)
        return range(max(0, min(first, len(ends) - 1) if start else 0), min(len(ends), first + 2 if start else 1))
    first = bisect_left(ends, start)
    if start and first < len(ends) and ends[first] == start:
        first += 1
    return range(first, max(first, min(len(ends), bisect_left(ends, end) + 1)))


def _special_ids(tokenizer: Any) -> set[int]:
    """What decoding leaves out."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {index for index, token in added.items() if token.special} | set(getattr(tokenizer, "all_special_ids", ()))


def _decoded(pieces: Iterable[bytes]) -> list[str]:
    """The characters that each piece completes; what is no UTF-8 becomes U+FFFD, as tokenizers write it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    shown = [decoder.decode(piece) for piece in pieces]
    return [*shown[:-1], shown[-1] + decoder.decode(b"", final=True)] if shown else []


@lru_cache(_NAMES)
def _byte_level(name: str) -> bytes:
    """A token of byte-level BPE: a letter a byte. One with another letter was added as it stands."""
    table = _letters()
    try:
        return bytes(table[letter] for letter in name)
    except KeyError:
        return name.encode("utf-8", "replace")


@cache
def _letters() -> dict[str, int]:
    """GPT-2's letter for each byte: the printable ones of Latin-1 for themselves, the others from U+0100 on."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = (byte for byte in range(256) if byte not in shown)
    return {chr(byte): byte for byte in shown} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}


@lru_cache(_NAMES)
def _sentence_piece(name: str) -> bytes:
    return _BYTES.get(name) or name.replace("\u2581", " ").encode("utf-8", "replace")


def _by_windows(ids: Sequence[int], decode: Callable[[list[int]], str]) -> Iterator[int]:
    """Each token's end, by what it adds to the tokens just before it."""
    at = 0
    for k in range(len(ids)):
        before = list(ids[max(0, k + 1 - WINDOW) : k])
        whole, part = decode([*before, ids[k]]), decode(before) if before else ""
        at += max(0, len(whole.rstrip("\ufffd")) - len(part.rstrip("\ufffd")))
        yield at


def _clipped(ends: Iterable[int], text: str) -> tuple[int, ...]:
    return tuple(min(end, len(text)) for end in ends)
