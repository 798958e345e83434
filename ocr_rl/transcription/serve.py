"""`ocr-rl serve`: vLLM's own server for a policy, with the limits that its settings ask for.

The server is a process of its own, whose words go to a file. Whoever asks it over HTTP asks as the policy's
`ocr_rl.json` says; `transcribe --endpoint` finds that out by itself. Imports nothing of vLLM.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocr_rl.contract import UserError
from ocr_rl.evaluate.chat import turn
from ocr_rl.models.settings import PromptSettings
from ocr_rl.torchvision_shim import ASKED

START_S = 900.0  # a large model is read from a slow disk
_POLL_S = 0.5
_SIDE_BY_SIDE = 64  # pages that the engine reads at once
_PROMPT_TOKENS_ON_CPU = 16_384  # of all prompts of a step: a seeded prompt that is read in parts ends vLLM's CPU engine
_END_S = 20.0
_HERE = "<page.png>"  # no instruction says this


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A policy to be served."""

    folder: str
    name: str  # as the server calls it
    settings: PromptSettings
    dtype: str
    on_gpu: bool
    in_parts: bool = True  # whether prompts may be read so
    template: Mapping[str, Any] = field(default_factory=dict)  # what its chat template is told


def command(served: Served, *, host: str, port: int) -> list[str]:
    """What starts the server: room for the longest page and transcript, one image of the policy's size a question."""
    settings = served.settings
    longest = settings.max_prompt_tokens + settings.max_tokens
    side = {"count": 1, "width": settings.longest_px, "height": settings.longest_px}
    words = {
        "model": served.folder,
        "served-model-name": served.name,
        "host": host,
        "port": str(port),
        "dtype": served.dtype,
        "max-model-len": str(longest),
        "limit-mm-per-prompt": json.dumps({"image": side, "video": 0}),
        "generation-config": "vllm",  # not the checkpoint's: it may hold a repetition penalty
    }
    if not served.on_gpu:
        at_once = max(1, min(_SIDE_BY_SIDE, _PROMPT_TOKENS_ON_CPU // settings.max_prompt_tokens))
        words["max-num-seqs"] = str(at_once)
        words["max-num-batched-tokens"] = str(max(longest, _PROMPT_TOKENS_ON_CPU))
    if served.template:
        words["default-chat-template-kwargs"] = json.dumps(dict(served.template))
    flags = [] if served.on_gpu else ["--enforce-eager"]
    flags.append("--enable-chunked-prefill" if served.in_parts else "--no-enable-chunked-prefill")
    options = [f"--{name}={value}" for name, value in words.items()]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options, *flags]


@contextmanager
def running(words: list[str], *, host: str, port: int) -> Iterator[tuple[str, Path, subprocess.Popen[bytes]]]:
    """The server's address, the file of its words and its process, once it answers; it ends with the block.

    UserError where it ends by itself first, with its last words.
    """
    _require_free(host, port)
    signal.signal(signal.SIGTERM, _stop)  # else the server would stay behind
    log = Path(tempfile.mkstemp(prefix="ocr-rl-serve-", suffix=".log")[1])
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", **os.environ, ASKED: "1"}
    with log.open("wb") as lines:
        process = subprocess.Popen(words, stdout=lines, stderr=lines, env=environment)
    try:
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 it is compared, not bound
        url = f"http://{shown}:{port}"
        _wait(process, url, log)
        yield f"{url}/v1", log, process
    finally:
        _end(process)


def _require_free(host: str, port: int) -> None:
    """UserError for a port that somebody listens at: his server would pass for ours while ours starts and fails."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise UserError(f"serve: {host}, port {port}: cannot be used ({reason}); give another --port.") from None


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise UserError(f"serve: vLLM's server ended before it answered: {_last_words(log)} (all of it: {log}).")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(_POLL_S)
    raise UserError(f"serve: vLLM's server did not answer within {START_S:g} s; its words are in {log}.")


def _last_words(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    errors = [line for line in lines if "Error" in line] or lines[-1:]
    return (errors[-1].strip()[:300] if errors else "without a word").rstrip(".")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _stop(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def curl(url: str, name: str, settings: PromptSettings) -> str:
    """A line for a shell that asks about page.png; base64 goes through a pipe, for which no image is too long."""
    messages = turn(settings.instruction, _HERE, image_first=settings.image_first)
    body = {"model": name, "temperature": 0, "max_tokens": settings.max_tokens, "messages": messages}
    question = json.dumps(body)
    before, after = (_quoted(part) for part in question.split(_HERE))
    ask = f"curl {url}/chat/completions -H 'Content-Type: application/json' -d @-"
    return f"(printf {before}; base64 page.png | tr -d '\\n'; printf {after}) | {ask}"


def _quoted(text: str) -> str:
    """As a shell hands it to printf, which reads backslashes and per cent signs."""
    return shlex.quote(text.replace("\\", "\\\\").replace("%", "%%"))
