"""Makes a CUDA build of torchvision importable beside CPU torch, for whoever imports transformers' image code.

The PyPI builds of torchvision are CUDA builds. Beside CPU torch their native library does not load, and then every
import of torchvision dies with "operator torchvision::nms does not exist", because it attaches Python fallbacks to
operators that only the library declares. Declaring the two schemas is enough: nothing here ever calls them. It knows
nothing about models or samplers.

This must happen before torchvision is first imported. In this process `declare_in_time` sees to it, whoever imports it
and no sooner: torch is not loaded for it. Processes that vLLM starts for us call `declare` through an entry point of
group `vllm.platform_plugins`: the only one that vLLM calls early enough (its general plugins come after that import).
vLLM calls that entry point in everybody's processes, so it declares nothing unless the environment holds ASKED.
`declare` sets it for the processes that this one starts; whoever starts a server sets it there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

ASKED = "OCR_RL_TORCHVISION_SHIM"  # an environment variable: "1" where vLLM's processes are to call `declare`
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_NAMES = ("nms", "qnms")


def declare() -> None:
    """Declare the missing operators. Does nothing where torchvision is absent or works, nor a second time."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or importlib.util.find_spec("torch") is None:
        return
    import torch

    if hasattr(torch.ops.torchvision, "nms") or _loads(Path(spec.origin).parent):
        return
    for name in _NAMES:
        torch.library.define(f"torchvision::{name}", _SCHEMA)
    os.environ[ASKED] = "1"


def declare_in_time() -> None:
    """Have the operators declared just before this process looks for torchvision."""
    if "torchvision" not in sys.modules and not any(isinstance(finder, _InTime) for finder in sys.meta_path):
        sys.meta_path.insert(0, _InTime())


class _InTime(MetaPathFinder):
    """Finds nothing: it notices that torchvision is looked for, once."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            declare()


def declare_where_asked() -> None:
    """vLLM's entry point: `declare` in a process that this project started, nothing in anybody else's.

    Returns None: this is no platform.
    """
    if os.environ.get(ASKED) == "1":
        declare()


def _loads(package: Path) -> bool:
    """Whether torchvision's native library loads (it then declares its operators itself, now rather than later)."""
    import torch

    libraries = [*package.glob("_C*.so"), *package.glob("_C*.pyd")]
    try:
        for library in libraries:
            torch.ops.load_library(str(library))
    except (ImportError, OSError):
        return False
    return bool(libraries) and hasattr(torch.ops.torchvision, "nms")
