"""Documents lead where they say: links, recipes that load, commands and options that the command line has."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from ocr_rl.config import parse_recipe

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "data/nano/README.md")
DOCUMENTS = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_COMMAND = re.compile(r"^ocr-rl +([a-z].*?)(?:  +#.*)?$")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(text: str) -> str:
    """The text without code, in which brackets are no links."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


@cache
def anchors(path: Path) -> frozenset[str]:
    """Of the headings, as GitHub makes them: small letters, marks dropped, spaces as hyphens, the second one `-1`."""
    seen: Counter[str] = Counter()
    names: set[str] = set()
    for line in re.findall(r"^#+ (.*)$", _FENCE.sub("", text_of(path)), re.MULTILINE):
        shown = re.sub(r"[`*\\]|\[([^]]*)\]\([^)]*\)", r"\1", line)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return frozenset(names)


def fault(document: Path, link: str) -> str | None:
    place, _, anchor = link.partition("#")
    target = document if not place else (document.parent / place).resolve()
    if not target.exists():
        return f"{link}: there is no {place}"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return f"{link}: no heading is called so"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_to_a_file_and_a_heading(document: Path) -> None:
    links = [link for link in _LINK.findall(prose(text_of(document))) if not link.startswith(("http://", "https://"))]
    faults = [wrong for link in links if (wrong := fault(document, link))]
    assert not faults, faults


def test_every_document_is_in_the_index() -> None:
    linked = set(_LINK.findall(prose(text_of(ROOT / "docs/README.md"))))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - linked == {"README.md"}


def recipes() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for language, block in _FENCE.findall(text_of(document)):
            if language == "toml" and "[policy]" in block:
                yield relative(document), block


def test_whole_recipes_load() -> None:
    whole = list(recipes())
    assert whole
    for document, block in whole:
        parse_recipe(tomllib.loads(block), [], document)


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_examples_are_python(document: Path) -> None:
    for language, block in _FENCE.findall(text_of(document)):
        if language == "python":
            ast.parse(block)


def commands() -> Iterator[tuple[str, str]]:
    """(document, command without its name) of the lines of code blocks that begin with ocr-rl."""
    for document in DOCUMENTS:
        for _, block in _FENCE.findall(text_of(document)):
            for line in block.replace("\\\n", " ").split("\n"):
                if command := _COMMAND.match(line.strip().removeprefix("$ ")):
                    yield relative(document), command[1]


@cache
def verbs() -> dict[str, frozenset[str]]:
    """The options of each verb, as docs/cli.md shows them."""
    parts = re.split(r"^## ocr-rl ?", text_of(ROOT / "docs/cli.md"), flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: frozenset(re.findall(r"^  (--[\w-]+)", part, re.MULTILINE)) for part in parts}


def test_commands_and_their_options_exist() -> None:
    faults = []
    for document, command in commands():
        words = command.split()
        verb = next((v for v in (" ".join(words[:2]), words[0]) if v in verbs()), None)
        options = {word.partition("=")[0] for word in words if word.startswith("--")} if verb else set()
        if verb is None or options - verbs()[verb]:
            faults.append(f"{document}: ocr-rl {command}")
    assert not faults, faults


def test_the_script_for_eight_cards_starts_servers_and_learners_that_fit(tmp_path: Path) -> None:
    """As bash runs it, with a vllm and a torchrun that write down what they are started with."""
    (script,) = [block for language, block in _FENCE.findall(text_of(ROOT / "docs/gpu.md")) if language == "bash"]
    for name in ("vllm", "torchrun"):
        called = tmp_path / "bin" / name
        called.parent.mkdir(exist_ok=True)
        wait = "exec sleep 600" if name == "vllm" else "sleep 1"
        called.write_text(f'#!/bin/bash\nprintf "%s\\n" "$CUDA_VISIBLE_DEVICES" "$@" > {tmp_path}/{name}.$$\n{wait}\n')
        called.chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "MODEL": "some/model", "RECIPE": "mine.toml"}
    subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, check=True, timeout=60)
    servers = sorted(path.read_text().splitlines() for path in tmp_path.glob("vllm.*"))
    (learner,) = (path.read_text().splitlines() for path in tmp_path.glob("torchrun.*"))
    cards = [card for args in (*servers, learner) for card in args[0].split(",")]
    assert sorted(cards) == [str(card) for card in range(8)] and len(learner[0].split(",")) == 6
    assert learner[1:7] == ["--nproc-per-node", "6", "-m", "ocr_rl.cli", "train", "mine.toml"]
    assert {arg for arg in learner[7:] if arg.startswith("--")} <= verbs()["train"]
    sets = [value for flag, value in pairwise(learner) if flag == "--set"]
    recipe = parse_recipe(tomllib.loads(text_of(ROOT / "ocr_rl/recipes/qwen2_5_vl_7b_grpo.toml")), sets, "mine.toml")
    assert recipe.policy.path == "some/model"
    ports = []
    for args in servers:
        assert args[1:3] == ["serve", "some/model"]
        said = dict(pairwise(args[3:]))
        ports.append(f"http://{said['--host']}:{said['--port']}")
        assert int(said["--max-model-len"]) >= recipe.sampling.max_model_len
        assert "--enable-lora" in args and int(said["--max-lora-rank"]) >= recipe.policy.lora_rank > 0
        assert not recipe.policy.lora_in_tower  # which needs one flag more
    assert recipe.sampling.url == tuple(ports)
