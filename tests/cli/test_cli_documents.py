"""Pictures and folders as words of transcribe and render."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ocr_rl.cli import main
from tests.pages.pictures import encoded, page, tiff


@pytest.fixture
def inbox(dataset: Path, tmp_path: Path) -> Path:
    """A folder of documents and other things."""
    inbox = tmp_path / "inbox"
    (inbox / "deep" / "er").mkdir(parents=True)
    shutil.copyfile(min((dataset / "pdfs").glob("*.pdf")), inbox / "letter.PDF")
    (inbox / "photo.JPG").write_bytes(encoded(page(), "JPEG"))
    (inbox / "deep" / "fax.tiff").write_bytes(tiff([page("1"), page("1")]))
    (inbox / "deep" / "er" / "photo.png").write_bytes(encoded(page(), "PNG"))
    (inbox / "deep" / "shot.webp").write_bytes(encoded(page(), "WEBP"))
    (inbox / "deep" / "._shot.webp").write_bytes(b"of macOS")
    (inbox / "notes.txt").write_text("no document")
    return inbox


def drawn(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("*.png"))


def render(*argv: object) -> int:
    return main(["pages", "render", *map(str, argv), "--longest-px", "40", "--workers", "1"])


def test_a_folder_is_every_document_below_it(inbox: Path, tmp_path: Path) -> None:
    assert render(inbox, "--out", tmp_path / "out") == 0
    names = ["fax_pg1.png", "fax_pg2.png", "letter_pg1.png", "photo-2_pg1.png", "photo_pg1.png", "shot_pg1.png"]
    assert drawn(tmp_path / "out") == names
    assert {max(Image.open(tmp_path / "out" / name).size) for name in names} == {40}


def test_files_and_folders_side_by_side_and_each_once(inbox: Path, tmp_path: Path) -> None:
    assert render(inbox / "photo.JPG", inbox / "deep", inbox / "deep" / "fax.tiff", "--out", tmp_path / "out") == 0
    names = ["fax_pg1.png", "fax_pg2.png", "photo-2_pg1.png", "photo_pg1.png", "shot_pg1.png"]
    assert drawn(tmp_path / "out") == names


@pytest.mark.parametrize("out", ["inbox", "inbox/png"])
def test_images_that_lie_among_the_documents_are_not_drawn_again(out: str, inbox: Path, tmp_path: Path) -> None:
    assert render(inbox, "--out", tmp_path / out) == 0
    first = drawn(tmp_path / out)
    assert render(inbox, "--out", tmp_path / out) == 0
    assert drawn(tmp_path / out) == first


def test_a_folder_without_documents_is_named(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "empty").mkdir()
    for verb in (["pages", "render"], ["transcribe", "--backend", "transformers"]):
        sentence = refused(*verb, str(tmp_path / "empty"), "--out", str(tmp_path / "out"))
        assert "empty: there is no PDF, PNG, JPEG, WebP or TIFF in this folder" in sentence


def test_a_broken_picture_costs_itself_alone(inbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (inbox / "photo.JPG").write_bytes(encoded(page(), "JPEG")[:300])
    assert render(inbox, "--out", tmp_path / "out") == 1
    assert "photo.JPG" in capsys.readouterr().err
    assert len(drawn(tmp_path / "out")) == 5


def test_transcribe_reads_every_page_of_pictures(inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ocr_rl.transcription.job import pages_of

    refused, pages = pages_of([inbox / "deep" / "fax.tiff", inbox / "photo.JPG"])
    assert not refused
    assert [(page.pdf.name, page.number) for page in pages] == [("fax.tiff", 1), ("fax.tiff", 2), ("photo.JPG", 1)]
    assert [page.id.split(":")[1] for page in pages] == ["p1", "p2", "p1"]
