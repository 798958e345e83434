"""vLLM in this process. Importing it sets what vLLM reads when it is first imported."""

import os

# One process: the engine then sees our tensors without copies or sockets.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
