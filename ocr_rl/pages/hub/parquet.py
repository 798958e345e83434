"""Parquet files as `datasets` writes and loads them. Needs pyarrow (the extra `hub`). Knows nothing about pages.

A file may be anybody's: whoever reads one calls `batches` in a worker process, which may crash or eat memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ocr_rl import outputs
from ocr_rl.extras import require
from ocr_rl.files import Unreadable

if TYPE_CHECKING:
    import pyarrow

Kind = Literal[
    "text",
    "number",
    "float",
    "bytes",
    "texts",
    "numbers",
    "floats",
    "image",
    "images",
    "message",
    "messages",
    "objects",  # read alone: a list of structs
]
Columns = Mapping[str, "Kind | Columns"]  # names and kinds; a mapping is a struct with fields of its own
BATCH = 16  # rows in memory at a time: a row may hold a document

_VALUES = {"text": "string", "number": "int64", "float": "float64", "bytes": "binary"}
_STRUCTS: Mapping[str, Columns] = {
    "image": {"bytes": "bytes", "path": "text"},
    "message": {"role": "text", "content": "text"},
}
_LISTS: Mapping[str, Kind] = {
    "texts": "text",
    "numbers": "number",
    "floats": "float",
    "images": "image",
    "messages": "message",
}


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], columns: Columns) -> int:
    """Write rows as they come and give their number. A column of images decodes in `datasets`.

    The file is written whole or not at all. UserError where a file of somebody else's stands there.
    """
    require("pyarrow", f"{path}: parquet cannot be written")
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, _type(kind)) for name, kind in columns.items()])
    features = {"info": {"features": {name: _feature(kind) for name, kind in columns.items()}}}
    schema = schema.with_metadata({"huggingface": json.dumps(features)})
    source, number = iter(rows), 0
    with outputs.replacing(path) as aside, pq.ParquetWriter(aside, schema) as writer:
        while batch := list(islice(source, BATCH)):
            writer.write_table(pa.Table.from_pylist([{name: row[name] for name in columns} for row in batch], schema))
            number += len(batch)
    return number


def kinds_of(path: Path) -> dict[str, Kind | None]:
    """The columns of a file; None for one of a kind that is not read here. Raises Unreadable."""
    return {field.name: _kind(field.type) for field in _opened(path).schema_arrow}


def group_sizes(path: Path) -> list[int]:
    """The number of rows of each of a file's groups of rows. Raises Unreadable."""
    metadata = _opened(path).metadata
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def batches(path: Path, columns: Sequence[str], groups: Sequence[int] | None = None) -> Iterator[list[dict[str, Any]]]:
    """The rows of some columns, in their order, a few at a time; `groups` of rows or all. Raises Unreadable."""
    import pyarrow as pa

    try:
        for batch in _opened(path).iter_batches(BATCH, groups, list(columns)):
            yield batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(f"the file is damaged ({_line(error)})") from None


def require_reader(path: Path) -> None:
    """UserError where pyarrow is not installed."""
    require("pyarrow", f"{path}: parquet cannot be read")


def _opened(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise Unreadable("there is no such file")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(f"this is no parquet file ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _type(kind: Kind | Columns) -> pyarrow.DataType:
    import pyarrow as pa

    if isinstance(kind, Mapping):
        return pa.struct([(name, _type(field)) for name, field in kind.items()])
    if kind in _STRUCTS:
        return _type(_STRUCTS[kind])
    if kind in _LISTS:
        return pa.list_(_type(_LISTS[kind]))
    return {"text": pa.string(), "number": pa.int64(), "float": pa.float64(), "bytes": pa.binary()}[kind]


def _feature(kind: Kind | Columns) -> dict[str, Any]:
    """How `datasets` (from 4 on) writes the kind of a column down."""
    if isinstance(kind, Mapping):
        return {name: _feature(field) for name, field in kind.items()}
    if kind == "image":
        return {"_type": "Image"}
    if kind in _LISTS:
        return {"feature": _feature(_LISTS[kind]), "_type": "List"}
    return _feature(_STRUCTS[kind]) if kind in _STRUCTS else {"dtype": _VALUES[kind], "_type": "Value"}


def _kind(type_: pyarrow.DataType) -> Kind | None:
    from pyarrow import types

    if types.is_dictionary(type_):
        return _kind(type_.value_type)
    if types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_):
        return "text"
    if types.is_integer(type_) or types.is_floating(type_):
        return "number" if types.is_integer(type_) else "float"
    if types.is_binary(type_) or types.is_large_binary(type_) or types.is_binary_view(type_):
        return "bytes"
    if types.is_struct(type_) and type_.get_field_index("bytes") >= 0 and _kind(type_.field("bytes").type) == "bytes":
        return "image"
    lists = (types.is_list, types.is_large_list, types.is_list_view, types.is_large_list_view, types.is_fixed_size_list)
    if any(is_list(type_) for is_list in lists):
        inner = type_.value_type
        return "objects" if types.is_struct(inner) else "texts" if _kind(inner) == "text" else None
    return None
