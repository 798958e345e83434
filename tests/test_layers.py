"""The rules of the house, read off the import statements: who may import whom, and who may need a GPU stack."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# In the order in which a page passes through them: each imports only itself and what stands before it.
WINGS = (
    "contract",
    "outputs",
    "file_kinds",
    "extras",
    "files",
    "local_web",
    "text",
    "plugins",
    "track",
    "torchvision_shim",
    "objectives",
    "config",
    "run",
    "pages",
    "models",
    "rollout",
    "learn",
    "policy",
    "evaluate",
    "transcription",
    "review",
    "api",
    "interop",
    "train",
    "study",
    "look",
    "doctor",
    "scale",
    "cli",
)
BY_NAME = ("rewards", "engines")  # plug-ins: found by entry point, and imported by nobody
TORCH = (
    "ocr_rl/learn/*",
    "ocr_rl/torchvision_shim.py",
    "ocr_rl/models/*",
    "ocr_rl/rollout/sampler/hf.py",
    "ocr_rl/rollout/sampler/vllm*",
)
# The second one gives vLLM's CPU build what it lacks for a family; that family's file imports it for an engine alone.
VLLM = ("ocr_rl/rollout/sampler/vllm/*", "ocr_rl/models/families/qwen3_5_cpu.py")
NEEDS_TORCH = {"torch", "transformers", "peft", "safetensors", "tokenizers", "torchvision", "accelerate"}
# What names the tools without importing a policy: the prompt reads the processor, `doctor` tries the tools out.
MAY_NAME = {"ocr_rl/rollout/prompt.py": {"transformers"}, "ocr_rl/doctor.py": {"torch", "transformers"}}
# Losses use torch when they are called, not when a recipe reads their names.
MAY_NAME |= {f"ocr_rl/objectives/{name}.py": {"torch"} for name in ("losses", "scalar_losses")}
# The folder rewards is imported as ocr_rl.rewards, which is a link to it.
FILES = sorted(
    path
    for name in ("ocr_rl", "rewards", "benchmarks")
    for path in (ROOT / name).rglob("*.py")
    if not path.is_relative_to(ROOT / "ocr_rl" / "rewards")
)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("ocr_rl", *parts) if parts[0] == "rewards" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in FILES}


@cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """(module, is it imported when the file is) of each import; those for type checkers alone are left out."""
    return tuple(_imports(ast.parse(path.read_text(encoding="utf-8")), at_once=True))


def _imports(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                yield from ((alias.name, at_once) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0, "imports are absolute"
                # `from ocr_rl import config` imports the module ocr_rl.config.
                whole = [f"{module}.{alias.name}" for alias in names]
                yield from ((name if name in MODULES else str(module), at_once) for name in whole)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from _imports(child, at_once=False)
            case _:
                yield from _imports(child, at_once)


def wing(module: str) -> str:
    return module.split(".")[1]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def own(package: str) -> list[Path]:
    return [path for path in FILES if name_of(path).startswith(f"{package}.")]


def matches(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(relative(path), pattern) for pattern in patterns)


def test_every_file_belongs_to_a_wing() -> None:
    assert {wing(name_of(path)) for path in own("ocr_rl")} <= {*WINGS, "recipes", *BY_NAME}


@pytest.mark.parametrize("path", [path for path in own("ocr_rl") if wing(name_of(path)) not in BY_NAME], ids=relative)
def test_a_wing_imports_only_itself_and_those_before_it(path: Path) -> None:
    here = wing(name_of(path))
    later = set(WINGS[WINGS.index(here) + 1 :]) if here in WINGS else set(WINGS)
    found = {module for module, _ in imports(path) if module.startswith("ocr_rl.") and wing(module) in later}
    assert not found, f"{relative(path)} imports {sorted(found)}"


def test_no_file_imports_itself_round_a_corner() -> None:
    # Imports inside functions count too: order, not mere luck of what is loaded first.
    graph = {name_of(path): {module for module, _ in imports(path) if module in MODULES} for path in FILES}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", [path for name in BY_NAME for path in own(f"ocr_rl.{name}")], ids=relative)
def test_rewards_and_engines_know_only_the_contract_and_the_text_functions(path: Path) -> None:
    inside = {
        module for module, _ in imports(path) if module.split(".")[0] in ("ocr_rl", "benchmarks", "data", "tests")
    }
    assert all(module == "ocr_rl.contract" or module.split(".")[:2] == ["ocr_rl", "text"] for module in inside), inside


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_nobody_imports_what_is_found_by_name(path: Path) -> None:
    tops = {module.split(".")[0] for module, _ in imports(path)}
    if not relative(path).startswith("benchmarks/"):
        rooms = {tuple(module.split(".")[:2]) for module, _ in imports(path)} - {tuple(name_of(path).split(".")[:2])}
        assert not rooms & {("ocr_rl", name) for name in BY_NAME}, "plug-ins are found through entry points"
        assert "benchmarks" not in tops
    assert not tops & {"data", "tests", "rewards"}


@pytest.mark.parametrize("path", own("ocr_rl"), ids=relative)
def test_a_gpu_stack_is_needed_only_where_policies_are(path: Path) -> None:
    tops = {module.split(".")[0] for module, _ in imports(path)}
    if not matches(path, VLLM):
        assert "vllm" not in tops
    if not matches(path, TORCH):
        assert tops & NEEDS_TORCH <= MAY_NAME.get(relative(path), set())


def test_scoring_and_reports_load_without_torch() -> None:
    """Followed through the imports at the top of files: what must work in an installation without the extras."""
    graph = {name_of(path): {module for module, at_once in imports(path) if at_once} for path in FILES}
    light = (
        "files",
        "text",
        "plugins",
        "objectives",
        "config",
        "run",
        "pages",
        "rollout.scoring",
        "rollout.prompt",
        "api",
        "interop",
        "look",
        "cli",
    )
    light += ("rollout.collect", "rollout.compare", "rollout.describe", "rollout.reward_pool")
    light += tuple(
        f"evaluate.{name}" for name in ("results", "figures", "stats", "tables", "view", "report", "score", "bench")
    )
    light += tuple(f"scale.{name}" for name in ("parts", "load", "step", "advice", "runs", "measured", "sheet", "plan"))
    light_wings = tuple(f"ocr_rl.{name}." for name in ("rewards", *light))
    todo = [module for module in MODULES if f"{module}.".startswith(light_wings)]
    reached = {module: module for module in todo}  # -> the chain of imports that led there
    while todo:
        here = todo.pop()
        for module in graph.get(here, set()) - set(reached):
            reached[module] = f"{reached[here]} -> {module}"
            todo.append(module)
    heavy = [chain for module, chain in reached.items() if module.split(".")[0] in NEEDS_TORCH | {"vllm"}]
    assert not heavy, heavy


def test_the_contract_needs_nothing_but_python() -> None:
    tops = {module.split(".")[0] for module, _ in imports(ROOT / "ocr_rl/contract.py")}
    assert tops <= {"__future__", "collections", "dataclasses", "functools", "pathlib", "typing"}
