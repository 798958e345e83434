"""What the template of a report shows: cards of pages (image, transcripts with differences, tests), and curves.

Plain values. Knows nothing about HTML and leaves escaping to the template.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from PIL import Image
from rapidfuzz.distance import Indel

from ocr_rl.contract import Check, Page, UserError
from ocr_rl.evaluate.results import PageResult

_SHOWN_CHARACTERS = 20_000  # of a transcript
_IMAGE_PX = 900  # longest side
_CURVES = ("reward", "pass_rate", "eval_pass_rate", "nll_page", "length", "kl")  # shown open; the others fold away
_UNASKED = ("pdf", "page", "id", "type", "checked", "url")  # fields of a test that are no part of its question
_TOKEN = re.compile(r"(<[^<>]{0,200}>|\w+|[^\w\s])(\s*)")


def word_differences(true: str, read: str) -> list[tuple[str, str]]:
    """`read` as runs of ("same" | "extra" | "missing", text) against `true`; white space is not compared.

    The runs but the missing ones join to `read`, less white space at its start.
    """
    a, b = _TOKEN.findall(true), _TOKEN.findall(read)
    runs: list[tuple[str, str]] = []
    for edit in Indel.opcodes([word for word, _ in a], [word for word, _ in b]):
        if edit.tag == "delete":
            lost = " ".join(_join(a[edit.src_start : edit.src_end]).split())
            replaced = len(runs) >= 2 and runs[-2][0] == "extra"  # what was read instead comes after what was lost
            runs.insert(len(runs) - 2 * replaced, ("missing", lost))
        elif edit.tag == "equal":
            runs.append(("same", _join(b[edit.dest_start : edit.dest_end])))
        else:
            text = _join(b[edit.dest_start : edit.dest_end])
            runs += [("extra", text.rstrip()), ("same", text[len(text.rstrip()) :])]
    return [(kind, text) for kind, text in runs if text]


def _join(tokens: Sequence[tuple[str, str]]) -> str:
    return "".join(word + space for word, space in tokens)


def card(
    page: Page, rows: Mapping[str, PageResult | None], images: Callable[[Page], Image.Image] | None
) -> dict[str, Any]:
    """A page with the results of every candidate; the verdicts of its tests stand in the candidates' order."""
    results = [row for row in rows.values() if row]
    reference, against = page.reference, "reference"
    if reference is None and len(results) > 1:
        reference, against = results[0].text, next(iter(rows))
    panes = [_pane(name, row, reference, against) for name, row in rows.items() if row]
    verdicts = [{check.id: check for check in row.checks} for row in results]
    rates = [row.pass_rate for row in results]
    questions = {check.id: asks(check) for check in page.checks}
    return {
        "page": page,
        "file": page.pdf.name,
        "tags": sorted(page.tags),
        "rates": rates,
        "gain": (rates[-1] or 0.0) - (rates[0] or 0.0) if rates else 0.0,
        "image": data_uri(page, images),
        "reference": None if page.reference is None else page.reference[:_SHOWN_CHARACTERS],
        "panes": panes,
        "marked": any(pane["against"] for pane in panes),
        "checks": [
            {
                "id": check.id,
                "type": check.type,
                "asks": questions.get(check.id, ""),
                "verdicts": [of_row.get(check.id) for of_row in verdicts],
                "bits": "".join(
                    "-" if c is None else str(int(c.passed)) for c in (of_row.get(check.id) for of_row in verdicts)
                ),
            }
            for check in (results[0].checks if results else ())
        ],
    }


def asks(check: Check) -> str:
    """The fields that hold a test's question; "" where the test is no dataclass, as the built-in ones are."""
    if not is_dataclass(check):
        return ""
    question = {field.name: getattr(check, field.name) for field in fields(check) if field.name not in _UNASKED}
    defaults = {field.name: field.default for field in fields(check)}
    return ", ".join(f"{name} {value!r}" for name, value in question.items() if value != defaults[name])


def _pane(name: str, row: PageResult, reference: str | None, against: str) -> dict[str, Any]:
    text = row.text[:_SHOWN_CHARACTERS]
    compared = reference is not None and against != name
    return {
        "name": name,
        "row": row,
        "against": against if compared else None,
        "runs": word_differences((reference or "")[:_SHOWN_CHARACTERS], text) if compared else [("same", text)],
        "hidden": len(row.text) - len(text),
    }


def data_uri(page: Page, images: Callable[[Page], Image.Image] | None) -> dict[str, Any]:
    """{uri, width, height} of the page as PNG or JPEG, whichever is smaller; {why} where there is no image."""
    if images is None:
        return {"why": ""}
    try:
        image = images(page).convert("RGB")
    except UserError as fault:
        return {"why": str(fault)}
    image.thumbnail((_IMAGE_PX, _IMAGE_PX))
    packed = {kind: _encoded(image, kind) for kind in ("png", "jpeg")}
    kind = min(packed, key=lambda kind: len(packed[kind]))
    uri = f"data:image/{kind};base64,{base64.b64encode(packed[kind]).decode()}"
    return {"uri": uri, "width": image.width, "height": image.height}


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **({"quality": 72} if kind == "jpeg" else {}))
    return buffer.getvalue()


# ---- learning curves: points in a box of 320 x 120, drawn by the template

_WIDE, _HIGH = 320.0, 120.0


def charts(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One chart a metric with at least two points in some run; those of `_CURVES` first."""
    seen = {key: None for rows in curves.values() for row in rows for key in row if key != "step"}
    names = [name for name in _CURVES if name in seen] + [name for name in seen if name not in _CURVES]
    charts = [_chart(name, {run: _points(rows, name) for run, rows in curves.items()}) for name in names]
    return [chart for chart in charts if chart]


def _points(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(row["step"], row[name]) for row in rows if _is_number(row.get("step")) and _is_number(row.get(name))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _chart(name: str, runs: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any] | None:
    points = [point for run in runs.values() for point in run]
    if max(map(len, runs.values())) < 2:
        return None
    (left, right), (bottom, top) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    ticks = _ticks(bottom, top)
    bottom, top = min(bottom, ticks[0]), max(top, ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            round(_WIDE * (x - left) / ((right - left) or 1), 1),
            round(_HIGH - _HIGH * (y - bottom) / ((top - bottom) or 1), 1),
        )

    return {
        "name": name,
        "first": name in _CURVES,
        "steps": (f"{left:g}", f"{right:g}"),
        "ticks": [(f"{tick:g}", place(left, tick)[1]) for tick in ticks],
        "lines": [
            {"run": index, "raw": [place(*p) for p in run], "smooth": [place(*p) for p in _smooth(run)]}
            for index, run in enumerate(runs.values())
        ],
    }


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Centred moving average over a tenth of the points, which shows the trend. Few points stay as they are."""
    reach = len(points) // 20
    windows = [points[max(0, at - reach) : at + reach + 1] for at in range(len(points))]
    return [(x, sum(y for _, y in window) / len(window)) for (x, _), window in zip(points, windows, strict=True)]


def _ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers that span the values."""
    span = (high - low) or abs(high) or 1.0
    unit = 10 ** math.floor(math.log10(span))
    step = next(size * unit for size in (0.2, 0.5, 1, 2, 5) if span / (size * unit) <= 3)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * k, 12) for k in range(first, max(last, first + 1) + 1)]
