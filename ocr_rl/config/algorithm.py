"""What a run asks of an algorithm's section; every section answers."""

from __future__ import annotations

from typing import ClassVar

from ocr_rl.config.base import Positive, Section
from ocr_rl.config.sections import PageSource


class Algorithm(Section):
    """What the wiring asks of an algorithm's section. Its steps are in the file of its name in `ocr_rl/learn/algos`."""

    name: ClassVar[str]  # of the section
    samples: ClassVar[bool] = True  # whether it needs a sampler while it learns
    on_policy: ClassVar[bool] = False  # whether it samples between its updates, so that it may go on with other pages
    writes: ClassVar[bool] = True  # whether what learns writes transcripts, to be evaluated by
    lowers_entropy: ClassVar[bool] = False  # whether falling entropy is what it is meant to do

    @property
    def total_steps(self) -> int:
        """Optimiser updates from the start to the end."""
        raise NotImplementedError

    @property
    def learns_from_rewards(self) -> bool:
        """Whether the recipe's rewards score the policy's own samples."""
        return self.samples

    @property
    def needs_reference(self) -> bool:
        """Whether a frozen copy of the starting policy is kept in memory."""
        return False

    @property
    def group_size(self) -> int:
        """Siblings in a group of the policy's own samples."""
        return 1

    @property
    def comparison(self) -> str:
        """What of the rewards tells siblings apart: a key of ADVANTAGES."""
        return "centred"

    @property
    def training_pages(self) -> PageSource | None:
        """The pages that samples are drawn of; None where the algorithm opens its pages itself."""
        return None


class OwnSamples(Algorithm):
    """Of an algorithm that learns from the policy's own samples of some pages."""

    pages: PageSource
    """The pages to learn from."""
    steps: Positive
    """Optimiser updates."""
    samples_per_page: Positive
    """Siblings in a group."""

    @property
    def total_steps(self) -> int:
        return self.steps

    @property
    def group_size(self) -> int:
        return self.samples_per_page

    @property
    def training_pages(self) -> PageSource:
        return self.pages
