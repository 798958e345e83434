"""What was measured of a kind of machine, each figure with where it comes from; None where nothing is known.

Nothing here is ever filled in by a guess. Knows nothing about how figures are measured.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ocr_rl.contract import UserError


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number and its source, as in `runs/demo`."""

    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What one engine, one learner card and one core do. Names end with their unit."""

    decode_step_s: Figure | None = None
    """a decoding step of an engine, however many samples it writes"""
    decode_row_s: Figure | None = None
    """what each sample that is being written adds to a decoding step"""
    decode_rows: Figure | None = None
    """samples side by side up to which these two hold; above, a step takes longer in proportion"""
    prefill_page_s: Figure | None = None
    """an engine reads a page and its prompt"""
    draw_page_s: Figure | None = None
    """a page is drawn and cut into patches, on the one thread that feeds the engines"""
    score_sample_s: Figure | None = None
    """all rewards of a sample, on one core"""
    update_page_s: Figure | None = None
    """a page's prompt goes through one learner card, forward and back"""
    update_tokens_per_s: Figure | None = None
    """tokens of samples (of prompts too, where update_page_s is not measured) that one learner card learns from"""
    annotate_page_s: Figure | None = None
    """a page's prompt goes through one learner card, forward"""
    annotate_tokens_per_s: Figure | None = None
    """as update_tokens_per_s, of a forward pass: the reference, the old policy"""
    sync_s: Figure | None = None
    """engines take over the weights of this policy"""
    transfer_bytes_per_s: Figure | None = None
    """the same by bytes, where sync_s is not measured"""
    gather_bytes_per_s: Figure | None = None
    """weights and gradients that a learner card exchanges with the others"""
    checkpoint_bytes_per_s: Figure | None = None
    """a checkpoint is written and hashed"""
    learners: Figure | None = None
    """learner cards of the run that update_tokens_per_s is of: with several, their exchange of weights is in it"""


PART_NAMES = tuple(field.name for field in fields(Parts))
SHORTHAND = "sample_tokens_per_s"  # of a whole engine, with as many samples side by side as the recipe allows
ABOUT_SAMPLES = ("prompt_tokens", "mean_tokens", "longest_tokens")  # what a run's samples are like
GIVEN_NAMES = (*PART_NAMES, SHORTHAND, *ABOUT_SAMPLES)


def given_figures(settings: list[str]) -> tuple[dict[str, Figure], list[str]]:
    """Figures among `name=value` settings, and the other settings, which are a recipe's. UserError for no number."""
    figures, others = {}, []
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals or name not in GIVEN_NAMES:
            others.append(setting)
            continue
        try:
            figures[name] = Figure(require_number(name, float(text)), "given")
        except ValueError:
            raise UserError(f"--set {setting!r}: {name} must be a number above 0, as in {name}=100.") from None
    return figures, others


def require_number(name: str, value: float) -> float:
    """ValueError for what is none that a part can have; seconds may be 0, where they are in another part."""
    least = 0 if name.endswith(("step_s", "row_s", "page_s", "sample_s")) else 1e-300
    if isinstance(value, bool) or not least <= value < float("inf"):
        raise ValueError(f"{name} is {value!r}")
    return value


def with_given(parts: Parts, figures: dict[str, Figure], rows: int) -> Parts:
    """Parts with what a user says instead of what runs say. `rows`: samples that one engine writes side by side."""
    figures = dict(figures)
    if rate := figures.get(SHORTHAND):
        inside = Figure(0.0, f"in {SHORTHAND}")
        figures = {
            "decode_step_s": Figure(rows / rate.value, f"{SHORTHAND}={rate.value:g}, {rows} side by side"),
            "decode_row_s": inside,
            "decode_rows": Figure(rows, SHORTHAND),
            "prefill_page_s": inside,
            "draw_page_s": inside,
        } | figures
    return replace(parts, **{name: figure for name, figure in figures.items() if name in PART_NAMES})


def merged(parts: Parts, more: Parts) -> Parts:
    """What the first one lacks is taken from the second."""
    lacking = {name: getattr(more, name) for name in PART_NAMES if getattr(parts, name) is None}
    return replace(parts, **lacking)
