"""Pictures in dataset folders: pages like those of PDFs, with names that stay unambiguous."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.evaluate.bench import bench
from ocr_rl.pages.dataset import check_dataset, load_dataset
from ocr_rl.pages.images import image_of
from ocr_rl.pages.imported import import_folder
from ocr_rl.pages.mined import mine_folder
from ocr_rl.pages.split import write_split
from ocr_rl.pages.synth.make import make_document
from tests.pages.pictures import encoded, page, tiff

TEXT = "The first line of a letter\n\nPlease pay within fourteen days of receipt, says Martha.\n"


def put(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.fixture
def pdf() -> bytes:
    return make_document("nano", 0, 0, 1).pdf


@pytest.fixture
def data(pdf: bytes, tmp_path: Path) -> Path:
    tests = [
        {"pdf": "fax.tiff", "page": 2, "id": "fax2", "type": "present", "text": "fourteen days"},
        {"pdf": "sub/photo.JPG", "page": 1, "id": "photo", "type": "present", "text": "fourteen days"},
    ]
    files: dict[str, bytes | str] = {
        "pdfs/a.pdf": pdf,
        "pdfs/fax.tiff": tiff([page("1"), page("1")]),
        "pdfs/fax_pg2.md": TEXT,
        "pdfs/sub/photo.JPG": encoded(page(), "JPEG"),
        "pdfs/sub/photo.md": TEXT,
        "pdfs/shot.webp": encoded(page(), "WEBP"),
        "tests.jsonl": "".join(json.dumps(test) + "\n" for test in tests),
    }
    return put(tmp_path / "data", files)


def test_pictures_are_pages_with_references_and_tests(data: Path) -> None:
    assert check_dataset(data) == []
    pages = {(page.pdf.name, page.number): page for page in load_dataset(data)}
    assert list(pages) == [("a.pdf", 1), ("fax.tiff", 2), ("shot.webp", 1), ("photo.JPG", 1)]
    assert [page.reference for page in pages.values()] == [None, TEXT, None, TEXT]
    assert [len(page.checks) for page in pages.values()] == [0, 1, 0, 1]
    assert image_of(pages["fax.tiff", 2], longest_px=100).size == (100, 50)
    assert all(len(page.id) == 11 and page.id.endswith(f":p{page.number}") for page in pages.values())


def test_faults_of_pictures_are_named(data: Path) -> None:
    put(
        data / "pdfs",
        {
            "cut.png": b"\x89PNG\r\n\x1a\n",
            "tiny.png": encoded(page(size=(8, 8)), "PNG"),
            "fax_pg3.md": TEXT,
            "fax.md": TEXT,
        },
    )
    faults = "\n".join(map(str, check_dataset(data)))
    for said in (
        "cut.png: ",
        "tiny.png: page 1: the picture is too small to be a page (8 x 8 px)",
        "fax_pg3.md: there is no such page, the PDF has 2",
        "fax.md: the PDF has 2 pages, name this file fax_pg<N>.md",
    ):
        assert said in faults
    assert len(faults.splitlines()) == 4


def test_two_files_of_one_name_are_refused(data: Path) -> None:
    put(data / "pdfs", {"a.png": encoded(page(), "PNG"), "a.md": TEXT})
    with pytest.raises(UserError, match=r"a\.png: a\.pdf beside it has the same name but for the ending"):
        load_dataset(data)


def test_a_reference_of_a_picture_or_of_a_page_is_refused(data: Path) -> None:
    put(data / "pdfs", {"fax_pg2.png": encoded(page(), "PNG")})
    with pytest.raises(UserError, match=r"fax_pg2\.md: this could be of fax_pg2\.png and of fax\.tiff"):
        load_dataset(data)


def test_bench_and_split_take_pictures(data: Path, tmp_path: Path) -> None:
    for path in (data / "pdfs").rglob("*"):
        if path.name in ("a.pdf", "shot.webp"):
            path.unlink()
    answers = tmp_path / "answers"
    put(answers, {"fax_pg1_repeat1.md": TEXT, "fax_pg2_repeat1.md": TEXT, "sub/photo_pg1_repeat1.md": "nothing"})
    report = bench(data, out=tmp_path / "bench", candidates=[str(answers)], engines=["text_layer"])
    assert "text_layer" in report
    rows = [json.loads(line) for line in (tmp_path / "bench/candidates/answers/verdicts.jsonl").open()]
    passed = {check["id"]: check["passed"] for row in rows for check in row["checks"]}
    assert (passed["fax2"], passed["photo"]) == (True, False)
    seed = next(k for k in range(40) if _splits(data, tmp_path / f"parts{k}", k))
    parts = [load_dataset(tmp_path / f"parts{seed}" / name) for name in ("a", "b")]
    assert sorted(page.pdf.name for part in parts for page in part) == ["fax.tiff", "photo.JPG"]
    assert all(page.reference == TEXT for part in parts for page in part)


def _splits(data: Path, out: Path, seed: int) -> bool:
    try:
        write_split(data, {"a": 0.5, "b": 0.5}, seed, out)
    except UserError:  # one part is empty
        return False
    return True


def test_mine_takes_pictures_with_transcripts_and_names_the_others(pdf: bytes, tmp_path: Path) -> None:
    mine = put(
        tmp_path / "mine",
        {
            "photo.JPG": encoded(page(), "JPEG"),
            "photo.md": TEXT,
            "fax.tif": tiff([page("1"), page("1")]),
            "fax_pg2.md": TEXT,
            "shot.webp": encoded(page(), "WEBP"),
            "deep/photo.png": encoded(page(), "PNG"),
            "deep/photo.md": TEXT,
            "twin.png": encoded(page(), "PNG"),
            "twin.pdf": pdf,
            "twin.md": TEXT,
        },
    )
    harvest = mine_folder(mine, tmp_path / "out", 0)
    left_out = "\n".join(harvest.left_out)
    assert "shot.webp: is a picture and has no text layer; put its transcript beside it" in left_out
    assert "twin.png: has the name of twin.pdf but for the ending" in left_out
    assert "fax.tif, page 1: has no transcript" in left_out
    assert len(harvest.left_out) == 3
    pages = load_dataset(tmp_path / "out")
    assert check_dataset(tmp_path / "out") == []
    names = [(page.pdf.name, page.number) for page in pages]
    assert names == [("fax.tif", 2), ("photo-2.jpg", 1), ("photo.png", 1), ("twin.pdf", 1)]
    assert all(page.reference and page.checks for page in pages)


def test_a_transcript_that_could_be_of_two_is_nobodys(tmp_path: Path) -> None:
    files = {"fax.tif": tiff([page("1"), page("1")]), "fax_pg2.png": encoded(page(), "PNG"), "fax_pg2.md": TEXT}
    for verb in (mine_folder, import_folder):
        left_out = verb(put(tmp_path / "in", {**files}), tmp_path / "out", 0).left_out
        assert f"{tmp_path / 'in' / 'fax_pg2.md'}: this could be of fax_pg2.png and of fax.tif, rename one of them" in (
            left_out
        )


def test_import_takes_pictures(data: Path, tmp_path: Path) -> None:
    harvest = import_folder(data, tmp_path / "bench", 0)
    assert [(page.pdf.name, page.number) for page in load_dataset(tmp_path / "bench")] == [
        ("fax.tiff", 2),
        ("photo.JPG", 1),
    ]
    assert harvest.tests == 2
    shutil.rmtree(tmp_path / "bench")
    assert import_folder(data / "pdfs", tmp_path / "pairs", 0).pages == 2


def test_pictures_cut_short_are_refused_everywhere_in_the_same_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 240, 3), np.uint8))
    whole = {f"{kind}.{kind}".lower(): encoded(noise, kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF")}
    data = put(tmp_path, {f"pdfs/{name}": content[: int(0.9 * len(content))] for name, content in whole.items()})
    files = {str(data / "pdfs" / name) for name in whole}
    assert main(["pages", "render", *files, "--out", str(tmp_path / "drawn"), "--workers", "1"]) != 0
    whys = said(capsys.readouterr().err.splitlines())
    assert set(whys) == files and {why.split(":")[0] for why in whys.values()} <= {
        "the file is truncated",
        "the picture is damaged",
    }
    assert said(check_dataset(data)) == whys
    assert said(mine_folder(data / "pdfs", tmp_path / "out", 0).left_out) == whys
    assert said(import_folder(data / "pdfs", tmp_path / "out", 0).left_out) == whys
    put(data, {f"pdfs/{name.partition('.')[0]}.md": TEXT for name in whole})
    assert said(mine_folder(data / "pdfs", tmp_path / "out", 0).left_out) == whys
    assert said(import_folder(data / "pdfs", tmp_path / "out", 0).left_out) == whys


def said(lines: Iterable[object]) -> dict[str, str]:
    """What is wrong with page 1 of each file, or with the file."""
    parts = (str(line).removeprefix("refused: ").partition(": ") for line in lines)
    return {file.removesuffix(", page 1"): why.removeprefix("page 1: ") for file, _, why in parts}
