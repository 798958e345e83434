"""Nothing of a person's is written over: the rule that all verbs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocr_rl.contract import UserError
from ocr_rl.outputs import LIST, aside_of, refuse_others, refuse_taken, write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_ones_own_file_is_written_again_and_a_persons_is_not(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.md"
    for text in ("one", "two", "two", "one"):
        write(target, text)
        assert target.read_text() == text
    assert names(tmp_path / "deep") == [LIST, "a.md"]
    target.write_text("one, corrected by hand")
    with pytest.raises(UserError, match=r"a\.md: is there already and is not, or no longer, what ocr-rl wrote"):
        write(target, "three")
    assert target.read_text() == "one, corrected by hand"
    target.unlink()
    write(target, "three")
    assert target.read_text() == "three"


def test_a_file_that_was_copied_to_another_name_is_not_ones_own(tmp_path: Path) -> None:
    write(tmp_path / "a.md", "one")
    (tmp_path / "b.md").write_text("one")
    (tmp_path / "A.md").write_text("one")
    for name in ("b.md", "A.md"):
        with pytest.raises(UserError, match=name):
            write(tmp_path / name, "two")


def test_links_and_folders_are_refused_and_stay(tmp_path: Path) -> None:
    write(tmp_path / "mine.md", "one")
    (tmp_path / "to_mine.md").symlink_to("mine.md")
    (tmp_path / "to_nothing.md").symlink_to("nothing.md")
    (tmp_path / "folder.md").mkdir()
    for name in ("to_mine.md", "to_nothing.md", "folder.md"):
        with pytest.raises(UserError, match=name):
            write(tmp_path / name, "two")
    assert (tmp_path / "mine.md").read_text() == "one"
    assert not (tmp_path / "nothing.md").exists()


def test_a_list_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("a person's")
    (tmp_path / LIST).symlink_to("notes")
    with pytest.raises(UserError, match="is a link"):
        write(tmp_path / "a.md", "one")
    assert names(tmp_path) == [LIST, "notes"]
    assert (tmp_path / "notes").read_text() == "a person's"


def test_a_line_cut_off_in_the_list_hides_no_later_one(tmp_path: Path) -> None:
    (tmp_path / LIST).write_text("0123")
    write(tmp_path / "a.md", "one")
    write(tmp_path / "a.md", "two")
    assert (tmp_path / "a.md").read_text() == "two"


@pytest.mark.parametrize("name", ["two\nlines.md", 'quote".md', "🙂é.md", "x" * 252 + ".md"])
def test_odd_names(name: str, tmp_path: Path) -> None:
    for text in ("one", "two"):
        write(tmp_path / name, text)
    assert (tmp_path / name).read_text() == "two"
    assert len(names(tmp_path)) == 2


def test_half_a_character_is_escaped(tmp_path: Path) -> None:
    write(tmp_path / "a.md", "\ud835 and on")
    assert (tmp_path / "a.md").read_text() == "\\ud835 and on"


def test_an_input_is_no_output_even_where_ocr_rl_wrote_it(tmp_path: Path) -> None:
    write(tmp_path / "x_pg1.png", b"picture")
    (tmp_path / "link.png").symlink_to("x_pg1.png")
    refuse_taken([tmp_path / "x_pg1.png"], [tmp_path / "other.png"])
    with pytest.raises(UserError, match="is an input"):
        refuse_taken([tmp_path / "x_pg1.png"], [tmp_path / "link.png"])


def test_a_folder_with_a_mark_is_a_jobs_own(tmp_path: Path) -> None:
    refuse_others(tmp_path, "config.json", ["metrics.jsonl"])
    (tmp_path / "log.txt").touch()
    refuse_others(tmp_path, "config.json", ["metrics.jsonl"])
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match=r"metrics\.jsonl: is there already, without the config\.json"):
        refuse_others(tmp_path, "config.json", ["metrics.jsonl"])
    (tmp_path / "config.json").touch()
    refuse_others(tmp_path, "config.json", ["metrics.jsonl"])


def test_a_name_aside_is_new_each_time(tmp_path: Path) -> None:
    assert aside_of(tmp_path / "a") != aside_of(tmp_path / "a")
