"""Our taskset in verifiers' own evaluation, against a stand-in for a model's server.

    PYTHON -m benchmarks.peers.peer_verifiers

Run by a Python that has verifiers 0.4 and this package, with `uv` on the path (verifiers starts its chat program with
it). The server answers what its table holds for the page's image. Prints a JSON line and exits 1 where a reward of
verifiers' traces is not what our mix gives the same text.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

from PIL import Image

import ocr_rl
from ocr_rl.interop.row_files import image_url
from ocr_rl.pages.hub.parquet import write_table

SPEC = "nano_grpo"
ANSWERS = ("Pay the total: 7.50", "Pay the totl", "Due\n" * 40, "Nothing\n")
TESTS = '[{"type": "present", "text": "Pay the total"}]'
MODULE = 'from ocr_rl.interop.verifiers import PagesTaskset\n__all__ = ["PagesTaskset"]\n'


def png(shade: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (32, 32), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def server(answers: dict[str, str]) -> ThreadingHTTPServer:
    """An OpenAI-compatible server that knows a text for each image."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            parts = asked["messages"][-1]["content"]
            text = next(answers[part["image_url"]["url"]] for part in parts if part["type"] == "image_url")
            chunk = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "stand-in"}
            delta = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
            usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
            chunks: list[dict[str, Any]] = [
                chunk | {"choices": [delta]},
                chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                chunk | {"choices": [], "usage": usage},
            ]
            data = "".join(f"data: {json.dumps(part)}\n\n" for part in chunks) + "data: [DONE]\n\n"
            self._send(data.encode())

        def _send(self, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def traces_of(folder: Path, url: str) -> list[dict[str, Any]]:
    """The traces of `vf-eval` on the rows of a folder."""
    command = [str(Path(sys.executable).with_name("vf-eval")), "my_pages", "--env.taskset.rows", "rows.parquet"]
    command += ["--env.taskset.task.spec", SPEC, "-m", "stand-in", "--client.base-url", f"{url}/v1", "--no-push"]
    command += ["--env.agent.harness.id", "null", "--env.agent.runtime.type", "subprocess", "--no-rich"]
    command += ["--output-dir", "out"]
    path = os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
    files = list(folder.rglob("traces.jsonl"))
    episodes = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [trace for episode in episodes for trace in episode["traces"]]


def main() -> int:
    images = [png(shade) for shade in range(len(ANSWERS))]
    rows = [
        {"id": str(k), "tests": TESTS, "reference": None, "image": {"bytes": image, "path": None}}
        for k, image in enumerate(images)
    ]
    answers = {image_url(row, Path()): text for row, text in zip(rows, ANSWERS, strict=True)}
    stand_in = server(answers)
    Thread(target=stand_in.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "my_pages.py").write_text(MODULE, encoding="utf-8")
        write_table(
            folder / "rows.parquet", rows, {"id": "text", "tests": "text", "reference": "text", "image": "image"}
        )
        traces = traces_of(folder, f"http://127.0.0.1:{stand_in.server_port}")
    stand_in.shutdown()
    mix, page = ocr_rl.load_rewards(SPEC), ocr_rl.make_page(TESTS)
    ours = {str(k): mix.score(page, [text])[0].reward for k, text in enumerate(ANSWERS)}
    theirs = {trace["task"]["data"]["id"]: trace["rewards"]["ocr"]["score"] for trace in traces}
    difference = max(abs(ours[k] - theirs[k]) for k in ours) if theirs.keys() == ours.keys() else None
    print(json.dumps({"ours": ours, "verifiers": theirs, "largest difference": difference}))
    return int(difference is None or difference > 1e-9)


if __name__ == "__main__":
    sys.exit(main())
