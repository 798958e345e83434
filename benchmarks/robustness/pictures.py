"""Broken pictures against the rasteriser: each is drawn or refused with a reason, and nothing is over its limits.

    python -m benchmarks.robustness.pictures [--n 60] [--seed 0] [FOLDER]

Tried are mutated copies of pictures of many kinds made here (and of those below FOLDER), then bombs. After each, a good
page must still be drawn. Prints what became of them; exit code 1 if one crashed, hung or ate its memory.
"""

from __future__ import annotations

import argparse
import io
import resource
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from ocr_rl.pages.pictures import SUFFIXES
from ocr_rl.pages.raster import ImageRef, PageError, count_pages, render_all

TIMEOUT_S = 10.0
BAD = ("crashed", "took longer", "needs more than")  # what the guard says, not the reader


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def sound() -> dict[str, bytes]:
    """Pictures of text-like strokes, by name."""
    rng = Random(0)
    page = Image.new("RGB", (850, 1100), "white")
    pen = ImageDraw.Draw(page)
    for y in range(60, 1040, 18):
        for x in range(60, rng.randrange(500, 790), 12):
            pen.line((x, y, x + rng.randrange(9), y + rng.randrange(12)), fill=(rng.randrange(90), 0, 0), width=2)
    grey16 = Image.fromarray(np.asarray(page.convert("L")).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    faxes = [page.convert("1"), page.convert("1").rotate(180), page.convert("1")]
    many: dict[str, object] = {"save_all": True, "append_images": faxes[1:]}
    made = {
        "rgb.png": _encoded(page, "PNG"),
        "palette.png": _encoded(page.quantize(16), "PNG", transparency=0),
        "alpha.png": _encoded(page.convert("RGBA"), "PNG", exif=exif),
        "grey16.png": _encoded(grey16, "PNG"),
        "rgb.jpg": _encoded(page, "JPEG", exif=exif),
        "progressive.jpg": _encoded(page, "JPEG", progressive=True),
        "cmyk.jpg": _encoded(page.convert("CMYK"), "JPEG"),
        "rgb.webp": _encoded(page, "WEBP"),
        "lossless.webp": _encoded(page.convert("RGBA"), "WEBP", lossless=True),
        "raw.tif": _encoded(page, "TIFF", exif=exif),
        "grey16.tif": _encoded(grey16, "TIFF"),
    }
    for compression in ("group3", "group4", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        made[f"{compression}.tif"] = _encoded(faxes[0], "TIFF", compression=compression, **many)
    made["jpeg.tif"] = _encoded(page, "TIFF", compression="jpeg", save_all=True, append_images=[page.rotate(180)])
    return made


def mutated(data: bytes, rng: Random) -> bytes:
    """Bytes changed anywhere or in the header, a piece doubled or lost, a number made huge, or the end cut off."""
    broken = bytearray(data)
    match rng.randrange(6):
        case 0:
            for _ in range(rng.randrange(1, 200)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
        case 1:  # behind the magic number, which says what the file is
            for _ in range(rng.randrange(1, 12)):
                broken[rng.randrange(12, min(len(broken), 400))] = rng.randrange(256)
        case 2:
            del broken[rng.randrange(12, len(broken)) :]
        case 3:
            start = rng.randrange(12, len(broken))
            del broken[start : start + rng.randrange(1, 2000)]
        case 4:
            start = rng.randrange(12, len(broken))
            broken[start:start] = broken[start : start + rng.randrange(1, 2000)]
        case _:
            start = rng.randrange(12, min(len(broken), 300) - 4)
            broken[start : start + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\xff\0\xff")
            )
    return bytes(broken)


def _png(width: int, height: int, rows: bytes, *, depth: int = 8) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Files that ask for far more than they hold."""
    frame = struct.pack("<HHHHII", 1, 256, 3, 1, 100, 8)  # one entry (width 100), and the next frame is this one again
    huge_jpeg = bytearray(_encoded(Image.new("L", (64, 64)), "JPEG"))
    at = huge_jpeg.index(b"\xff\xc0") + 5
    huge_jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    return {
        "30000_px.png": _png(30_000, 30_000, zlib.compress(bytes(30_000 * 30_001), 1)),
        "largest.png": _png(13_377, 13_377, zlib.compress(bytes(13_377 * 13_378), 1)),  # just under the limit: drawn
        "strip.png": _png(2_000_000, 1, zlib.compress(bytes(2_000_001), 9)),
        "65535_px.jpg": bytes(huge_jpeg),
        "endless.tif": b"II*\0\x08\0\0\0" + frame,
        "16383_px.webp": b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f" + bytes(12),
        "nothing.tif": b"MM\0*\0\0\0\x08\0\0\0\0\0\0",
    }


def _refs(files: Sequence[Path], reasons: Counter[str]) -> Iterator[ImageRef]:
    for path, pages in count_pages(files, timeout_s=TIMEOUT_S):
        if isinstance(pages, PageError):
            reasons[pages.reason] += 1
        else:
            yield from (ImageRef(pdf=path, number=number) for number in range(1, min(pages, 20) + 1))


def run(files: Sequence[Path]) -> Counter[str]:
    """What became of the pages: "drawn", or a reason."""
    ends: Counter[str] = Counter()
    for _, result in render_all(_refs(files, ends), timeout_s=TIMEOUT_S):
        ends[result.reason if isinstance(result, PageError) else "drawn"] += 1
    return ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="more pictures to be broken")
    parser.add_argument("--n", type=int, default=60, help="number of mutated pictures")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    whole = sound()
    if args.folder:
        paths = sorted(path for path in args.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        whole |= {f"{k}{path.suffix}": path.read_bytes() for k, path in enumerate(paths)}
    rng = Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        groups: dict[str, list[Path]] = {"sound": [], "mutated": [], "bombs": []}
        originals = list(whole.items())
        broken = {f"{k}_{on[0]}": mutated(on[1], rng) for k in range(args.n) for on in [originals[k % len(originals)]]}
        for group, contents in (("sound", whole), ("mutated", broken), ("bombs", bombs())):
            for file, data in contents.items():
                path = folder / f"{group}_{file}"
                path.write_bytes(data)
                groups[group].append(path)
        bad = 0
        good = groups["sound"][0]
        for group, files in groups.items():
            start = time.perf_counter()
            ends = run([path for file in files for path in (file, good)] if group != "sound" else files)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
            print(f"{group}: {len(files)} files, {time.perf_counter() - start:.1f} s, largest worker {peak:,.0f} MiB")
            for reason, number in ends.most_common():
                print(f"  {number:5}  {reason}")
            bad += sum(number for reason, number in ends.items() if any(word in reason for word in BAD))
            bad += group == "sound" and set(ends) != {"drawn"}
            bad += group != "sound" and ends["drawn"] < len(files)  # the good page after each
    print("no crash, nothing over its time or memory" if not bad else f"{bad} are wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
