"""The study's paper has no figure that its rows do not give."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from pathlib import Path

from benchmarks.policy.paper import GENERATED, PAPER, figures, misplaced, rebuild, strangers, texts

REPORT = r"""
| arm | pass rate, % | change, points |
| sft | 83.8 \[78.2, 89.6\] | +30.7 \[24.5, 37.0\] |
PPO is ahead by -1.8 [-7.7, 5.1] points; runs lie 3.5 points apart; 151,372 tokens, p 0.0048.
"""


def test_figures_are_numbers_with_decimals_and_their_intervals() -> None:
    text = (
        "In 2026-11-30, `lr=0.5`, [six](a-1.2.md) seeds gain +30.7 [24.5, 37.0], 3.5 of 151,372, p 0.0048, 240 pages."
    )
    assert figures(text) == ["+30.7 [24.5, 37.0]", "3.5", "151,372", "0.0048"]
    assert figures(REPORT) == [
        "83.8 [78.2, 89.6]",
        "+30.7 [24.5, 37.0]",
        "-1.8 [-7.7, 5.1]",
        "3.5",
        "151,372",
        "0.0048",
    ]


@pytest.mark.parametrize(
    "figure", ["+30.7 [24.5, 37.0]", "+30.7", "83.8", r"-1.8 \[-7.7, 5.1\]", "1.8 [-5.1, 7.7]", "3.5", "7.7"]
)
def test_a_figure_of_a_report_is_known(figure: str) -> None:
    assert strangers(f"a gain of {figure}.", [REPORT]) == []


@pytest.mark.parametrize(
    "figure",
    [
        "+30.8",
        "+30.7 [24.5, 37.1]",
        "+83.8 [24.5, 37.0]",
        "1.8",
        "+1.8",
        "1.8 [-7.7, 5.1]",
        "+1.8 [-5.1, 7.7]",
        "-3.5",
        "-7.7",
    ],
)
def test_a_figure_of_no_report_is_a_stranger(figure: str) -> None:
    assert strangers(f"a gain of {figure}.", [REPORT]) == [figure]


def test_each_figure_of_the_paper_stands_in_a_report() -> None:
    paper, reports = PAPER.read_text(encoding="utf-8"), [(GENERATED / name).read_text("utf-8") for name in texts()]
    assert len(figures(paper)) >= 50
    assert strangers(paper, reports) == []
    wrong = paper.replace(figures(paper)[0], "+99.9 [98.7, 99.99]", 1)
    assert strangers(wrong, reports) == ["+99.9 [98.7, 99.99]"]


def test_a_figure_in_the_row_of_another_arm_or_claim_is_misplaced() -> None:
    reports = [
        f"| dpo | +6.2 [3.6, 8.9] |\n| dpo_tuned | 1.5 |\n{REPORT}",
        "\n## GRPO 4. Credit\n\n+11.8 [5.2, 18.4]\n",
    ]
    good = "| `sft` | +30.7 [24.5, 37.0] |\n| `dpo` | +6.2 [3.6, 8.9] |\n| GRPO 4. | +11.8 [5.2, 18.4] |\n"
    assert misplaced(good, reports) == []
    assert misplaced(good.replace("`sft`", "`dpo`"), reports) == ["+30.7 [24.5, 37.0]"]
    assert misplaced(good.replace("GRPO 4.", "4."), reports) == ["+11.8 [5.2, 18.4]"]
    assert misplaced("| `dpo` | 1.5 |", reports) == ["1.5"]


def test_no_figure_of_the_paper_stands_in_the_row_of_another() -> None:
    paper, reports = PAPER.read_text(encoding="utf-8"), [(GENERATED / name).read_text("utf-8") for name in texts()]
    assert misplaced(paper, reports) == []
    assert misplaced(paper.replace("| `dpo` |", "| `grpo` |"), reports)


@pytest.mark.slow
def test_the_second_terrain_is_rebuilt_from_its_rows_to_the_byte(tmp_path: Path) -> None:
    """The first is too, by `make study-report`; it has seven times as many rows."""
    assert rebuild("second", tmp_path).read_text("utf-8") == (GENERATED / "second" / "study.md").read_text("utf-8")
