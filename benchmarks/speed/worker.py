"""One side of the comparison in a process of its own: cases as JSON on stdin, times and verdicts as JSON on stdout.

    python worker.py ours|olmocr < cases.json

Runs under any Python that has the side's package, and needs nothing else, so both sides are timed by the same lines.
Tests are built beforehand; a time is that of judging every page of a set once, and sets are judged several times.
Judging is timed in seconds of this process's CPU (one thread on both sides), so that other programs on the machine
count less; rendering formulas in seconds of the clock, because a browser is a process of its own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partialmethod
from importlib import import_module
from io import StringIO
from itertools import compress
from pathlib import Path
from typing import Any, Protocol

KINDS = {"tables": ("table",), "formula tests": ("math",)}  # every other type is text
WARM_UP = "a + b"
SHORTEST_ROUND_S = 0.2  # a small set is judged again and again


class Side(Protocol):
    def load(self, test: dict[str, Any]) -> Any: ...
    def judge(self, tests: Sequence[Any], text: str) -> list[bool]: ...
    def score_group(self, tests: Sequence[Any], texts: Sequence[str]) -> list[float]:
        """The share of tests that each of a page's transcripts passes."""
        ...

    def warm_up(self) -> None:
        """Start the engine that renders formulas."""
        ...

    def first_sight(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Render both formulas of every pair and compare them; one seen before in this call is not rendered again."""
        ...

    def seen(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """The same where `first_sight` has rendered everything."""
        ...


class Ours:
    def __init__(self) -> None:
        self.checks = import_module("ocr_rl.text.checks")
        self.formulas = import_module("ocr_rl.text.formulas")

    def load(self, test: dict[str, Any]) -> Any:
        return self.checks.load_check(test)

    def judge(self, tests: Sequence[Any], text: str) -> list[bool]:
        return [verdict.passed for verdict in self.checks.judge(tests, text)]

    def score_group(self, tests: Sequence[Any], texts: Sequence[str]) -> list[float]:
        contract, reward = import_module("ocr_rl.contract"), import_module("ocr_rl.rewards.pass_rate").PassRate()
        page = contract.Page(id="a:p1", pdf=Path("a.pdf"), number=1, checks=tests)
        group = [contract.Transcript(raw=text, body=text, finish="stop", num_tokens=1) for text in texts]
        return [score.value for score in reward(page, group)]

    def warm_up(self) -> None:
        self.formulas.prepare(WARM_UP)

    def first_sight(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        self.formulas.prepare.cache_clear()
        return self.seen(pairs)

    def seen(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        return [self.formulas.equal(*pair) for pair in pairs]


class Olmocr:
    """The public package. Its cache on disk is left alone: rendered formulas are kept in memory, which is faster."""

    def __init__(self) -> None:
        self.tests = import_module("olmocr.bench.tests")
        self.render = import_module("olmocr.bench.katex.render")
        self.rendered: dict[str, Any] = {}
        setattr(self.tests, "render_equation", self._rendered)  # noqa: B010

    def load(self, test: dict[str, Any]) -> Any:
        return self.tests.load_single_test(test)

    def judge(self, tests: Sequence[Any], text: str) -> list[bool]:
        return [self._passes(test, text) for test in tests]

    def score_group(self, tests: Sequence[Any], texts: Sequence[str]) -> list[float]:
        return [sum(self.judge(tests, text)) / len(tests) for text in texts]

    def _passes(self, test: Any, text: str) -> bool:
        try:
            return bool(test.run(text)[0])
        except Exception:  # as the public benchmark counts it
            return False

    def warm_up(self) -> None:
        self.render.render_equation(WARM_UP, use_cache=False)

    def first_sight(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        self.rendered = {}
        return self.seen(pairs)

    def seen(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        compare = self.render.compare_rendered_equations
        return [compare(self._rendered(reference), self._rendered(candidate)) for reference, candidate in pairs]

    def _rendered(self, tex: str) -> Any:
        if tex not in self.rendered:
            self.rendered[tex] = self.render.render_equation(tex, use_cache=False)
        return self.rendered[tex]

    def score(self, folder: str, candidate: str) -> str:
        """The last lines that its own benchmark prints."""
        sys.argv = ["benchmark", "--dir", folder, "--candidate", candidate, "--force"]
        said = StringIO()
        with redirect_stdout(said):
            import_module("olmocr.bench.benchmark").main()
        return said.getvalue().partition("Final Summary")[2].strip()


SIDES: dict[str, Callable[[], Side]] = {"ours": Ours, "olmocr": Olmocr}


def main() -> None:
    asked = json.load(sys.stdin)
    stdout, sys.stdout = sys.stdout, sys.stderr  # for good: only the answer goes there, and packages print
    if asked["browser"] and sys.argv[1] == "olmocr":
        use_browser(asked["browser"])
    side = SIDES[sys.argv[1]]()
    answer: dict[str, Any] = {}
    if asked["pairs"]:
        answer["formulas"] = compared(side, asked["pairs"], asked["rounds"])
    answer["pages"] = {name: judged(side, pages, asked["rounds"]) for name, pages in asked["pages"].items()}
    if asked["group"]:
        answer["group"] = scored(side, asked["group"], asked["rounds"])
    if asked["score"] and isinstance(side, Olmocr):
        answer["score"] = side.score(*asked["score"])
    json.dump(answer, stdout)


def judged(side: Side, pages: Sequence[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Per kind of test how many there are and the seconds of every round; the verdicts, page by page.

    Formula tests are judged once and not timed: `compared` times formulas.
    """
    kinds = [[kind_of(test) for test in page["tests"]] for page in pages]
    tests = [[side.load(test) for test in page["tests"]] for page in pages]
    verdicts: list[list[bool]] = [[False] * len(page) for page in kinds]
    timed = {}
    for kind in ("text types", *KINDS):
        chosen = [[found == kind for found in page] for page in kinds]
        work = [
            (number, list(compress(tests[number], page)), pages[number]["text"])
            for number, page in enumerate(chosen)
            if any(page)
        ]
        found = [side.judge(some, text) for _, some, text in work]  # which also warms up
        seconds = []
        for _ in range(0 if kind == "formula tests" else rounds):
            start, times = time.process_time(), 0
            while times == 0 or time.process_time() < start + SHORTEST_ROUND_S:
                for _, some, text in work:
                    side.judge(some, text)
                times += 1
            seconds.append((time.process_time() - start) / times)
        for (number, _, _), passed in zip(work, found, strict=True):
            places = compress(range(len(chosen[number])), chosen[number])
            for place, value in zip(places, passed, strict=True):
                verdicts[number][place] = value
        timed[kind] = {"tests": sum(map(sum, chosen)), "seconds": seconds}
    return {"timed": timed, "verdicts": verdicts}


def scored(side: Side, group: dict[str, Any], rounds: int) -> dict[str, Any]:
    """The reward of a group of transcripts, as training asks for it: seconds of CPU of every round."""
    tests = [side.load(test) for test in group["tests"]]
    values = side.score_group(tests, group["texts"])  # which also warms up
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        side.score_group(tests, group["texts"])
        seconds.append(time.process_time() - start)
    return {"transcripts": len(values), "tests": len(tests), "mean": sum(values) / len(values), "seconds": seconds}


def compared(side: Side, pairs: list[list[str]], rounds: int) -> dict[str, Any]:
    work = [(reference, candidate) for reference, candidate in pairs]
    side.warm_up()
    start = time.perf_counter()
    verdicts = side.first_sight(work)
    first = [time.perf_counter() - start]
    seen = []
    for _ in range(rounds):
        start = time.process_time()
        side.seen(work)
        seen.append(time.process_time() - start)
    formulas = len({tex for pair in work for tex in pair})
    return {"formulas": formulas, "pairs": len(work), "first": first, "seen": seen, "verdicts": verdicts}


def kind_of(test: dict[str, Any]) -> str:
    return next((kind for kind, types in KINDS.items() if test["type"] in types), "text types")


def use_browser(path: str) -> None:
    """Let Playwright start a Chromium that it did not download."""
    browser_type = import_module("playwright.sync_api").BrowserType
    browser_type.launch = partialmethod(browser_type.launch, executable_path=path)


if __name__ == "__main__":
    main()
