"""Pages as a taskset of verifiers (0.4): a prompt with a page's image a row, rewarded by a mix or by single rewards.

verifiers finds a taskset by the name of a module that exports it. A file of one's own next to the rows does:

    # my_pages.py
    from ocr_rl.interop.verifiers import PagesTaskset
    __all__ = ["PagesTaskset"]

    PYTHONPATH=. vf-eval my_pages --env.taskset.rows rows.parquet --env.taskset.task.spec nano_grpo -m MODEL

This module imports verifiers, which is no dependency; nothing else here imports this module.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ocr_rl.contract import Transcript, UserError
from ocr_rl.interop.row_files import image_url, read_rows
from ocr_rl.interop.rows import mix_of, page_of, plain, score_alone, score_rows, transcript_of

try:
    import verifiers.v1 as vf  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError as error:
    raise UserError("ocr_rl.interop.verifiers needs verifiers 0.4, which is not installed; install it.") from error

INSTRUCTION = "Transcribe this page as Markdown, with tables as HTML and formulas as LaTeX."


class PageData(vf.TaskData):
    """What a row says of a page, beside the prompt."""

    tests: str | None = None
    reference: str | None = None


class PageTaskConfig(vf.TaskConfig):
    """`--env.taskset.task.*`"""

    spec: str | list[str] = "nano_grpo"
    """A recipe's mix with its weights and gates, by the recipe's name or file; or a list of single rewards."""


class PageTask(vf.Task[PageData, vf.State, PageTaskConfig]):
    """One page to be read."""

    @vf.reward
    async def ocr(self, trace: vf.Trace) -> float | dict[str, float]:
        """The mix's score, with its rewards as metrics; of a list of rewards, those that apply to the page.

        A page has no siblings here: `medoid`, which compares them, has nothing to say.
        """
        transcript, row, spec = _transcript(trace), _row(self.data), self.config.spec
        if isinstance(spec, str):
            (score,) = await asyncio.to_thread(lambda: list(score_rows(spec, [row], [transcript])))
            trace.record_metrics(score.parts)
            return score.reward
        values = await asyncio.to_thread(lambda: {name: next(score_alone(name, [row], [transcript])) for name in spec})
        return {name: value for name, value in values.items() if value is not None}


class PagesConfig(vf.TasksetConfig):
    """`--env.taskset.*`"""

    rows: Path = Path("rows.parquet")
    """A parquet file as `ocr-rl pages export` writes it, or JSON lines with the path of an image."""
    instruction: str = INSTRUCTION
    """What the policy is asked beside the image."""
    task: PageTaskConfig = PageTaskConfig()


class PagesTaskset(vf.Taskset[PageTask, PagesConfig]):
    """The rows of a file as tasks. UserError for a row that is no page, before anything is sampled."""

    def load(self) -> Iterator[PageTask]:
        spec = self.config.task.spec
        mix_of(spec)
        for row in read_rows(self.config.rows):
            page_of(row)
            prompt = [vf.UserMessage(content=_prompt(row, self.config))]
            name, tests, reference = (plain(row.get(column)) for column in ("id", "tests", "reference"))
            tests = tests if isinstance(tests, str | None) else json.dumps(tests)
            data = PageData(id=None if name is None else str(name), prompt=prompt, tests=tests, reference=reference)
            yield PageTask(data, self.config.task)


def _prompt(row: Mapping[str, Any], config: PagesConfig) -> list[Any]:
    image = vf.ImageUrlContentPart(image_url=vf.ImageUrlSource(url=image_url(row, config.rows.parent)))
    return [image, vf.TextContentPart(text=config.instruction)]


def _row(data: PageData) -> dict[str, Any]:
    return {"tests": data.tests, "reference": data.reference, "id": data.id}


def _transcript(trace: vf.Trace) -> Transcript:
    """The policy's last message as it was written: verifiers' own `last_reply` is stripped."""
    messages = trace.assistant_messages
    transcript = transcript_of((messages[-1].content or "") if messages else "")
    return Transcript(
        raw=transcript.raw,
        body=transcript.body,
        finish="length" if trace.is_truncated else "stop",
        num_tokens=trace.num_output_tokens,
    )
