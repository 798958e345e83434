"""The scripts in which letters are drawn on this machine where a file does not hold its typeface.

A page of a letter is drawn for each script and each of some typefaces that pages ask for. Ink is what counts: the sign
that some typefaces draw for a letter that they have not is drawn too, and compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from ocr_rl.pages.opening import opened
from ocr_rl.pages.raster import image_of

_PX = 48
_NO_LETTER = "0378"  # no character, and none will be
# Chinese, Japanese and Korean typefaces are found by their character collection, others by their name.
_COLLECTIONS = {
    "Chinese (simplified)": ("GB1", "UniGB-UCS2-H", "4E2D"),
    "Chinese (traditional)": ("CNS1", "UniCNS-UCS2-H", "570B"),
    "Japanese": ("Japan1", "UniJIS-UCS2-H", "3042"),
    "Korean": ("Korea1", "UniKS-UCS2-H", "AC00"),
}
_LETTERS = {
    "Latin": "0041",
    "Latin with accents": "015F",
    "Greek": "03A9",
    "Cyrillic": "0416",
    "Arabic": "0639",
    "Hebrew": "05D0",
    "Devanagari": "0915",
    "Bengali": "0995",
    "Tamil": "0B95",
    "Thai": "0E01",
}
_NAMES = ("Arial", "TimesNewRoman", "LiberationSans", "DejaVuSans", "FreeSans", "FreeSerif", "ArialUnicodeMS")


def drawn_scripts() -> dict[str, bool]:
    """Whether a letter of each script is drawn. Takes some hundredths of a second and some more where PDFium starts."""
    fonts = [(script, *collection) for script, collection in _COLLECTIONS.items()]
    pages = [(script, _collected(ordering, cmap), f"<{code}>") for script, ordering, cmap, code in fonts]
    for script, code in _LETTERS.items():
        for name in (*_NAMES, "NotoSans", f"NotoSans{script.split()[0]}"):
            pages += [(script, _named(name, code), "(A)"), ("", _named(name, _NO_LETTER), "(A)")]
    drawn = dict.fromkeys((*_LETTERS, *_COLLECTIONS), False)
    blank = b"\xff" * (3 * _PX * _PX)
    with opened(_pdf([(font, text) for _, font, text in pages])) as document:
        images = [image_of(document, page, _PX).tobytes() for page in document]
    for k, (script, _, _) in enumerate(pages):
        without = images[k + 1] if script in _LETTERS else blank
        if script and images[k] not in (blank, without):
            drawn[script] = True
    return drawn


def _descriptor(name: str, flags: int) -> str:
    box = "/FontBBox[0 0 1000 1000]/ItalicAngle 0/Ascent 800/Descent -200/CapHeight 700/StemV 80"
    return f"<</Type/FontDescriptor/FontName/{name}/Flags {flags}{box}>>"


def _named(name: str, code: str) -> str:
    """A typeface by its name, in which "A" stands for a character."""
    encoding = f"<</Type/Encoding/BaseEncoding/WinAnsiEncoding/Differences[65/uni{code}]>>"
    head = f"/Type/Font/Subtype/TrueType/BaseFont/{name}/FirstChar 65/LastChar 65/Widths[1000]"
    return f"<<{head}/FontDescriptor {_descriptor(name, 32)}/Encoding {encoding}>>"


def _collected(ordering: str, cmap: str) -> str:
    """A typeface of a character collection, whatever its name."""
    system = f"<</Registry(Adobe)/Ordering({ordering})/Supplement 0>>"
    head = f"/Type/Font/Subtype/CIDFontType0/BaseFont/Any/CIDSystemInfo {system}"
    below = f"<<{head}/FontDescriptor {_descriptor('Any', 4)}>>"
    return f"<</Type/Font/Subtype/Type0/BaseFont/Any/Encoding/{cmap}/DescendantFonts[{below}]>>"


def _pdf(pages: Sequence[tuple[str, str]]) -> bytes:
    """A PDF with a page for each typeface and text."""
    kids = " ".join(f"{3 + 2 * k} 0 R" for k in range(len(pages)))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>"]
    for k, (font, text) in enumerate(pages):
        content = f"BT /F 60 Tf 20 20 Td {text} Tj ET"
        resources = f"/Resources<</Font<</F {font}>>>>/Contents {4 + 2 * k} 0 R"
        objects.append(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]{resources}>>")
        objects.append(f"<</Length {len(content)}>>\nstream\n{content}\nendstream")
    body = "".join(f"{number} 0 obj\n{text}\nendobj\n" for number, text in enumerate(objects, 1))
    return f"%PDF-1.7\n{body}trailer<</Size {len(objects) + 1}/Root 1 0 R>>\n%%EOF\n".encode()
