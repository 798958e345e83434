"""A recipe's text with other pages: its comments and order stay. Pure; knows nothing about what a recipe means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_HEADER = re.compile(r"\s*\[\[?\s*(?P<name>[\w.\-]+)\s*\]\]?\s*(#.*)?")
_INLINE_PAGES = re.compile(r"^(?P<key>\s*pages\s*=\s*)\{[^#]*\}(?P<rest>\s*(#.*)?)")


def with_pages(text: str, pages: Path, sets: Mapping[str, Path]) -> str:
    """The recipe with `pages` wherever it trained on some, and the evaluation `sets`; without sets, no evaluation."""
    top, sections = _sections(text.splitlines())
    lines = list(top)
    for name, section in sections:
        if name.split(".")[0] == "evaluation":
            lines += _evaluation(name, section, sets)
        elif name.split(".")[-1] == "pages":
            lines += [section[0], _source(pages), *_comments(section[1:])]
        else:
            lines += [_INLINE_PAGES.sub(lambda line: _inline(line, pages), line) for line in section]
    if sets and not any(name == "evaluation" for name, _ in sections):
        lines += ["", *_evaluation("evaluation", ["[evaluation]"], sets)]
    return "\n".join(lines).rstrip() + "\n"


def _sections(lines: Iterable[str]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """What stands before the first header, and (name, lines) of each section, its header first."""
    top: list[str] = []
    sections: list[tuple[str, list[str]]] = []
    for line in lines:
        if header := _HEADER.fullmatch(line):
            sections.append((header["name"], [line]))
        else:
            (sections[-1][1] if sections else top).append(line)
    return top, sections


def _evaluation(name: str, section: list[str], sets: Mapping[str, Path]) -> list[str]:
    """The section with these sets alone; nothing of it where there are none."""
    if not sets or name != "evaluation":
        return []
    kept = [line for line in section[1:] if not re.match(r"\s*sets\b", line)]
    return [section[0], *(f"sets.{part} = {{ {_source(folder)} }}" for part, folder in sets.items()), *kept]


def _inline(line: re.Match[str], pages: Path) -> str:
    return f"{line['key']}{{ {_source(pages)} }}{line['rest']}"


def _source(folder: Path) -> str:
    return f"dir = {json.dumps(folder.as_posix(), ensure_ascii=False)}"  # TOML writes strings as JSON does


def _comments(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if not line.strip() or line.lstrip().startswith("#")]
