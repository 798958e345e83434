"""Pages as parquet: written, loaded back, and read from other people's tables, whatever is in them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.interop.rows import page_of
from ocr_rl.interop.verl import export_pages as export_for_verl
from ocr_rl.pages import raster
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.hub import extract, imported
from ocr_rl.pages.hub.exported import Asking, export_pages, export_pairs
from ocr_rl.pages.hub.imported import import_tables
from ocr_rl.pages.workers import Refusal
from tests.pages.folders import dataset, present
from tests.pages.pdfs import SEEN, block, pdf

ASK = Asking(instruction="Read this.", longest_px=64)
ONE = pdf(block(*SEEN))
TEXT = "The boats came into the harbour on Tuesday, and nobody was there to see them but the keeper of the old light."
FRONT = {"primary_language": "en", "is_rotation_valid": True, "rotation_correction": 0, "is_table": False}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs in this process: the start of a worker takes longer than what these tests ask of it."""

    def guarded(function: Callable[[Any], Any], jobs: Iterable[Any], **_: Any) -> Iterator[tuple[Any, Any]]:
        for job in jobs:
            try:
                yield job, function(job)
            except Refusal as refusal:
                yield job, refusal

    for module in (raster, imported, extract):
        monkeypatch.setattr(module, "guarded", guarded)


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def png(size: tuple[int, int] = (40, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, "PNG")
    return buffer.getvalue()


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = dataset(tmp_path / "data", "a.pdf", "more/b.pdf")
    (folder / "pdfs/two.pdf").write_bytes(pdf(block("First page of two"), block("Second page of two")))
    (folder / "pdfs/c.png").write_bytes(png())
    front = "---\n" + "".join(f"{name}: {value}\n" for name, value in {**FRONT, "is_diagram": False}.items())
    (folder / "pdfs/a.md").write_text(f"{front}---\ngathered beside the harbour on Tuesday\n")
    (folder / "pdfs/c.md").write_text("white")
    (folder / "pdfs/two_pg2.md").write_text("Second page of two")
    lines = [present("a.pdf"), present("more/b.pdf", "y"), {**present("two.pdf", "z"), "text": "First page", "page": 1}]
    (folder / "old scans.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


@pytest.mark.usefixtures("here")
def test_a_dataset_comes_back_as_it_was_page_by_page(data: Path, tmp_path: Path) -> None:
    number, refused = export_pages(data, tmp_path / "a.parquet", ASK)
    assert (number, refused) == (5, [])
    harvest = import_tables(tmp_path / "a.parquet", tmp_path / "back", 0)
    assert (harvest.pages, harvest.tests, harvest.left_out) == (5, 3, ())
    export_pages(tmp_path / "back", tmp_path / "b.parquet", ASK)
    for first, again in zip(rows_of(tmp_path / "a.parquet"), rows_of(tmp_path / "b.parquet"), strict=True):
        same = ("reference", "tests", "test_files", "prompt")
        assert [first[name] for name in same] == [again[name] for name in same]
        assert first["image"]["bytes"] == again["image"]["bytes"]
        if not first["pdf"].startswith("two"):
            assert first == again
    there = {page.id: page for page in load_dataset(data) if page.pdf.name != "two.pdf"}
    back = {page.id: page for page in load_dataset(tmp_path / "back")}
    for name, page in there.items():
        assert (back[name].reference, back[name].tags) == (page.reference, page.tags)
        assert back[name].checks == page.checks


@pytest.mark.usefixtures("here")
def test_the_columns_say_to_datasets_what_they_are(data: Path, tmp_path: Path) -> None:
    export_pages(data, tmp_path / "a.parquet", ASK)
    features = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["test_files"] == {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
    (row, *_) = rows_of(tmp_path / "a.parquet")
    assert row["prompt"] == [{"role": "user", "content": "Read this."}]
    with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
        assert max(image.size) == 64


@pytest.mark.usefixtures("here")
def test_pairs_become_rows_for_dpo(data: Path, tmp_path: Path) -> None:
    pair = {"pdf": "a.pdf", "page": 1, "chosen": "good", "rejected": "bad"}
    (tmp_path / "pairs.jsonl").write_text(f"{json.dumps(pair)}\n{json.dumps({**pair, 'rejected': 'worse'})}\n")
    assert export_pairs(data, tmp_path / "pairs.jsonl", tmp_path / "p.parquet", ASK) == (2, [])
    first, second = rows_of(tmp_path / "p.parquet")
    assert first["chosen"] == [{"role": "assistant", "content": "good"}] == second["chosen"]
    assert second["rejected"] == [{"role": "assistant", "content": "worse"}]
    assert first["image"] == second["image"] and first["pdf"] == "a.pdf"


@pytest.mark.usefixtures("here")
def test_olmocr_mix_rows_become_pages_with_tests_from_their_texts(tmp_path: Path) -> None:
    row = {"id": "8f3a-1", "page_number": 12, "pdf": ONE, "natural_text": TEXT, "is_diagram": False, **FRONT}
    table(tmp_path / "mix.parquet", [row, {**row, "id": "8f3a-2", "natural_text": None, "is_table": None}])
    harvest = import_tables(tmp_path / "mix.parquet", tmp_path / "out", 0)
    assert harvest.pages == 2 and not harvest.left_out
    first, blank = load_dataset(tmp_path / "out")
    assert (first.pdf.name, first.reference, blank.reference) == ("8f3a-1.pdf", TEXT, "")
    assert {"primary_language=en", "is_table=False"} <= first.tags & blank.tags
    assert any(check.type == "present" for check in first.checks) and [c.type for c in blank.checks] == ["baseline"]


@pytest.mark.usefixtures("here")
def test_a_response_as_json_and_pages_of_long_documents_are_read(tmp_path: Path) -> None:
    response = json.dumps({"natural_text": TEXT, **FRONT, "is_diagram": False})
    two = pdf(block("First page of two"), block(*SEEN))
    table(tmp_path / "mix.parquet", [{"pdf_bytes": two, "response": response, "page_number": 2}])
    assert import_tables(tmp_path, tmp_path / "out", 0).pages == 1
    (page,) = load_dataset(tmp_path / "out")
    assert page.pdf.name == "mix-000001.pdf" and page.number == 1 and page.reference == TEXT


@pytest.mark.usefixtures("here")
def test_pairs_of_images_and_texts_are_read_as_hubs_have_them(tmp_path: Path) -> None:
    image = {"bytes": png(), "path": "x.png"}
    table(tmp_path / "train.parquet", [{"image": image, "text": TEXT}])
    assert import_tables(tmp_path, tmp_path / "out", 0).pages == 1
    (page,) = load_dataset(tmp_path / "out")
    assert page.pdf.suffix == ".png" and page.checks


@pytest.mark.usefixtures("here")
def test_olmocr_bench_as_a_data_set_takes_the_documents_beside_it(tmp_path: Path) -> None:
    root = dataset(tmp_path / "hub/bench_data", "a.pdf")
    rows = [present("a.pdf"), {**present("a.pdf", "y"), "type": "order", "before": "harbour", "after": "Tuesday"}]
    (tmp_path / "hub/data").mkdir()
    table(
        tmp_path / "hub/data/old_scans.parquet",
        [{"max_diffs": 0.0, "before": None, "after": None, **row} for row in rows],
    )
    assert root.is_dir()
    (tmp_path / "hub/other").mkdir()
    table(tmp_path / "hub/other/old_scans.parquet", [{**present("a.pdf"), "id": "of the same name"}])
    harvest = import_tables(tmp_path / "hub", tmp_path / "out", 0)
    assert (
        harvest.tests == 2 and "old_scans.parquet, row 2: 'text' is not a field of a order test" in harvest.left_out[0]
    )
    assert load_dataset(tmp_path / "out")[0].tags == {"old_scans", "old_scans-2"}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("page", [2, 2.0, "2"])
def test_the_number_of_a_page_may_be_a_float_or_a_text(page: Any, tmp_path: Path) -> None:
    two = pdf(block("First page of two"), block(*SEEN))
    rows = [{"pdf": two, "text": TEXT, "page_number": page, "id": "a"}]
    front = {**FRONT, "is_diagram": False, "rotation_correction": float("nan")}
    table(tmp_path / "t.parquet", [*rows, {**rows[0], **front, "pdf": ONE, "page_number": None}])
    harvest = import_tables(tmp_path / "t.parquet", tmp_path / "out", 0)
    assert (harvest.pages, harvest.left_out) == (2, ())
    assert load_dataset(tmp_path / "out")[0].reference == TEXT
    assert two not in [path.read_bytes() for path in (tmp_path / "out/pdfs").glob("*.pdf")]
    root = dataset(tmp_path / "bench", "a.pdf")
    (root / "pdfs/two.pdf").write_bytes(two)
    tests = [{**present("two.pdf"), "text": "First page", "page": page, "id": 5}]
    table(root / "tests.parquet", tests)
    assert (
        import_tables(root, tmp_path / "tests", 0)
        .left_out[-1]
        .endswith("a.pdf: no test and no transcript of it can be used")
    )
    (read,) = load_dataset(tmp_path / "tests")
    assert (read.number, read.checks[0].id) == (2, "5")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("page", [1.5, -1.0, -1, "-3", "2.5", float("inf")])
def test_a_number_that_is_of_no_page_is_named_with_its_row_and_column(page: Any, tmp_path: Path) -> None:
    table(tmp_path / "t.parquet", [{"pdf": ONE, "text": TEXT, "page_num": page}])
    (line,) = import_tables(tmp_path / "t.parquet", tmp_path / "out", 0).left_out
    assert f"t.parquet, row 1: its page_num is {page}; give the number of the page" in line


TYPES = [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("type_", TYPES, ids=str)
@pytest.mark.parametrize("data", [pa.large_binary(), pa.binary_view(), pa.binary()], ids=str)
def test_texts_and_bytes_are_read_however_arrow_keeps_them(type_: Any, data: Any, tmp_path: Path) -> None:
    tests = json.dumps([{"type": "present", "text": "harbour"}])
    columns = {
        "image": pa.array([{"bytes": png(), "path": "x"}], pa.struct([("bytes", data), ("path", pa.string())])),
        "text": pa.array([TEXT], pa.string()).cast(type_),
        "tests": pa.array([tests], pa.string()).cast(type_),
        "test_files": pa.array([["own"]], pa.large_list(pa.string())),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert import_tables(tmp_path / "t.parquet", tmp_path / "out", 0).left_out == ()
    (page,) = load_dataset(tmp_path / "out")
    assert (page.reference, page.checks[0].id, page.tags) == (TEXT, "t-000001-test1", {"own"})


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ["list", "lines", "objects"])
def test_tests_are_taken_as_rewards_take_them_with_ids_or_without(kind: str, tmp_path: Path) -> None:
    tests: list[dict[str, Any]] = [
        {"type": "present", "text": "harbour"},
        {"type": "absent", "text": "zzz", "id": "mine"},
    ]
    said: Any = {"list": json.dumps(tests), "lines": "\n".join(map(json.dumps, tests)), "objects": tests}[kind]
    table(tmp_path / "t.parquet", [{"document": ONE, "reference": TEXT, "tests": said, "id": "a"}])
    assert page_of({"tests": said}).checks
    assert import_tables(tmp_path / "t.parquet", tmp_path / "out", 0).left_out == ()
    (page,) = load_dataset(tmp_path / "out")
    assert [check.id for check in page.checks] == ["a-test1", "mine"]


@pytest.mark.usefixtures("here")
def test_tables_for_trainers_alone_say_what_to_import_instead(data: Path, tmp_path: Path) -> None:
    export_for_verl(data, tmp_path / "v.parquet", ASK)
    with pytest.raises(UserError, match="v.parquet: its rows are verl's, .* without --layout comes back"):
        import_tables(tmp_path / "v.parquet", tmp_path / "out", 0)
    pair = {"pdf": "a.pdf", "page": 1, "chosen": "good", "rejected": "bad"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    export_pairs(data, tmp_path / "pairs.jsonl", tmp_path / "p.parquet", ASK)
    with pytest.raises(UserError, match="p.parquet: its rows are pairs of texts, .* without --preferences comes back"):
        import_tables(tmp_path / "p.parquet", tmp_path / "out", 0)


@pytest.mark.usefixtures("here")
def test_a_table_without_rows_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = pa.schema([("pdf", pa.binary()), ("text", pa.string())])
    pq.write_table(pa.Table.from_pylist([], schema), tmp_path / "t.parquet")
    assert main(["pages", "import", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "out")]) == 2
    assert "t.parquet: it has no rows" in capsys.readouterr().err


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"pdf": None}, "it holds no document"),
    ({"pdf": b"GIF89a" + bytes(20)}, "its document is no PDF, PNG, JPEG, WebP or TIFF but a GIF picture"),
    ({"pdf": b"%PDF-1.7 " + bytes(20)}, "its document cannot be used: "),
    ({"pdf": b"%PDF-1.7\n" + ONE[:200]}, "its document cannot be used: "),
    ({"pdf": pdf(block("One"), block("Two"))}, "its document cannot be used: it has 2 pages, and nothing says which"),
    ({"pdf": pdf(block("One"), block("Two")), "page": 7}, "its document cannot be used: there is no page 7, it has 2"),
    ({"text": None}, "it has neither a text nor tests"),
    ({"text": "x" * (2**22 + 1)}, "its text is longer than 4 MiB"),
    ({"text": TEXT + "\0"}, "the text holds a NUL"),
]


@pytest.mark.usefixtures("here")
def test_each_wrong_row_is_one_sentence_and_the_others_are_kept(tmp_path: Path) -> None:
    good = {"pdf": ONE, "text": TEXT, "page": None, "id": "good"}
    rows = [good, *({**good, "id": f"bad {k}", **change} for k, (change, _) in enumerate(HOSTILE))]
    schema = pa.schema([("pdf", pa.binary()), ("text", pa.string()), ("page", pa.int32()), ("id", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "t.parquet", row_group_size=4)
    harvest = import_tables(tmp_path / "t.parquet", tmp_path / "out", 0)
    assert harvest.pages == 1
    assert len(harvest.left_out) == len(HOSTILE)
    said = {line.partition(": ")[0]: line.partition(": ")[2] for line in harvest.left_out}
    for number, (_, reason) in enumerate(HOSTILE, 2):
        assert said[f"{tmp_path}/t.parquet, row {number}"].startswith(reason)


NAMES = [
    "../../out.pdf",
    "/etc/passwd",
    "a.pdf/b",
    "con\u0301",
    "x" * 900,
    "",
    ".",
    "a\nb",
    "é" * 300,
    "a",
    "a",
    "A.md",
]


@pytest.mark.usefixtures("here")
def test_no_name_leads_out_of_the_folder_and_none_is_taken_twice(tmp_path: Path) -> None:
    table(tmp_path / "t.parquet", [{"pdf": ONE, "text": TEXT, "id": name} for name in NAMES])
    assert import_tables(tmp_path / "t.parquet", tmp_path / "in/out", 0).pages == len(NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "t.parquet"]
    assert len(load_dataset(tmp_path / "in/out")) == len(NAMES)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"pdf": "a.pdf", "text": TEXT}], "import a folder of them with a Markdown file beside each"),
        ([{"pdf": ONE, "label": 3}], "no column holds texts"),
        ([{"pdf": [ONE], "text": TEXT}], "no column holds the bytes of a PDF or a picture"),
    ],
)
@pytest.mark.usefixtures("here")
def test_wrong_columns_are_a_sentence_that_names_those_there_are(
    rows: list[dict[str, Any]], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path / "t.parquet", rows)
    assert main(["pages", "import", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert sentence in error and ", ".join(rows[0]) in error and "Traceback" not in error


def test_a_damaged_file_is_a_sentence_and_a_half_of_it_keeps_the_other(tmp_path: Path) -> None:
    (tmp_path / "none.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(UserError, match="none.parquet: this is no parquet file"):
        import_tables(tmp_path / "none.parquet", tmp_path / "out", 0)
    rows = [{"pdf": ONE, "text": TEXT + str(k), "id": str(k)} for k in range(8)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=4, compression="none")
    raw = bytearray((tmp_path / "t.parquet").read_bytes())
    start = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(1).column(0).data_page_offset
    raw[start : start + 40] = bytes(40)
    (tmp_path / "none.parquet").write_bytes(raw)
    harvest = import_tables(tmp_path / "none.parquet", tmp_path / "out", 0)
    assert harvest.pages == 4 and "row 5: the file is damaged" in harvest.left_out[0]


@pytest.mark.usefixtures("here")
def test_what_nobody_thought_of_costs_its_own_row_alone(tmp_path: Path) -> None:
    """Half a surrogate pair, which JSON may name, and a front matter of bytes."""
    texts = ("a \ud800 " + TEXT, TEXT)
    rows = [{"pdf": ONE, "response": json.dumps({"natural_text": text}), "id": str(len(text))} for text in texts]
    table(tmp_path / "t.parquet", rows)
    assert import_tables(tmp_path / "t.parquet", tmp_path / "responses", 0).pages == 2
    tests = [{"id": "t1", "type": "present", "text": "half \ud800"}]
    table(tmp_path / "u.parquet", [{"document": ONE, "tests": json.dumps(tests), "reference": TEXT, "id": "a"}])
    assert import_tables(tmp_path / "u.parquet", tmp_path / "tests", 0).pages == 1
    front = {"is_rotation_valid": True, "rotation_correction": 0, "is_table": False, "is_diagram": False}
    table(tmp_path / "v.parquet", [{"pdf": ONE, "text": TEXT, "id": "a", "primary_language": b"en", **front}])
    (line,) = import_tables(tmp_path / "v.parquet", tmp_path / "bytes", 0).left_out
    assert "row 1: it cannot be read (TypeError" in line


@pytest.mark.usefixtures("here")
def test_pages_of_a_document_may_come_in_any_order(tmp_path: Path) -> None:
    rows = [{"pdf": ONE, "text": TEXT, "id": "a", "page": page} for page in (2, 1, 3)]
    table(tmp_path / "t.parquet", rows)
    harvest = import_tables(tmp_path / "t.parquet", tmp_path / "out", 0)
    assert (harvest.pages, list(harvest.left_out)) == (3, [])
