"""PDFs made to break the rasteriser: each is drawn or refused with a reason, and the good page after it is drawn."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from benchmarks.robustness.traps import TIMEOUT_S, drawn, good_pdf, mutated, traps

REFUSED = {
    "20000_pt_wide": "absurdly large",
    "looping_tree": "damaged",
    "password": "password",
    "no_size": "no size",
}


@pytest.fixture(scope="module")
def hand_made() -> dict[str, bytes]:
    return traps()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.pdf"
    path.write_bytes(good_pdf())
    return path


@pytest.mark.parametrize(
    "name",
    [
        "20000_pt_wide",
        "100000_pages",
        "looping_tree",
        "30000_px_image",
        "password",
        "form_in_itself",
        "deep_states",
        "no_size",
    ],
)
def test_a_trap_costs_its_own_page_alone(hand_made: dict[str, bytes], good: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.pdf"
    path.write_bytes(hand_made[name])
    pages, reasons, _, good_after = drawn(path, good, 2)
    assert good_after
    assert (pages > 0) != bool(reasons)
    if name in REFUSED:
        assert REFUSED[name] in reasons[0]


def test_mutated_files_are_pages_or_reasons(good: Path, tmp_path: Path) -> None:
    rng = Random(1)
    for k in range(12):
        path = tmp_path / f"{k}.pdf"
        path.write_bytes(mutated(good_pdf(), rng))
        pages, reasons, _, good_after = drawn(path, good, 2)
        assert good_after
        assert pages or reasons
        assert all(reasons)


def test_memory_is_limited_by_page(tmp_path: Path) -> None:
    from ocr_rl.pages.workers import Refusal, guarded

    results = [result for _, result in guarded(_greedy, [10**10, 1], workers=1, timeout_s=TIMEOUT_S)]
    assert isinstance(results[0], Refusal) and "GiB of memory" in str(results[0])
    assert results[1] == 1


def _greedy(num_bytes: int) -> int:
    return len(bytearray(num_bytes))
