"""The parts by name, and their sizes: on a GPU, and on a CPU for a dry run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.gpu.attention import Heads, attention_kernels
from benchmarks.gpu.engine import gaps, vllm
from benchmarks.gpu.policies import Load
from benchmarks.gpu.tower import towers
from benchmarks.gpu.training import grpo, sft
from benchmarks.gpu.update import shared_pages, update_cases
from benchmarks.gpu.weights import weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much each part does."""

    load: Load = Load(groups=4, samples=8, completion=1000, longest_px=1288, micro_tokens=24576)
    group: Load = Load(groups=1, samples=8, completion=1000, longest_px=1288, micro_tokens=24576)
    shapes: tuple[str, ...] = ("3B", "7B")
    completions: tuple[int, ...] = (250, 500, 1000)
    rounds: int = 3
    heads: Heads = Heads(queries=28, keys=4, width=128)
    lengths: tuple[tuple[int, ...], ...] = ((1550, *[1000] * 8), (1550, *[700, 1400] * 4))
    pages: int = 8
    max_tokens: int = 256
    engine: str = "3B"
    grpo: Mapping[str, Any] = field(
        default_factory=lambda: {
            "policy": {"dtype": "bfloat16"},
            "save_every": 30,
            "grpo": {"steps": 30},
            "scoring": {"workers": 8},
        }
    )
    sft: Mapping[str, Any] = field(
        default_factory=lambda: {
            "policy": {"autocast": True},
            "optim": {
                "name": "muon",
                "lr": 1e-3,
                "adam_lr": 5e-4,
                "warmup": 20,
                "cooldown": 0.7,
                "micro_tokens": 32768,
            },
            "sft": {"stages": [{"pages_per_step": 128, "pages": {"synth": "nano", "n": 16000, "seed": 7}}]},
            "held_out": {"pages": {"synth": "nano", "n": 128, "seed": 1000}, "max_tokens": 512},
        }
    )
    sft_s: float = 300.0
    trial: int = 10
    longest: int = 100_000


_ONE_PAGE = {"synth": "nano", "n": 2, "seed": 1, "pages_per_document": 2}
DRY = Sizes(
    load=Load(groups=2, samples=2, completion=6, longest_px=112, micro_tokens=256),
    group=Load(groups=1, samples=3, completion=6, longest_px=112, micro_tokens=1024),
    shapes=("tiny",),
    completions=(6,),
    rounds=1,
    heads=Heads(queries=4, keys=2, width=16),
    lengths=((12, 5, 3), (7, 4)),
    pages=1,
    max_tokens=24,
    engine="nano",
    grpo={
        "policy": {"dtype": "bfloat16"},
        "sampling": {"engine": "transformers", "max_tokens": 24, "temperature": 2.0},
        "rewards": [{"name": "diff_ratio"}],  # so that samples differ, however short
        "gates": [],
        "grpo": {"steps": 1, "pages_per_step": 2, "samples_per_page": 4, "pages": _ONE_PAGE},
        "scoring": {"workers": 1, "audit": False},
        "evaluation": {"sets": {"new": _ONE_PAGE, "old": _ONE_PAGE}, "max_tokens": 8},
    },
    sft={
        "policy": {"autocast": True},
        "sft": {"stages": [{"pages_per_step": 2, "pages": _ONE_PAGE}]},
        "held_out": {"pages": _ONE_PAGE, "max_tokens": 8, "engine": "transformers"},
    },
    sft_s=1.0,
    trial=2,
    longest=1,
)

Part = Callable[[Sizes, Path], dict[str, Any]]  # (sizes, a folder to work in) -> figures


def _tests(sizes: Sizes, work: Path) -> dict[str, Any]:
    """The tests that need CUDA: counts, and the names of those that failed."""
    report = work / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "tests/cuda", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, f"--junitxml={report}"], capture_output=True, text=True)
    if not report.exists():
        raise RuntimeError(f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    failed = [case.get("name") for case in suite.iter("testcase") if {"failure", "error"} & {part.tag for part in case}]
    return {"tests": int(suite.get("tests", 0)), "skipped": int(suite.get("skipped", 0)), "failed": failed}


PARTS: dict[str, Part] = {
    "tests": _tests,
    "parity": lambda s, work: gaps(["float32", "bfloat16"], "transformers", pages=s.pages, max_tokens=s.max_tokens),
    "update": lambda s, work: update_cases(s.shapes, s.load, s.rounds, work),
    "shared_page": lambda s, work: shared_pages(s.shapes[0], s.group, s.completions, s.rounds, work),
    "attention": lambda s, work: attention_kernels(s.heads, s.lengths, 10 * s.rounds),
    "tower": lambda s, work: towers(s.shapes, s.group, 10 * s.rounds, work),
    "grpo": lambda s, work: grpo(s.grpo, work),
    "sft": lambda s, work: sft(s.sft, s.sft_s, s.trial, s.longest, work),
    "vllm": lambda s, work: vllm(
        s.engine, s.group, ["float32", "bfloat16"], pages=s.pages, max_tokens=s.max_tokens, work=work
    ),
    "weights": lambda s, work: weights(s.shapes[0], s.group, work),
}
