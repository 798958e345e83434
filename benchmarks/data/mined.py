"""Are tests that were mined from text layers right? Judged by another program's reading of the same pages.

    python -m benchmarks.data.mined FOLDER

Mines every PDF below FOLDER, then asks poppler's `pdftotext` for the text of each page and counts how many present and
order tests pass with it (pages with a transcript of their own are not counted). Prints failures, and why pages were
left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from ocr_rl.pages.mined import mine_folder
from ocr_rl.text.checks import load_check, prepare
from ocr_rl.text.prepared import Prepared


def poppler_text(pdf: Path, number: int) -> str:
    command = ["pdftotext", "-enc", "UTF-8", "-f", str(number), "-l", str(number), str(pdf), "-"]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).stdout.decode("utf-8", "replace")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=10, help="how many failures to print")
    args = parser.parse_args()
    if shutil.which("pdftotext") is None:
        raise SystemExit("pdftotext is not installed (Debian: poppler-utils)")
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "mined"
        harvest = mine_folder(args.folder, out, args.seed)
        tests = [json.loads(line) for line in (out / "mined.jsonl").read_text(encoding="utf-8").splitlines()]
        pages: dict[tuple[str, int], Prepared] = {}
        right, total, shown = Counter[str](), Counter[str](), 0
        for test in tests:
            if test["type"] not in ("present", "order") or (out / "pdfs" / test["pdf"]).with_suffix(".md").exists():
                continue
            place = test["pdf"], test["page"]
            if place not in pages:
                pages[place] = prepare(poppler_text(out / "pdfs" / test["pdf"], test["page"]))
            verdict = load_check(test).run(pages[place], "strict")
            total[test["type"]] += 1
            right[test["type"]] += verdict.passed
            if not verdict.passed and shown < args.show:
                shown += 1
                print(f"{test['id']}: {verdict.why}")
    reasons = Counter(line.rsplit(": ", 1)[-1] for line in harvest.left_out)
    for reason, count in reasons.most_common():
        print(f"left out: {count:4} pages or files: {reason}")
    for kind in total:
        print(f"{kind}: {right[kind]} of {total[kind]} right ({right[kind] / total[kind]:.1%})")
    share = sum(right.values()) / max(1, sum(total.values()))
    print(f"{harvest.pages} pages, {harvest.tests} tests; {share:.2%} of present and order tests right by pdftotext")
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    raise SystemExit(main())
