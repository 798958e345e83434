"""A stand-in for vLLM's server: the same paths and answers over real sockets, and whatever fault a test orders."""

from __future__ import annotations

import base64
import io
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open

from ocr_rl.rollout.prompt import Prompter

LOGPROB = -0.5


class FakeVllm:
    """Samples are scripted: what they say depends on the seed, the sibling and the weights that were read last."""

    def __init__(self, prompter: Prompter) -> None:
        self.prompter = prompter
        self.version, self.loaded = "default", "start"  # a sum over the weights that were read
        self.calls: list[str] = []
        self.seeds: list[int] = []  # of the pages that it was asked for, answered or not
        self.faults: list[str] = []  # one for each answer to come, "" for none
        self.raw_logprobs = False
        self.max_model_len = 256
        self.missing: set[str] = set()  # paths that a server started without the right flags lacks
        self.lora: dict[str, Any] = {"max_lora_rank": 8, "enable_tower_connector_lora": True}
        self.adapters: dict[str, str] = {}  # sums over the adapters that are loaded, by name
        self.transfer: str | None = None  # the backend that it was started with
        self.transfer_fault = ""  # "refuses", "hangs" or "rounds" what is sent
        self.sent: dict[str, list[Any]] = {}  # bodies of the calls that a transfer makes, by path
        self._lock = threading.Lock()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._http = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self.version, self.loaded, self.adapters = "default", "start", {}

    def restart_after(self, seconds: float) -> None:
        self.stop()
        threading.Timer(seconds, self.start).start()

    def fault(self) -> str:
        with self._lock:
            return self.faults.pop(0) if self.faults else ""

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/collective_rpc":
            assert body["method"] == "reload_weights"
            self.loaded = _sum(body["kwargs"]["weights_path"])
        if path in ("/init_weight_transfer_engine", "/start_weight_update", "/update_weights", "/finish_weight_update"):
            self.sent.setdefault(path, []).append(body)
            self._receive(path, body)
        if path == "/update_weight_version":
            self.version = body["new_version"]
        if path == "/v1/load_lora_adapter":
            assert json.loads(Path(body["lora_path"], "adapter_config.json").read_text())["r"] <= 8
            self.adapters[body["lora_name"]] = _sum(body["lora_path"], "adapter_model")
        if path == "/v1/unload_lora_adapter":
            del self.adapters[body["lora_name"]]
        names = ["base", *self.adapters]
        return {
            "/server_info": {
                "vllm_config": {
                    "lora_config": self.lora,
                    "weight_transfer_config": self.transfer and {"backend": self.transfer},
                }
            },
            "/weight_checker": {"checksums": {"all": self.loaded}},
            "/get_world_size": {"world_size": 2},
            "/weight_info": {"weight_version": self.version},
            "/v1/models": {"data": [{"id": name, "max_model_len": self.max_model_len} for name in names]},
            "/reset_prefix_cache": {"success": True},
        }.get(path, {})

    def _receive(self, path: str, body: dict[str, Any]) -> None:
        """Pieces that are named by a file, as `tests.contracts.by_shared_memory` sends them."""
        if path == "/start_weight_update":
            self._pieces: dict[str, Any] = {}
        if path == "/update_weights" and "path" in body["update_info"]:
            if self.transfer_fault == "hangs":
                time.sleep(2)
            self._pieces |= torch.load(body["update_info"]["path"], weights_only=True)
        if path == "/finish_weight_update":
            total = sum(float(weight.double().sum()) for weight in self._pieces.values())
            self.loaded = f"{total + (self.transfer_fault == 'rounds'):.3f}"

    def write(self, body: dict[str, Any]) -> dict[str, Any]:
        how, prompter = body["sampling_params"], self.prompter
        if "allowed_token_ids" in how:
            logprob = LOGPROB if self.raw_logprobs else 0.0
            return {"choices": [self.choice(0, how["allowed_token_ids"], logprob)]}
        png = base64.b64decode(body["content_parts"][0]["url"].removeprefix("data:image/png;base64,"))
        image = Image.open(io.BytesIO(png))
        loaded = self.loaded + (f" with {self.adapters[body['model']]}" if "model" in body else "")
        choices = []
        for k in range(how["n"]):
            said = f"{how['seed'] % 1000} {k} {loaded} " if how["temperature"] else f"greedy {loaded}"
            ids = (*prompter.encode(said), prompter.eos_id)[: how["max_tokens"]]
            choices.append(self.choice(k, list(ids), LOGPROB))
        return {"prompt_token_ids": list(prompter.expand(prompter.num_image_tokens(image))), "choices": choices}

    def choice(self, index: int, ids: list[int], logprob: float) -> dict[str, Any]:
        return {
            "index": index,
            "token_ids": ids,
            "finish_reason": "stop" if ids[-1] == self.prompter.eos_id else "length",
            "logprobs": {"content": [{"token_id": each, "logprob": logprob} for each in ids]},
            "weight_versions": [{"version": self.version, "start": 0, "end": len(ids)}],
        }


def _sum(path: str, name: str = "model") -> str:
    with safe_open(f"{path}/{name}.safetensors", "pt") as file:
        return f"{sum(float(file.get_tensor(name).double().sum()) for name in file.keys()):.3f}"  # noqa: SIM118


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silence: whoever asked has given the answer up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


FAULTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "wrong prompt": lambda answer: answer["prompt_token_ids"].append(1),
    "one sample less": lambda answer: answer["choices"].pop(),
    "half the log-probabilities": lambda answer: answer["choices"][0]["logprobs"]["content"].pop(),
    "aborted": lambda answer: answer["choices"][0].update(finish_reason="abort"),
    "old weights": lambda answer: answer["choices"][0]["weight_versions"][0].update(version="default"),
}


def _handler(fake: FakeVllm) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            fake.calls.append(path)
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if len(raw) < int(self.headers.get("Content-Length", 0)):
                return self.hang_up()  # whoever asked has given it up
            body = json.loads(raw) if raw else {}
            if path == "/update_weights" and fake.transfer_fault == "refuses":
                return self.say(500, b"CUDA error: invalid device context")
            if path in fake.missing:
                return self.say(404, b"{}")
            if path.endswith("_lora_adapter"):
                fake.answer(path, body)
                return self.say(200, b"Success: a sentence, no JSON")
            if body.get("model", "base") not in ("base", *fake.adapters):
                return self.say(404, b"The model `x` does not exist.")
            if path != "/inference/v1/generate":
                return self.say(200, json.dumps(fake.answer(path, body)).encode())
            if "content_parts" in body:
                fake.seeds.append(body["sampling_params"]["seed"])
            fault = fake.fault() if "content_parts" in body else ""
            if fault == "dies":
                fake.restart_after(0.2)
                return self.hang_up()
            if fault == "slow":
                time.sleep(2)
            if fault == "error":
                return self.say(500, b"EngineDeadError")
            answer = fake.write(body)
            FAULTS.get(fault, lambda answer: None)(answer)
            self.say(200, json.dumps(answer).encode(), half=fault == "half an answer")

        def say(self, status: int, content: bytes, *, half: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if half else content)

        def hang_up(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *said: Any) -> None:
            pass

    return Handler
