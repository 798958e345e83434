"""A user's text files, read the same way for every verb: transcripts, references, tests, pairs, groups, recipes.

    text = read_text(path)                            # Unreadable says what is wrong with the file
    for number, row in read_objects(path):            # JSON lines; a line that is none is an Unreadable
    for number, row in require_objects(path):         # the same where one bad line refuses the file: UserError

A byte order mark is taken off and says what is UTF-16; line ends of Windows and of old Macs become "\\n". Anything that
is neither UTF-8 nor UTF-16 with its mark is refused by name, and nothing is guessed: neither is a file of another kind,
as a PDF. It does not know what texts mean.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ocr_rl.contract import UserError
from ocr_rl.file_kinds import binary_kind, is_binary

MAX_TEXT_BYTES = 2**22
MAX_LINE = 2**20  # characters of a line of JSON
MAX_GROUP = 2**26  # characters of a line that holds many transcripts
BOM = "\ufeff"
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HALF = "the text holds half a character (a lone surrogate, as \\ud800), which no file can hold; take it out"


class Unreadable(Exception):
    """What is wrong with a file or a line, and the way out; the caller knows which file or line it is."""


def read_text(path: Path, longest: int = MAX_TEXT_BYTES) -> str:
    """The text of a file of at most `longest` bytes. Raises Unreadable."""
    try:
        with path.open("rb") as file:
            data = file.read(longest + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _unopened(error) from None
    if len(data) > longest:
        raise Unreadable(f"the file is longer than {longest // 2**20} MiB, shorten it")
    return decoded(data)


def require_text(path: Path, of: str = "") -> str:
    """The same with a UserError, which begins with `of` and the path."""
    try:
        return read_text(path)
    except Unreadable as flaw:
        raise UserError(f"{of}{path}: {flaw}.") from None


def decoded(data: bytes) -> str:
    """UTF-8, or UTF-16 behind its byte order mark, as text with "\\n" at its line ends. Raises Unreadable."""
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecoded(data, error.start, encoding) from None
    _require_no_nul(text)
    return text.lstrip(BOM).replace("\r\n", "\n").replace("\r", "\n")


def read_objects(
    path: Path, longest: int = MAX_LINE, *, halves: bool = False
) -> Iterator[tuple[int, dict[str, Any] | Unreadable]]:
    """Number (from 1) and JSON object of each line that is not blank, or what is wrong with the line.

    A line of more than `longest` characters is passed over, not read. With `halves` a string may hold half a character
    ("\\ud800"), as a policy may have written it. Raises Unreadable for the file as a whole.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
            file.seek(0)
            encoding = _encoding(head)
            # Bytes that are no UTF-8 become marks, which tell the line that they stand in.
            marks = "surrogateescape" if encoding == "utf-8" else "surrogatepass"
            yield from _objects(io.TextIOWrapper(file, encoding=encoding, errors=marks), longest, halves)
    except UnicodeDecodeError as error:  # UTF-16 that ends within a character
        raise Unreadable(f"the text is not whole UTF-16 ({error.reason}), save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise _unopened(error) from None


def _objects(lines: TextIO, longest: int, halves: bool) -> Iterator[tuple[int, dict[str, Any] | Unreadable]]:
    number = 0
    while text := lines.readline(longest + 1):
        number += 1
        if len(text) > longest:
            _pass_over(text, lines)
            yield number, Unreadable(f"the line is longer than {longest:,} characters, shorten it or take it out")
        elif text := text.lstrip(BOM).strip():  # a mark within: two files were joined
            try:
                yield number, object_of(text, halves)
            except Unreadable as flaw:
                yield number, flaw


def require_objects(
    path: Path, longest: int = MAX_LINE, *, halves: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of each line. UserError with file and line for the first that is none."""
    try:
        for number, row in read_objects(path, longest, halves=halves):
            if isinstance(row, Unreadable):
                raise UserError(f"{path}:{number}: {row}.")
            yield number, row
    except Unreadable as flaw:
        raise UserError(f"{path}: {flaw}.") from None


def object_of(text: str, halves: bool = False) -> dict[str, Any]:
    """The JSON object that a line describes. Raises Unreadable."""
    if not is_utf8(text):
        raise _marked(text)
    _require_no_nul(text)
    try:
        row = json.loads(text)
        whole = halves or "\\u" not in text or is_utf8(json.dumps(row, ensure_ascii=False))
    except json.JSONDecodeError as error:
        raise Unreadable(f"this is not JSON ({error.msg}, column {error.colno}), mend or delete the line") from None
    except (ValueError, RecursionError):  # a number with thousands of digits, or brackets nested thousands deep
        raise Unreadable("this is not JSON that anybody would write, mend or delete the line") from None
    if not isinstance(row, dict):
        raise Unreadable("this is not a JSON object, each line is one, as in {…}")
    if not whole:
        raise Unreadable(_HALF)
    if not halves and "\\u0000" in text and "\\u0000" in json.dumps(row, ensure_ascii=False).replace("\\\\", ""):
        raise Unreadable("the text holds a NUL (written as \\u0000), take it out")
    return row


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8.

    JSON's "\\ud800" and file names in other encodings hold half characters, which cannot.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encoding(data: bytes) -> str:
    """The codec of a text that begins so. Raises Unreadable for what is no text or of an encoding that is not read."""
    if kind := binary_kind(data[:1024]):
        raise Unreadable(f"the file is {kind}, and a text file is wanted")
    if data.startswith(_UTF32):
        raise Unreadable("the text is UTF-32, save it as UTF-8")
    if data.startswith(_UTF16):
        return "utf-16"
    empty = [2 * part.count(0) > len(part) for part in (data[:1024:2], data[1:1024:2])]  # of letters, every other byte
    if all(empty):
        raise Unreadable("the file is no text, most of its beginning is NUL")
    if any(empty):
        raise Unreadable("the text is UTF-16 without a byte order mark, save it as UTF-8")
    return "utf-8"


def _undecoded(data: bytes, at: int, encoding: str) -> Unreadable:
    half = data[at] == 0xED and len(data) > at + 1 and data[at + 1] >= 0xA0  # a surrogate, written as if it were whole
    if half or (encoding == "utf-16" and len(data) % 2 == 0):
        return Unreadable(_HALF)
    if encoding == "utf-16":
        return Unreadable("the text is not whole UTF-16 (truncated data), save it as UTF-8")
    if is_binary(data[:1024]):
        return Unreadable("the file is no text, and a text file is wanted")
    return Unreadable(f"the text is not UTF-8 (byte {at + 1}, perhaps it is Latin-1), save it as UTF-8")


def _require_no_nul(text: str) -> None:
    if (at := text.find("\0")) >= 0:
        raise Unreadable(f"the text holds a NUL (character {at + 1}), take it out")


def _pass_over(start: str, lines: TextIO) -> None:
    """Read to the end of a line that is too long. Raises Unreadable where that takes too long as well."""
    taken, text = 0, start
    while text and not text.endswith("\n"):
        text = lines.readline(2**16)
        taken += len(text)
        if taken > MAX_GROUP:
            raise Unreadable(f"a line is longer than {MAX_GROUP:,} characters, write one JSON object a line")


def _marked(line: str) -> Unreadable:
    """What is wrong with a line in which marks stand for bytes (of UTF-8) or halves of characters (of UTF-16)."""
    try:
        decoded(line.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return Unreadable(_HALF)
    except Unreadable as flaw:
        return flaw
    return Unreadable(_HALF)


def _unopened(error: Exception) -> Unreadable:
    if isinstance(error, FileNotFoundError):
        return Unreadable("there is no such file")
    return Unreadable(f"the file cannot be read ({getattr(error, 'strerror', None) or error})")
