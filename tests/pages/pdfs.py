"""PDFs written by hand: text in blocks, and text that nobody sees."""

from __future__ import annotations


def pdf(*contents: str, box: str = "0 0 612 792", xobject: str = "") -> bytes:
    """A PDF of a page for each content stream; font /F1, states /G0 (transparent) and form /X1 (of `xobject`)."""
    kids = " ".join(f"{k} 0 R" for k in range(10, 10 + 2 * len(contents), 2))
    resources = "<< /Font << /F1 3 0 R >> /ExtGState << /G0 << /ca 0 >> >> /XObject << /X1 4 0 R >> >>"
    form = f"/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources {resources}"
    objects = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>",
        3: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        4: f"<< {form} /Length {len(xobject)} >>\nstream\n{xobject}\nendstream",
    }
    for k, content in enumerate(contents):
        page = f"/Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents {11 + 2 * k} 0 R /Resources {resources}"
        objects[10 + 2 * k] = f"<< {page} >>"
        objects[11 + 2 * k] = f"<< /Length {len(content)} >>\nstream\n{content}\nendstream"
    body = "".join(f"{k} 0 obj\n{content}\nendobj\n" for k, content in objects.items())
    return f"%PDF-1.7\n{body}trailer << /Size 99 /Root 1 0 R >>\n%%EOF\n".encode()  # without a table, which is rebuilt


def block(*lines: str, x: float = 72, y: float = 700, size: float = 11, mode: int = 0) -> str:
    return f"BT /F1 {size} Tf {mode} Tr {x} {y} Td 14 TL " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"


SEEN = (
    "The quarterly committee gathered beside the harbour on Tuesday morning",
    "Several delegates questioned whether the budget had been approved earlier",
    "Nobody remembered who had signed the original agreement with suppliers",
)
HIDDEN = "Secret payload words that no reader of this page has ever seen"
HEADER, FOOTER = "Proceedings of the northern harbour committee", "Printed for the members of the society alone"
