"""`ocr-rl serve --web` in a real browser: does a hostile transcript act, and how does the page look?

    python -m benchmarks.robustness.web_view --browser chromium --out docs

A server of this program's own writes each payload of `injection` as the transcript of a dropped page; each must be
shown and leave no mark, nor ask the server for anything. With --out it also writes screenshots of a transcript of the
page: light, dark and phone. Prints one JSON object; exits 1 where something acted.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.robustness.injection import MARK, PAYLOADS, marks
from ocr_rl.evaluate.chat import Endpoint
from ocr_rl.evaluate.readers import AtEndpoint
from ocr_rl.models.settings import PromptSettings
from ocr_rl.transcription.web import View

SHOTS = {
    "light": (1280, 900, ()),
    "dark": (1280, 900, ("--blink-settings=preferredColorScheme=0",)),
    "phone": (430, 1400, ()),
}


class Writer(ThreadingHTTPServer):
    """A chat server that writes `text`, and counts what else is asked for."""

    text = ""
    others = 0


class _Handler(BaseHTTPRequestHandler):
    server: Writer

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.server.others += 1
        self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        choice = {"message": {"content": self.server.text}, "finish_reason": "stop"}
        data = json.dumps({"choices": [choice], "usage": {"completion_tokens": 412, "prompt_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    writer = Writer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=writer.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{writer.server_address[1]}"
    endpoint = Endpoint(url=f"{address}/v1", model="nano", deadline_s=20.0)
    view = View(AtEndpoint(endpoint=endpoint, settings=PromptSettings(longest_px=280)), port=0, data=None)
    threading.Thread(target=view.serve, daemon=True).start()
    with TemporaryDirectory() as folder:
        place, text = _page(Path(folder))
        here = f"http://127.0.0.1:{view.port}/#{_dropped(view, place)}/1"
        acted, unread = [], []
        for n, payload in enumerate(PAYLOADS):
            writer.text = payload.format(mark=MARK.format(n=n)) + f"<img src={address}/asked>\n\nthe end"
            document = browse(given.browser, here, "--dump-dom")
            acted += marks(document)
            unread += [n] if 'data-state="read"' not in document or "the end" not in document else []
        result = {"payloads": len(PAYLOADS), "acted": acted, "not_shown": unread, "asked_for": writer.others}
        writer.text = text
        for name, (width, height, more) in SHOTS.items() if given.out else ():
            target = given.out / f"web_{name}.png"
            browse(given.browser, here, f"--window-size={width},{height}", f"--screenshot={target}", *more)
    view.stop()
    print(json.dumps(result))
    if acted or unread or writer.others:
        sys.exit("a transcript acted, or was not shown")


def _page(folder: Path) -> tuple[Path, str]:
    """A typeset document and the true transcript of its page."""
    from ocr_rl.pages.dataset import load_dataset
    from ocr_rl.pages.synth.make import make_dataset

    list(make_dataset("report", n=1, seed=4, out=folder / "data"))
    page = load_dataset(folder / "data")[0]
    return page.pdf, page.reference or ""


def _dropped(view: View, pdf: Path) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", view.port)
    connection.request("POST", "/documents", pdf.read_bytes(), {"X-Ocr-Rl": "1"})
    return json.loads(connection.getresponse().read())["id"]


def browse(browser: str, url: str, *how: str) -> str:
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=15000",
    ]
    return subprocess.run([*command, *how, url], check=True, capture_output=True, text=True, timeout=240).stdout


if __name__ == "__main__":
    main()
