"""PDFs written by hand: text in blocks, and text that nobody sees."""

from __future__ import annotations

from benchmarks.data.layouts import assembled


def pdf(*contents: str, box: str = "0 0 612 792", xobject: str = "") -> bytes:
    """A PDF of a page for each content stream; font /F1, states /G0 (transparent) and form /X1 (of `xobject`)."""
    resources = "<< /Font << /F1 3 0 R >> /ExtGState << /G0 << /ca 0 >> >> /XObject << /X1 4 0 R >> >>"
    form = f"/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources {resources}"
    objects = {
        3: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        4: f"<< {form} /Length {len(xobject)} >>\nstream\n{xobject}\nendstream",
    }
    return assembled(objects, contents, f"/MediaBox [{box}]", resources)


def block(*lines: str, x: float = 72, y: float = 700, size: float = 11, mode: int = 0) -> str:
    return f"BT /F1 {size} Tf {mode} Tr {x} {y} Td 14 TL " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"


SEEN = (
    "The quarterly committee gathered beside the harbour on Tuesday morning",
    "Several delegates questioned whether the budget had been approved earlier",
    "Nobody remembered who had signed the original agreement with suppliers",
)
HIDDEN = "Secret payload words that no reader of this page has ever seen"
HEADER, FOOTER = "Proceedings of the northern harbour committee", "Printed for the members of the society alone"
