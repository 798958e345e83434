"""Seeds and sampling settings, and torchvision beside CPU torch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from ocr_rl.rollout.sampler.base import Sampling, seed_for

ROOT = Path(__file__).parents[2]
SHIM = ROOT / "ocr_rl" / "torchvision_shim.py"


def test_seeds_differ_with_every_part_of_the_key_and_never_overlap_between_siblings() -> None:
    keys = [(run, step, f"d:p{page}") for run in range(4) for step in range(25) for page in range(10)]
    seeds = sorted(seed_for(*key) for key in keys)
    assert seeds[0] >= 0 and seeds[-1] < 2**62
    assert min(b - a for a, b in pairwise(seeds)) > 1000  # sibling k gets seed + k


def test_a_seed_is_the_same_on_every_machine_and_run() -> None:
    assert seed_for(1, 2, "0a1b2c3d:p3") == 3157197209091188409
    assert seed_for("1", 2) != seed_for(1, 2)


@pytest.mark.parametrize(
    "wrong",
    [{"n": 0}, {"max_tokens": 0}, {"temperature": -1.0}, {"temperature": 0.001}, {"n": 2, "temperature": 0}],
)
def test_senseless_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**{"max_tokens": 1, **wrong})


def test_a_page_limit_is_never_above_max_tokens() -> None:
    how = Sampling(max_tokens=9, page_limits={"a": 3, "b": 30})
    assert [how.limit(page) for page in "abc"] == [3, 9, 9]


def test_torchvision_can_be_imported_after_declare_called_twice() -> None:
    if importlib.util.find_spec("torchvision") is None or importlib.util.find_spec("torch") is None:
        pytest.skip("torchvision is not installed")
    code = (
        "from ocr_rl.torchvision_shim import declare\n"
        "assert declare() is None and declare() is None\n"
        "import torchvision, torch\n"
        "from transformers import Qwen2VLVideoProcessor\n"
        "print(hasattr(torch.ops.torchvision, 'nms'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "True", done.stderr


def test_declare_does_nothing_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    from ocr_rl import torchvision_shim

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of torch would fail
    torchvision_shim.declare()


def test_declare_leaves_a_torchvision_that_loads_alone() -> None:
    if importlib.util.find_spec("torchvision") is None or importlib.util.find_spec("torch") is None:
        pytest.skip("torchvision is not installed")
    code = (
        "import importlib.util\n"  # by its path: importing its package would declare already
        f"spec = importlib.util.spec_from_file_location('shim', {str(SHIM)!r})\n"
        "shim = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(shim)\n"
        "shim._loads = lambda package: True\n"
        "shim.declare()\n"
        "import torch\n"
        "print(hasattr(torch.ops.torchvision, 'nms'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stderr
