"""The results in docs/gpu.md, written from the parts' JSON files between two marks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"
BEGIN = "<!-- results: written by python -m benchmarks.gpu -->"
END = "<!-- end of results -->"
NONE = "No part has run on a GPU yet: nothing on this page, nor elsewhere about CUDA, is measured."
Result = Mapping[str, Any]


def read_results(folder: Path, *, device: str | None = None) -> dict[str, Result]:
    """The parts' answers by name; with `device`, those that were measured there, or failed.

    What is no answer (that could be shown) is as good as not there: it is run again.
    """
    answers = {name: answer for name in TEXTS if (answer := _answer(name, folder / f"{name}.json"))}
    return {name: answer for name, answer in answers.items() if device in (None, answer.get("device", device))}


def measured(folder: Path) -> dict[str, Result]:
    """The answers but for those of a dry run."""
    return {name: answer for name, answer in read_results(folder).items() if answer.get("device") != "cpu"}


def _answer(name: str, path: Path) -> Result | None:
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
        _part(name, answer)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        return None
    return answer


def is_done(answer: Result) -> bool:
    """Whether a part need not be run again; one that lacked something may have it next time."""
    return stands(answer) and "not_run" not in answer["result"]


def stands(answer: Result) -> bool:
    """Whether a part ran, and what it asks holds: its tests, its bounds, the same answers on both ways."""
    result = answer.get("result", {})
    asked = (result.get(name, True) for name in ("holds", "same", "proven", "same_after_sleep"))
    return "failed" not in answer and not result.get("failed") and all(asked)


def write_page(folder: Path, page: Path = PAGE) -> None:
    """Replace what stands between the marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{results_text(measured(folder))}\n\n{END}{after}", encoding="utf-8")


def results_text(results: Mapping[str, Result]) -> str:
    """One paragraph or table a part, with the device and the date."""
    if not results:
        return NONE
    return "\n\n".join(_part(name, result) for name, result in results.items())


def _part(name: str, answer: Result) -> str:
    date = answer["environment"]["date"][:10]
    if "failed" in answer:
        return f"**{name}** failed on {date}: `{answer['failed'].replace('`', '')}`"
    packages = answer["environment"]["packages"]
    versions = ", ".join(
        f"{package} {packages[package]}" for package in ("torch", "transformers") if package in packages
    )
    head = f"**{name}** ({answer['device']}, {versions}, {date}, {answer['took_s']:.0f} s)"
    result = answer["result"]
    if "not_run" in result:
        return f"{head}: not run, {result['not_run']}."
    return f"{head}\n\n{TEXTS[name](result)}"


def _tests(result: Result) -> str:
    failed = ", ".join(result["failed"]) or "none"
    return f"{result['tests']} tests, {result['skipped']} skipped; failed: {failed}."


def _gaps(result: Result) -> str:
    return "\n".join(f"- {'holds' if case['holds'] else '**fails**'}: {case['text']}" for case in result["cases"])


def _update(result: Result) -> str:
    load = result["load"]
    note = (
        f"{load['groups']} pages of {load['longest_px']} px, {load['samples']} samples of {load['completion']} tokens "
        "each; the share is of the bf16 peak, without what is computed twice."
    )
    rows = []
    for case in result["cases"]:
        what = f"{case['shape']}, {'all weights' if case['trained'] == 'all' else 'LoRA'}"
        plan = f"{case['plan_gib']:.1f}"
        if "not_measured" in case:
            rows.append([what, f"not measured: {case['not_measured']}", "", "", "", plan])
        else:
            rate, share = f"{case['tokens_a_second']:,.0f}", _share(case["share_of_peak"])
            peak = "" if case["peak_gib"] is None else f"{case['peak_gib']:.1f}"
            rows.append([what, f"{case['seconds']:.2f}", rate, share, peak, plan])
    names = ["policy", "seconds", "tokens a second", "share of peak", "peak GiB", "plan GiB"]
    return f"{_table(names, rows)}\n\n{note}"


