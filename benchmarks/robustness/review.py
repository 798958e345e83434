"""`ocr-rl pages review` in a real browser: do the keys decide, does hostile text act, and how does the page look?

    python -m benchmarks.robustness.review --browser chromium --out docs

A script of this trial's own presses the page's keys: keep, drop, arrows, an edit that is no test, an edit that is one;
the journal must say so. Then each payload of `injection` is the text of a test, what samples read there and the name of
its PDF; each must be shown and leave no mark. With --out it also writes a screenshot. Prints one JSON object; exits 1
where something acted, or a key did not.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from benchmarks.robustness.injection import MARK, PAYLOADS, marks
from benchmarks.robustness.web_view import browse
from ocr_rl.evaluate.damage import with_wrong_characters
from ocr_rl.evaluate.ranking import rank_tests
from ocr_rl.pages.dataset import load_dataset, write_tests
from ocr_rl.pages.synth.make import make_dataset
from ocr_rl.review import web
from ocr_rl.review.decisions import read_decisions
from ocr_rl.review.desk import open_desk

# What is typed into the page: each wait ends when the page shows what the key did.
DRIVER = """
const press = (key, more = {}, at = document) =>
  at.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, ...more }));
const until = async (done) => {
  for (let n = 0; n < 400 && !done(); n += 1) await new Promise((next) => setTimeout(next, 25));
};
const at = () => document.body.dataset.test;
const save = () => press("Enter", { ctrlKey: true }, by("json"));
(async () => {
  await until(() => at() === "0");
  press("k"); await until(() => at() === "1");
  press("d"); await until(() => at() === "2");
  press("ArrowLeft"); await until(() => at() === "1");
  press("ArrowRight"); await until(() => at() === "2");
  press("e"); by("json").value = "{"; save();
  await until(() => !by("error").hidden);
  const refused = by("error").textContent;
  by("json").value = JSON.stringify({ ...tests[2].test, text: "as edited" }); save();
  await until(() => tests[2].decision === "edit");
  document.body.dataset.drove = refused;
})();
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        decided, refused = _driven(given.browser, Path(folder) / "driven")
        acted, unread = _attacked(given.browser, Path(folder) / "hostile")
        if given.out:
            _shoot(given.browser, Path(folder) / "shown", given.out)
    result = {
        "decided": decided,
        "refused": refused,
        "payloads": len(PAYLOADS),
        "acted": acted,
        "not_shown": unread,
    }
    print(json.dumps(result))
    if decided != ["keep", "drop", "edit"] or not refused.startswith("This is not JSON") or acted or unread:
        sys.exit("a text acted, was not shown, or a key did not decide")


def _driven(browser: str, folder: Path) -> tuple[list[str], str]:
    """What the journal says after the driver, and the sentence that its wrong edit got."""
    data = _dataset(folder)
    page, script = web.static("review.html"), "review.html"
    web.STATIC["driver.js"] = ("driver.js", "text/javascript")
    driven = page.replace(b"</html>", b'<script src="driver.js"></script></html>')
    plain = web.static
    web.static = lambda file: {script: driven, "driver.js": DRIVER.encode()}.get(file) or plain(file)
    try:
        with _served(data, None) as url:
            document = browse(browser, url, "--dump-dom")
    finally:
        web.static = plain
        del web.STATIC["driver.js"]
    refused = document.partition('data-drove="')[2].partition('"')[0]
    return [decision.what for decision in read_decisions(data / "review.journal").values()], refused


def _attacked(browser: str, folder: Path) -> tuple[list[int], list[int]]:
    """The payloads that left a mark, and those that were not shown."""
    data = _dataset(folder)
    page = load_dataset(data)[0]
    texts = [f"{payload.format(mark=MARK.format(n=n))} the end" for n, payload in enumerate(PAYLOADS)]
    place = {"pdf": page.pdf.name, "page": page.number, "type": "present"}
    write_tests(data / "hostile.jsonl", [{**place, "id": text, "text": text} for text in texts])
    suspects = folder / "suspects.jsonl"
    write_tests(
        suspects,
        [{"id": text, "suspicion": 1.0, "against": text, "readings": [[text, 8], [text, 1]]} for text in texts],
    )
    acted: list[int] = []
    unread: list[int] = []
    with _served(data, suspects) as url:
        for n in range(len(texts)):
            document = browse(browser, f"{url}#{n + 1}", "--dump-dom")
            acted += marks(document)
            unread += [n] if document.count("the end") < 4 else []
    return acted, unread


def _shoot(browser: str, folder: Path, out: Path) -> None:
    """A test with a digit made wrong, among the suspects of eight readings that have 2 % of their letters wrong."""
    data = _dataset(folder)
    page = load_dataset(data)[0]
    tests = [json.loads(line) for line in (data / "report.jsonl").read_text(encoding="utf-8").splitlines()]
    wrong = next(test for test in tests if test["type"] == "present" and "9" in test["text"])
    changed = {**wrong, "text": wrong["text"].replace("9", "4"), "max_diffs": 0}
    write_tests(data / "report.jsonl", [changed if test is wrong else test for test in tests])
    texts = [with_wrong_characters(page.reference or "", 0.02, Random(k)) for k in range(8)]
    group = {"page": page.id, "samples": [{"text": text, "finish": "stop", "tokens": 1} for text in texts]}
    (folder / "groups.jsonl").write_text(json.dumps(group) + "\n", encoding="utf-8")
    suspects = folder / "suspects.jsonl"
    list(rank_tests(data, folder / "groups.jsonl", top=5, out=suspects))
    with _served(data, suspects) as url:
        browse(browser, url, "--window-size=1100,560", f"--screenshot={out / 'review.png'}")


def _dataset(folder: Path) -> Path:
    list(make_dataset("report", n=1, seed=4, out=folder / "data"))
    return folder / "data"


@contextmanager
def _served(data: Path, suspects: Path | None) -> Iterator[str]:
    review = web.Review(open_desk(data, suspects, data / "review.journal"), lambda: "written", port=0)
    threading.Thread(target=review.serve, daemon=True).start()
    yield review.url
    review.stop()


if __name__ == "__main__":
    main()
