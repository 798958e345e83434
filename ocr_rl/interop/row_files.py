"""Files of rows, and the image of a row as chat servers take it. It knows nothing about scores."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ocr_rl.contract import UserError
from ocr_rl.file_kinds import kind_of
from ocr_rl.files import MAX_GROUP, Unreadable, require_objects
from ocr_rl.interop.rows import COLUMNS
from ocr_rl.pages.hub.parquet import batches, kinds_of, require_reader

_MIME = {"a PNG picture": "image/png", "a JPEG picture": "image/jpeg", "a WebP picture": "image/webp"}


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of one's own: parquet as `ocr-rl pages export` writes it, or JSON lines.

    Only `tests`, `reference`, `id` and `image` are read. UserError for a file that is neither.
    """
    if path.suffix.lower() != ".parquet":
        yield from (row for _, row in require_objects(path, MAX_GROUP))
        return
    require_reader(path)
    try:
        known = [name for name in kinds_of(path) if name in (*COLUMNS, "image")]
        for batch in batches(path, known):
            yield from batch
    except Unreadable as flaw:
        raise UserError(f"{path}: {flaw}.") from None


def image_url(row: Mapping[str, Any], folder: Path) -> str:
    """A row's image as a data URL; the path of a file counts from `folder`. UserError where it has none."""
    image, where = row.get("image"), f"row {row.get('id', '')}".rstrip()
    if isinstance(image, Mapping):
        image = image.get("bytes") or image.get("path")
    try:
        data = (folder / image).read_bytes() if isinstance(image, str) else image
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{where}: the image {repr(str(image)[:200])[1:-1]} cannot be read ({why}).") from None
    mime = _MIME.get(kind_of(data[:1024])) if isinstance(data, bytes) else None
    if mime is None:
        raise UserError(f"{where}: its image is no PNG, JPEG or WebP; give the bytes or the path of one in `image`.")
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"  # type: ignore[arg-type]
