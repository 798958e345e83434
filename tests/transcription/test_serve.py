"""`serve`: the command that starts vLLM's server, its end, and the line that asks it."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from benchmarks.speed.serving import free_port
from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.models.settings import PromptSettings
from ocr_rl.transcription import serve
from ocr_rl.transcription.serve import Served, command, curl, running
from ocr_rl.transcription.show import _name

SETTINGS = PromptSettings(longest_px=280, instruction="", max_prompt_tokens=256, max_tokens=512)


def served(**other: object) -> Served:
    given = {"folder": "/m", "name": "mine", "settings": SETTINGS, "dtype": "float32", "on_gpu": False, **other}
    return Served(**given)  # type: ignore[arg-type]


def options(words: list[str]) -> dict[str, str]:
    return dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)


def test_the_server_gets_the_limits_of_the_policy() -> None:
    words = command(served(in_parts=False), host="127.0.0.1", port=8123)
    given = options(words)
    assert given["max-model-len"] == "768" and given["port"] == "8123" and given["served-model-name"] == "mine"
    assert json.loads(given["limit-mm-per-prompt"]) == {"image": {"count": 1, "width": 280, "height": 280}, "video": 0}
    # all prompts of a step fit into it: a seeded prompt that is read in parts ends vLLM's CPU engine
    assert int(given["max-num-seqs"]) * SETTINGS.max_prompt_tokens <= int(given["max-num-batched-tokens"])
    assert "--no-enable-chunked-prefill" in words and given["generation-config"] == "vllm"


def test_a_gpu_is_left_to_vllm() -> None:
    words = command(served(on_gpu=True, dtype="bfloat16"), host="h", port=1)
    assert "--enforce-eager" not in words and "max-num-seqs" not in options(words)


FAKE = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): ...
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def test_it_is_waited_for_and_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_POLL_S", 0.05)
    port = free_port()
    with running([sys.executable, "-c", FAKE, str(port)], host="0.0.0.0", port=port) as (url, log, process):
        assert url == f"http://127.0.0.1:{port}/v1" and log.exists()
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
    assert process.poll() is not None


def test_a_server_that_ends_first_is_one_sentence() -> None:
    words = [sys.executable, "-c", "import sys; print('ValueError: no such model', file=sys.stderr); sys.exit(1)"]
    with (
        pytest.raises(UserError, match="ended before it answered: ValueError: no such model"),
        running(words, host="127.0.0.1", port=free_port()),
    ):
        pass


@pytest.mark.parametrize("instruction", ["", 'Read "it", 100 %, it\'s \\(x\\)\nnow \\n'])
def test_the_line_for_a_shell_asks_what_a_client_asks(instruction: str, tmp_path: Path) -> None:
    (tmp_path / "page.png").write_bytes(b"\x89PNG" * 100)
    settings = PromptSettings(longest_px=280, instruction=instruction, max_tokens=512)
    line = curl("http://h/v1", "mine", settings)
    pipe, _, ask = line.rpartition(" | curl ")
    assert shlex.split(ask)[0] == "http://h/v1/chat/completions"
    body = json.loads(subprocess.run(["sh", "-c", pipe], cwd=tmp_path, capture_output=True, check=True).stdout)
    parts = body["messages"][0]["content"]
    assert [part["text"] for part in parts if part["type"] == "text"] == ([instruction] if instruction else [])
    assert parts[-1]["image_url"]["url"].startswith("data:image/png;base64,iVBORw") or "iVBO" in str(parts[-1])
    assert body["model"] == "mine" and body["max_tokens"] == 512


def test_a_checkpoint_is_called_after_its_run(tmp_path: Path) -> None:
    folder = tmp_path / "runs/mine/ckpt/000040/model"
    folder.mkdir(parents=True)
    assert _name(str(folder)) == "mine" and _name(str(tmp_path / "runs/mine")) == "mine" and _name("nano") == "nano"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "name a run or a model, or with --endpoint"),
        ("nano --endpoint http://h --web", "name a run or a model, or with --endpoint"),
        ("--endpoint http://h", "--endpoint is for --web"),
        ("./nothere", "./nothere: there is no such folder"),
        ("nano --preset olm", "'olm' is no known model"),
        ("nano --web --data nothere", "--data nothere: there is no such folder"),
        ("--endpoint http://127.0.0.1:9 --web", "cannot be reached"),
    ],
)
def test_wrong_words_are_one_sentence(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *words.split()]) == 2
    sentence = capsys.readouterr().err.strip()
    assert says in sentence and "\n" not in sentence


def test_a_port_that_somebody_listens_at_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        block = running(["false"], host="127.0.0.1", port=port)
        with pytest.raises(UserError, match=rf"port {port}: cannot be used \(Address already in use\)"), block:
            pass
