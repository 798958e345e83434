"""Broken and malicious PDFs against the rasteriser: no crash of ours, no page over its limits, no good page lost.

    python -m benchmarks.robustness.traps FOLDER

Tried are every PDF below FOLDER, 300 mutated copies of them, and hand-made traps. Every mutated file
must come back as pages or as a reason; after each trap a good page must still be drawn.
"""

from __future__ import annotations

import argparse
import re
import resource
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from ocr_rl.pages.raster import ImageRef, PageError, count_pages, render_all

TIMEOUT_S = 10.0


def _pdf(*objects: bytes, tail: bytes = b"") -> bytes:
    """Objects 1, 2, … of a PDF with a right cross-reference table; object 1 is the catalogue."""
    out, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n"
    return out + trailer % (len(objects) + 1, tail, start)


def _stream(data: bytes, head: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (head, len(data), data)


_CATALOGUE, _ONE_PAGE = b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>"


def traps() -> dict[str, bytes]:
    """Hand-made PDFs by name."""
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]%s>>"
    huge = zlib.compress(bytes(30_000 * 30_000), 1)
    image = (
        b"/Type/XObject/Subtype/Image/Width 30000/Height 30000/ColorSpace/DeviceGray/BitsPerComponent 8"
        b"/Filter/FlateDecode"
    )
    many = b"<</Type/Pages/Count 100000/Kids[" + b"3 0 R " * 100_000 + b"]>>"
    drawn = b"/Resources<</XObject<</I 4 0 R>>>>/Contents 5 0 R"
    forms = b"/Resources<</XObject<</F 4 0 R>>>>/Contents 5 0 R"
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F 4 0 R>>>>"
    password = b"<</Filter/Standard/V 1/R 2/O<%s>/U<%s>/P -4>>" % (b"ab" * 32, b"cd" * 32)
    endless = b"q 1 0 0 1 0 0 cm " * 2_000_000
    return {
        "20000_pt_wide": _pdf(_CATALOGUE, _ONE_PAGE, b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 20000 300]>>"),
        "100000_pages": _pdf(_CATALOGUE, many, page % b""),
        "looping_tree": _pdf(
            _CATALOGUE, b"<</Type/Pages/Kids[3 0 R]/Count 2>>", b"<</Type/Pages/Kids[2 0 R]/Count 2>>"
        ),
        "30000_px_image": _pdf(
            _CATALOGUE, _ONE_PAGE, page % drawn, _stream(huge, image), _stream(b"q 612 0 0 792 0 0 cm /I Do Q")
        ),
        "password": _pdf(_CATALOGUE, _ONE_PAGE, page % b"", password, tail=b"/Encrypt 4 0 R/ID[<00><00>]"),
        "form_in_itself": _pdf(_CATALOGUE, _ONE_PAGE, page % forms, _stream(b"/F Do", form), _stream(b"/F Do")),
        "deep_states": _pdf(
            _CATALOGUE, _ONE_PAGE, page % b"/Contents 4 0 R", _stream(zlib.compress(endless, 9), b"/Filter/FlateDecode")
        ),
        "no_size": _pdf(_CATALOGUE, _ONE_PAGE, b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 0 0]>>"),
    }


def mutated(data: bytes, rng: Random) -> bytes:
    """Bytes flipped, the end cut off, or numbers of objects changed."""
    how = rng.randrange(3)
    if how == 0:
        spoilt = bytearray(data)
        for _ in range(rng.randint(1, 60)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        return bytes(spoilt)
    if how == 1:
        return data[: rng.randint(1, len(data))]
    places = [match.span(1) for match in re.finditer(rb"\b(\d{1,4}) 0 (?:R|obj)", data)]
    spoilt = bytearray(data)
    for start, end in rng.sample(places, min(len(places), rng.randint(1, 30))):
        spoilt[start:end] = str(rng.randrange(10 ** (end - start))).zfill(end - start).encode()
    return bytes(spoilt)


def drawn(pdf: Path, good: Path, most: int) -> tuple[int, list[str], float, bool]:
    """Pages drawn, reasons of those refused, the longest time a page took (s), and whether a good page still works."""
    count = next(iter(count_pages([pdf], timeout_s=TIMEOUT_S)))[1]
    if isinstance(count, PageError):
        refs, reasons = [], [count.reason]
    else:
        refs, reasons = [ImageRef(pdf=pdf, number=k) for k in range(1, min(count, most) + 1)], []
    pages, longest, start = 0, 0.0, time.monotonic()
    after = False
    for ref, image in render_all([*refs, ImageRef(pdf=good, number=1)], timeout_s=TIMEOUT_S):
        longest, start = max(longest, time.monotonic() - start), time.monotonic()
        if isinstance(image, PageError):
            reasons.append(image.reason)
        elif ref.pdf == good:
            after = True
        else:
            pages += 1
    return pages, reasons, longest, after


def originals_drawn(pdfs: Sequence[Path]) -> str:
    """Every page of every file as it is: how many, what was refused, the slowest, and the most memory of a worker."""
    refs, reasons = [], []
    for pdf, count in count_pages(pdfs, timeout_s=TIMEOUT_S):
        if isinstance(count, PageError):
            reasons.append(str(count))
        else:
            refs += [ImageRef(pdf=pdf, number=k) for k in range(1, count + 1)]
    slowest, start = (0.0, ""), time.monotonic()
    for ref, image in render_all(refs, timeout_s=TIMEOUT_S):
        slowest, start = max(slowest, (time.monotonic() - start, ref.pdf.name)), time.monotonic()
        if isinstance(image, PageError):
            reasons.append(str(image))
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    said = f"{len(pdfs)} files, {len(refs)} pages, refused {len(reasons)}; slowest {slowest[0]:.2f} s ({slowest[1]})"
    return "\n".join([f"{said}, largest worker {memory:.0f} MiB", *reasons])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=300, help="mutated files")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    originals = sorted(args.folder.rglob("*.pdf"))
    rng = Random(args.seed)
    lost = 0
    print(originals_drawn(originals))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (good := folder / "good.pdf").write_bytes(good_pdf())
        for trap, data in traps().items():
            (path := folder / f"{trap}.pdf").write_bytes(data)
            pages, reasons, longest, after = drawn(path, good, 2)
            lost += not after
            print(
                f"{trap}: {pages} pages drawn, {reasons or 'nothing refused'}, at most {longest:.1f} s, then: {after}"
            )
        counts, why = Counter[str](), Counter[str]()
        for k in range(args.n):
            data = mutated(rng.choice(originals).read_bytes(), rng)
            (path := folder / f"mutated{k}.pdf").write_bytes(data)
            pages, reasons, longest, after = drawn(path, good, 2)
            lost += not after
            counts["drawn"] += pages
            counts["refused"] += len(reasons)
            counts["over the limit"] += longest > TIMEOUT_S + 3
            why.update(reasons)
            path.unlink()
    print(f"{args.n} mutated files, the first two pages of each: {dict(counts)}")
    for reason, count in why.most_common():
        print(f"  {count:4} {reason}")
    print(f"good pages lost after them: {lost}")
    return 1 if lost or counts["over the limit"] else 0


def good_pdf() -> bytes:
    text = b"BT /F 24 Tf 72 700 Td (a good page) Tj ET"
    font = b"/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>/Contents 4 0 R"
    return _pdf(_CATALOGUE, _ONE_PAGE, b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]%s>>" % font, _stream(text))


if __name__ == "__main__":
    raise SystemExit(main())
