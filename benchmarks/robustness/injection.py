"""Hostile transcripts in a report, opened in a real browser: does any of them act?

    python -m benchmarks.robustness.injection --browser chromium

Each payload tries to leave a mark on the page. The report must come out without marks; the same payloads pasted raw
into a page must leave them, or the trial proves nothing. Prints one JSON object; exits 1 where something acted.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from ocr_rl.contract import Page
from ocr_rl.evaluate.report import write_report
from ocr_rl.evaluate.results import CheckVerdict, PageResult

MARK = "document.documentElement.dataset.acted=(document.documentElement.dataset.acted||'')+'{n} '"
PAYLOADS = (
    "<script>{mark}</script>",
    "</script><script>{mark}</script>",
    "</textarea></title></style><script>{mark}</script>",
    '<img src=x onerror="{mark}">',
    '<svg onload="{mark}"></svg>',
    '<details open ontoggle="{mark}">x</details>',
    '"><img src=x onerror="{mark}">',
    "' autofocus onfocus=\"{mark}\" x='",
    '<iframe srcdoc="<script>parent.{mark}</script>"></iframe>',
    "<!--><script>{mark}</script>-->",
    "<style>html{{display:none}}</style>",
    "</style><style>html{{display:none}}</style>",
    "<base href=//example.invalid/>",
    '<meta http-equiv=refresh content="0;url=about:blank">',
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--browser", default="chromium")
    args = parser.parse_args()
    texts = [payload.format(mark=MARK.format(n=n)) for n, payload in enumerate(PAYLOADS)]
    with tempfile.TemporaryDirectory() as folder:
        report, raw = Path(folder) / "report", Path(folder) / "raw.html"
        _report(report, texts)
        raw.write_text("<!doctype html><title>raw</title>" + "\n".join(texts[:7]), encoding="utf-8")
        found = _dump(args.browser, report / "report.html")
        control = _dump(args.browser, raw)
    result = {
        "payloads": len(texts),
        "acted_in_report": marks(found),
        "acted_when_raw": marks(control),
        "report_shown": "Hostile transcripts" in found and "<base href" not in found,
    }
    print(json.dumps(result))
    if result["acted_in_report"] or not result["acted_when_raw"] or not result["report_shown"]:
        sys.exit("a transcript acted, the control did not, or the report is gone")


def _report(out: Path, texts: list[str]) -> None:
    """Every payload as page id, transcript, reference, reason of a test, candidate's name and note."""
    rows, pages = [], {}
    for n, text in enumerate(texts):
        id_ = f"{n:08x}{text}:p1"
        pages[id_] = Page(id=id_, pdf=Path(f"{n}.pdf"), number=1, reference=text)
        check = CheckVerdict(id=text, type="present", passed=False, why=text)
        rows.append(PageResult(page=id_, checks=(check,), finish="stop", num_tokens=1, text=text))
    write_report(
        out,
        title="Hostile transcripts " + texts[0],
        candidates={texts[1]: rows, texts[3]: rows},
        pages=pages,
        images=lambda page: Image.new("RGB", (64, 64), "white"),
        notes={texts[2]: texts[3]},
    )


def _dump(browser: str, path: Path) -> str:
    """The document after its scripts have run."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    return subprocess.run([*command, path.as_uri()], check=True, capture_output=True, text=True, timeout=120).stdout


def marks(document: str) -> list[int]:
    marked = re.search(r'<html[^>]*data-acted="([^"]*)"', document)
    return sorted({int(n) for n in marked[1].split()}) if marked else []


if __name__ == "__main__":
    main()
