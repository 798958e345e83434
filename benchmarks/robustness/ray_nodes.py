"""Is every page there once where a node of a Ray cluster dies while `transcribe --ray` reads?

    python -m benchmarks.robustness.ray_nodes --pages 1000 --out runs/ray_nodes        (needs ocr-rl[ray])

Three nodes of Ray's own test cluster on this machine, and three workers. A node that has a worker, and is not the head,
is killed once a third of the pages have rows. The model is a server of this program's own, which answers each question
after 50 ms with a text that belongs to the image alone; `--endpoint URL` asks another. The texts are compared with
those of the same job without Ray. Prints one JSON object; exits 1 where a page is missing, there twice, or has another
text.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.speed.transcribing import OCR_RL, rows, typeset

WORKERS = 3


class Answers(ThreadingHTTPServer):
    """A chat server; it counts what it is asked."""

    daemon_threads = True
    request_queue_size = 256
    asked = 0

    def handle_error(self, *_: object) -> None:
        """Nothing is said of a worker that was killed while it asked."""

    def __init__(self, wait_s: float) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                self._say({"data": [{"id": "counted"}]})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.asked += 1
                time.sleep(wait_s)
                url = next(
                    part["image_url"]["url"]
                    for part in json.loads(body)["messages"][0]["content"]
                    if part["type"] == "image_url"
                )
                message = {"role": "assistant", "content": "page " + hashlib.sha256(url.encode()).hexdigest()[:16]}
                usage = {"prompt_tokens": 20, "completion_tokens": 7}
                self._say({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

            def _say(self, content: dict[str, Any]) -> None:
                data = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


def cluster_of(nodes: int) -> Any:
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]: an extra

    how = {"num_cpus": 2, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**how, "include_dashboard": False})
    for _ in range(nodes - 1):
        cluster.add_node(**how)
    cluster.wait_for_nodes()
    return cluster


def workers_of(node: Any) -> int:
    """How many of our workers a node has: children of its raylet that bear their name."""
    raylet = node.all_processes["raylet"][0].process.pid
    count = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            count += parent == raylet and b"_Worker" in (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
    return count


def transcribe(pdfs: Path, out: Path, url: str, *how: str) -> subprocess.Popen[bytes]:
    shutil.rmtree(out, ignore_errors=True)
    words = [*OCR_RL, "transcribe", str(pdfs), "--out", str(out), "--endpoint", url, *how]
    with out.with_name(out.name + ".log").open("wb") as log:
        return subprocess.Popen(words, stdout=log, stderr=log)


def read_with_a_kill(pdfs: Path, out: Path, url: str, after: int) -> dict[str, Any]:
    """Read through three nodes; how many rows there were when one was killed, and how many workers it had."""
    cluster = cluster_of(3)
    killed: dict[str, Any] = {}
    process = transcribe(pdfs, out, url, "--ray", cluster.address, "--ray-workers", str(WORKERS))
    try:
        while process.poll() is None:
            count = len(rows(out)) if out.is_dir() else 0
            victims = [node for node in cluster.worker_nodes if workers_of(node)] if count >= after else []
            if victims and not killed:
                workers = [workers_of(node) for node in (cluster.head_node, *cluster.worker_nodes)]
                killed = {
                    "rows when a node was killed": count,
                    "workers of the nodes": workers,
                    "of the killed": workers_of(victims[0]),
                }
                cluster.remove_node(victims[0], allow_graceful=False)
            time.sleep(0.2)
    finally:
        cluster.shutdown()
    return {"exit code": process.returncode, **killed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--kind", default="nano")
    parser.add_argument("--endpoint")
    parser.add_argument("--out", type=Path, default=Path("runs/ray_nodes"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    pdfs = typeset(given.out, given.pages, given.kind)
    fake = Answers(0.05)
    url = given.endpoint or fake.url
    start = time.perf_counter()
    report = {"pages": len(pdfs), "nodes": 3, "workers": WORKERS}
    report |= read_with_a_kill(pdfs[0].parent, given.out / "ray", url, len(pdfs) // 3)
    report["seconds"], report["questions"] = round(time.perf_counter() - start), fake.asked
    if transcribe(pdfs[0].parent, given.out / "alone", url).wait() != 0:
        sys.exit("the job without Ray ended: see alone.log")
    alone = {(row["pdf"], row["page"]): row["text"] for row in rows(given.out / "alone")}
    whole = rows(given.out / "ray")
    keys = {(row["pdf"], row["page"]) for row in whole}
    same = sum(alone.get((row["pdf"], row["page"])) == row["text"] for row in whole)
    report |= {"rows": len(whole), "pages with a row": len(keys), "texts as without Ray": same}
    print(json.dumps(report, indent=2))
    sys.exit(not (len(whole) == len(keys) == same == len(pdfs) and report.get("of the killed", 0)))


if __name__ == "__main__":
    main()