def _shared(result: Result) -> str:
    rows = []
    for case in result["cases"]:
        tokens = [f"{case['page']}", f"{case['completion']}"]
        rows.append([*tokens, f"{case['shared']:.3f}", f"{case['apart']:.3f}", f"{case['ratio']:.2f}"])
    table = _table(["page's tokens", "tokens a sample", "shared, s", "apart, s", "ratio"], rows)
    return f"{table}\n\nShape {result['shape']}, {result['load']['samples']} samples of one page, forward and backward."


def _attention(result: Result) -> str:
    rows = [
        [case["kernel"], f"not measured: {case['not_measured']}", "", ""]
        if "not_measured" in case
        else [
            case["kernel"],
            f"{1000 * case['seconds']:.2f}",
            f"{case['distance']:.1e}",
            f"{case['memory_mib'] or 0:.0f}",
        ]
        for case in result["cases"]
    ]
    return _table(["kernel", "ms, forward and backward", "distance from float32", "MiB beside its input"], rows)


def _tower(result: Result) -> str:
    rows = [
        [
            f"{case['shape']}, {case['way']}",
            f"{case['patches']}",
            f"{1000 * case['seconds']:.1f}",
            f"{case['distance']:.1e}",
            f"{case['memory_mib'] or 0:.0f}",
        ]
        for case in result["cases"]
    ]
    return _table(["tower", "patches", "ms, forward and backward", "distance from float32", "MiB beside it"], rows)


def _weights(result: Result) -> str:
    seconds = lambda way: ", ".join(f"{s:.2f}" for s in result[f"{way}_s"])
    same = "the same" if result["same"] and result["proven"] else "**not the same**"
    return (
        f"Shape {result['shape']}, {result['gib']:.1f} GiB: loads by a file {seconds('file')} s, by "
        f"{result['backend']} {seconds(result['backend'])} s (the first with the proof); what came is {same}."
    )


def _grpo(result: Result) -> str:
    steps = result["steps"]
    third = max(1, len(steps) // 3)
    first, last = (sum(step["reward"] for step in some) / third for some in (steps[:third], steps[-third:]))
    return (
        f"{len(steps)} steps in {result['dtype']} with {result['engine']}, {result['seconds']:.0f} s in all: reward "
        f"{first:.3f} in the first third, {last:.3f} in the last, largest gap "
        f"{max(step['gap_max'] for step in steps):.1e} nats. {_held_out(result['held_out'])}"
    )


def _sft(result: Result) -> str:
    return (
        f"{result['steps']} steps in {result['seconds']:.0f} s, {result['pages_a_second']:.0f} pages a second, "
        f"checkpoint `{result['checkpoint']}`. {_held_out(result['held_out'])}"
    )


def _held_out(held_out: Mapping[str, Mapping[str, float]]) -> str:
    figures = lambda row: ", ".join(f"{name} {value:.3f}" for name, value in row.items())
    return f"Held out, {'; '.join(f'{at}: {figures(row)}' for at, row in held_out.items())}."


def _vllm(result: Result) -> str:
    loads = ", ".join(f"{seconds:.2f}" for seconds in result["load_s"])
    lines = [_gaps(result), f"- shape {result['shape']}: start {result['start_s']:.1f} s, loads {loads} s"]
    if "freed_gib" in result:
        same = "the same" if result["same_after_sleep"] else "**not the same**"
        lines.append(
            f"- sleep {result['sleep_s']:.2f} s gives {result['freed_gib']:.1f} GiB back, waking takes "
            f"{result['wake_s']:.2f} s; then it says {same}"
        )
    return "\n".join(lines)


# By part, in the order in which they are run.
TEXTS: dict[str, Callable[[Result], str]] = {
    "tests": _tests,
    "parity": _gaps,
    "update": _update,
    "shared_page": _shared,
    "attention": _attention,
    "tower": _tower,
    "grpo": _grpo,
    "sft": _sft,
    "vllm": _vllm,
    "weights": _weights,
}


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---", *["--:"] * (len(names) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
