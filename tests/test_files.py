"""One way to read text: what is read right, what is refused by name, and that every caller says the same."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from ocr_rl.config import load_recipe, shipped_recipes
from ocr_rl.contract import UserError
from ocr_rl.files import MAX_LINE, Unreadable, decoded, read_objects, read_text, require_objects

TEXT = "Zürich\nno. 7 — Ω\n"
SAME = {
    "plain": TEXT.encode(),
    "a byte order mark": codecs.BOM_UTF8 + TEXT.encode(),
    "UTF-16 little": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "UTF-16 big": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "Windows": TEXT.replace("\n", "\r\n").encode(),
    "an old Mac": TEXT.replace("\n", "\r").encode(),
    "UTF-16 and Windows": codecs.BOM_UTF16_LE + TEXT.replace("\n", "\r\n").encode("utf-16-le"),
}
REFUSED = {
    "the text is not UTF-8 (byte 2, perhaps it is Latin-1), save it as UTF-8": "Zürich".encode("latin-1"),
    "the text is UTF-16 without a byte order mark, save it as UTF-8": "Zurich".encode("utf-16-le"),
    "the text is UTF-32, save it as UTF-8": "Zurich".encode("utf-32"),
    "the text holds a NUL (character 4), take it out": b"Zur\0ich",
    "the file is no text, most of its beginning is NUL": bytes(100),
    "the text is not whole UTF-16 (truncated data), save it as UTF-8": "Zurich".encode("utf-16")[:-1],
}
HALF = "the text holds half a character (a lone surrogate, as \\ud800), which no file can hold; take it out"
HALVES = [b"a\xed\xa0\x80b", codecs.BOM_UTF16_LE + b"\x00\xd8a\x00", codecs.BOM_UTF16_BE + b"\xdc\x00\x00a"]


def test_text_is_read_whatever_its_mark_and_line_ends(tmp_path: Path) -> None:
    for data in SAME.values():
        (tmp_path / "a.md").write_bytes(data)
        assert decoded(data) == read_text(tmp_path / "a.md") == TEXT


@pytest.mark.parametrize(("why", "data"), [*REFUSED.items(), *((HALF, data) for data in HALVES)])
def test_what_is_no_text_is_refused_by_name(why: str, data: bytes) -> None:
    with pytest.raises(Unreadable) as refusal:
        decoded(data)
    assert str(refusal.value) == why


def test_a_file_that_is_absent_too_long_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "long.md").write_bytes(b"x" * (2**22 + 1))
    for path, why in (
        (tmp_path / "none.md", "there is no such file"),
        (tmp_path / "long.md", "the file is longer than 4 MiB, shorten it"),
        (tmp_path, "the file cannot be read (Is a directory)"),
    ):
        with pytest.raises(Unreadable) as refusal:
            read_text(path)
        assert str(refusal.value) == why
        if path.suffix != ".md" or path.name == "none.md":
            with pytest.raises(UserError) as sentence:
                list(require_objects(path))
            assert str(sentence.value) == f"{path}: {why}."


def test_lines_are_objects_and_a_bad_one_costs_itself_alone(tmp_path: Path) -> None:
    half = '{"a": "\\ud800"}'
    lines = [b"\xef\xbb\xbf\xef\xbb\xbf" + b'{"n": 1}', b"", b" \t", b'{"s": "\xe2\x80\xa8\xc2\x85"}', b"[1]"]
    lines += [b"\xff", half.encode(), b'{"\0": 1}', b'{"long": "' + b"x" * MAX_LINE + b'"}', b'\xef\xbb\xbf{"n": 2}']
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\r\n".join(lines))
    shown = [(number, str(row) if isinstance(row, Unreadable) else row) for number, row in read_objects(path)]
    assert shown == [
        (1, {"n": 1}),
        (4, {"s": "\u2028\x85"}),  # neither ends a line of JSON
        (5, "this is not a JSON object, each line is one, as in {…}"),
        (6, "the text is not UTF-8 (byte 1, perhaps it is Latin-1), save it as UTF-8"),
        (7, HALF),
        (8, "the text holds a NUL (character 3), take it out"),
        (9, "the line is longer than 1,048,576 characters, shorten it or take it out"),
        (10, {"n": 2}),
    ]
    with pytest.raises(UserError) as refusal:
        list(require_objects(path))
    assert str(refusal.value) == f"{path}:5: this is not a JSON object, each line is one, as in {{…}}."
    path.write_text(half, encoding="utf-8")
    assert list(require_objects(path, halves=True)) == [(1, {"a": "\ud800"})]


def test_lines_of_utf_16_are_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps({"é": "Ω"}, ensure_ascii=False).encode("utf-16") + "\n{".encode("utf-16-le"))
    (_, row), (number, flaw) = read_objects(path)
    assert row == {"é": "Ω"} and number == 2 and str(flaw).startswith("this is not JSON (")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Unreadable, match=r"^the text is not whole UTF-16 \(truncated data\), save it as UTF-8$"):
        list(read_objects(path))
    path.write_bytes(codecs.BOM_UTF16_LE + b'{\0"\0\x00\xd8"\0:\x001\0}\0')
    ((_, flaw),) = read_objects(path)
    assert str(flaw) == HALF


def test_a_recipe_is_a_text_like_any_other(tmp_path: Path) -> None:
    text = shipped_recipes()["nano_grpo"].read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    for data in (b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), text.replace("\n", "\r").encode()):
        path.write_bytes(data)
        assert load_recipe(str(path)) == load_recipe("nano_grpo")
    for why, data in REFUSED.items():
        path.write_bytes(data)
        with pytest.raises(UserError) as refusal:
            load_recipe(str(path))
        assert str(refusal.value) == f"Recipe {path}: {why}."


def test_a_nul_that_is_written_out_is_refused_and_a_backslash_before_it_is_no_nul(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"a": "Zur\0ich"}) + "\n" + json.dumps({"a": r"\u0000"}), encoding="utf-8")
    (_, flaw), (_, row) = read_objects(path)
    assert str(flaw) == r"the text holds a NUL (written as \u0000), take it out" and row == {"a": r"\u0000"}
    path.write_text(json.dumps({"a": "Zur\0ich"}), encoding="utf-8")
    assert list(require_objects(path, halves=True)) == [(1, {"a": "Zur\0ich"})]  # a policy may have written it
