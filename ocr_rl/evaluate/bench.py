"""`ocr-rl bench`: the unit tests of a dataset over transcripts on disk and over policies; table and report.

Candidates on disk are in the public layout, `<pdf path without .pdf>_pg<N>_repeat<M>.md`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ocr_rl.contract import Page, Reading, Transcript, UserError
from ocr_rl.evaluate.grade import Graded, grade
from ocr_rl.evaluate.report import write_report
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.raster import ImageRef, cached_render
from ocr_rl.run import environment
from ocr_rl.text.front_matter import split_front_matter

_SHOWN_PX = 900


def bench(
    data: Path, *, candidates: Sequence[Path], models: Sequence[str], out: Path, reading: Reading = "compatible"
) -> str:
    """Grade every candidate on every page, write the report below `out`, return its Markdown."""
    pages = load_dataset(data)
    rows = {folder.name: _from_folder(pages, data, folder, reading) for folder in candidates}
    for model in models:
        rows[Path(model).name] = _from_policy(pages, model, reading)
    if not rows:
        raise UserError("bench: name at least one --candidate FOLDER or --model MODEL.")
    env = environment()
    write_report(
        out,
        title=f"Benchmark {data.name}",
        candidates=rows,
        pages={page.id: page for page in pages},
        images=_image,
        notes={"reading": reading, "date": env["date"], "python": env["python"]},
    )
    return (out / "report.md").read_text(encoding="utf-8") + f"\nreport: {out / 'report.html'}"


def _image(page: Page) -> Image.Image:
    return cached_render(ImageRef(pdf=page.pdf, number=page.number, longest_px=_SHOWN_PX))


def _from_folder(pages: Sequence[Page], data: Path, folder: Path, reading: Reading) -> list[Graded]:
    if not folder.is_dir():
        raise UserError(f"--candidate {folder}: there is no such folder.")
    rows = []
    for page in pages:
        stem = page.pdf.relative_to(data / "pdfs").with_suffix("").as_posix()
        pattern = re.compile(re.escape(Path(stem).name) + rf"_pg{page.number}_repeat(\d+)\.md")
        found = sorted(
            (int(match.group(1)), path)
            for path in (folder / stem).parent.glob("*.md")
            if (match := pattern.fullmatch(path.name))
        )
        if not found:
            raise UserError(
                f"{folder}: has no transcript of page {page.number} of {stem}.pdf ({stem}_pg{page.number}_repeat1.md)."
            )
        for repeat, path in found:
            raw = path.read_text(encoding="utf-8", errors="replace")
            body = split_front_matter(raw)[1]
            transcript = Transcript(raw=raw, body=body, finish="stop", num_tokens=0)
            rows.append(grade(page, transcript, reading, repeat=repeat))
    return rows


def _from_policy(pages: Sequence[Page], model: str, reading: Reading) -> list[Graded]:
    from ocr_rl.evaluate.transcribe import transcribe
    from ocr_rl.policy import open_policy

    rows = []
    with open_policy(model) as policy:
        for page, found in transcribe(pages, policy.sampler, policy.prompter, max_tokens=policy.settings.max_tokens):
            empty = Transcript(raw="", body="", finish="abort", num_tokens=0)  # a page that cannot be drawn fails
            rows.append(grade(page, found if isinstance(found, Transcript) else empty, reading))
    return rows
