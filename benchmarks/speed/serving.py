"""vLLM's own server on this machine, for benchmarks: started on a free port, on chosen cores, killed and started again.

Of vLLM's CPU build; it reads the policy of a folder, in float32. Each server leads a session of its own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FLAGS = (
    "--dtype float32 --enable-scale-out --logprobs-mode processed_logprobs --generation-config vllm --enforce-eager "
    "--no-enable-chunked-prefill"
)
SETTINGS = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
}


def free_port() -> int:
    """Of this machine, for somebody who takes it soon."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class ServerProcess:
    """One `vllm serve`. `cores`: those that all its processes may use, with as many threads."""

    def __init__(
        self,
        model: Path,
        log: Path,
        *,
        cores: Sequence[int],
        max_model_len: int,
        max_num_seqs: int = 256,
        cache_gib: float = 1.0,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        lengths = f"--max-model-len {max_model_len} --max-num-batched-tokens {max(16384, max_model_len)}"
        sizes = f"{lengths} --max-num-seqs {max_num_seqs} --kv-cache-memory-bytes {int(cache_gib * 2**30)}"
        words = f"--model {model} --host 127.0.0.1 --port {self.port} {FLAGS} {sizes}"
        server = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words.split()]
        self._argv = ["taskset", "-c", ",".join(map(str, cores)), *server]
        self._env = {**os.environ, **SETTINGS, "OMP_NUM_THREADS": str(len(cores))}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, env=self._env, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        """SIGKILL to all its processes, and wait for the end of the first."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self) -> ServerProcess:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # else the server would stay behind
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
