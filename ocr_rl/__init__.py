"""Teach vision-language models to read documents.

These names are public: pages, rewards and checks, policies, benchmarks, and the types that plug-ins see. What is not
here is private and may change. `import ocr_rl` loads nothing else, and only `transcribe` needs torch.

    >>> import ocr_rl
    >>> tests = [{"type": "present", "text": "Pay the total"}, {"type": "absent", "text": "Page 7"}]
    >>> page = ocr_rl.make_page(tests, reference="Pay the total: 7.50")

A check gives a verdict:

    >>> [(verdict.id, verdict.passed) for verdict in ocr_rl.judge(page, "Pay the total: 7.50")]
    [('test1', True), ('test2', True)]

A mix of rewards gives scores. A recipe's mix comes with its weights and gates:

    >>> mix = ocr_rl.load_rewards(["pass_rate", "cer"])
    >>> good, poor = mix.score(page, ["Pay the total: 7.50", "Page 7"])
    >>> good.reward, good.parts
    (1.0, {'pass_rate': 1.0, 'cer': 1.0})
    >>> poor.reward < 0.5
    True
    >>> [name for name in ocr_rl.load_rewards("nano_grpo").score(page, ["Pay the total: 7.50"])[0].parts]
    ['pass_degree', 'budget', 'repetition', 'distinct']

Wrong input is a `UserError`, one sentence with the way out:

    >>> ocr_rl.load_rewards(["pass_rat"])
    Traceback (most recent call last):
    ocr_rl.contract.UserError: ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ocr_rl.api import (
        Mix,
        MixScore,
        bench,
        judge,
        load_pages,
        load_rewards,
        make_page,
        mine,
        transcribe,
    )
    from ocr_rl.contract import Page, Score, Transcript, UserError, per_transcript

__all__ = [
    "Mix",
    "MixScore",
    "Page",
    "Score",
    "Transcript",
    "UserError",
    "bench",
    "judge",
    "load_pages",
    "load_rewards",
    "make_page",
    "mine",
    "per_transcript",
    "transcribe",
]
_CONTRACT = {"Page", "Score", "Transcript", "UserError", "per_transcript"}  # standard library only


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("ocr_rl.contract" if name in _CONTRACT else "ocr_rl.api"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
