"""A reward model as a folder, and as a reward: `rewards = [{ name = "reward_model:FOLDER" }]`.

The folder is an ordinary one of the policy's shape, with two files more: the head that reads the score, and what it is
measured from. A Bradley-Terry score has no zero and no bounds. A reward lies in [0, 1] and may stand beside accuracy
rewards: here it is the chance to be preferred to the mean of the start's own transcripts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ocr_rl import config
from ocr_rl.contract import Page, Score, Transcript, UserError
from ocr_rl.files import Unreadable, read_text
from ocr_rl.learn import ranks
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.network import ScalarHead
from ocr_rl.learn.reader import Reader
from ocr_rl.models.load import weight_files
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Origin, Prompter

HEAD, FACTS = "reward_head.safetensors", "reward_model.json"
_WANTED = "give the `model` folder of a [reward_model] run's checkpoint"


def files_of(path: str) -> list[Path]:
    """What a reward model's scores hang on."""
    return [Path(path) / FACTS, *weight_files(path)]


def require_reward_model(path: str) -> None:
    """UserError where the path is no reward model's folder."""
    if not (Path(path) / FACTS).is_file():
        raise UserError(f"{config.LEARNED}{path}: there is no {FACTS}; {_WANTED}.")


class RewardLearner(Learner):
    """A learner whose losses look at scores; its folder has the head, and the mean score of the start as `centre`."""

    anchors: Callable[[], Sequence[Row]] | None = None  # what the centre is the mean score of
    _centre: tuple[int, float] | None = None  # (version of the weights, mean score)

    def centred_on(self, scores: Sequence[float]) -> None:
        """Take the scores of the anchors, where somebody has just asked for them."""
        self._centre = (self.policy, fmean(scores))

    def centre(self) -> float | None:
        """Of the weights as they are now."""
        if self.anchors is not None and (self._centre is None or self._centre[0] != self.policy):
            self.centred_on(self.scores(self.anchors()))
        return None if self._centre is None else self._centre[1]

    def save(self, folder: Path, *, dtype: str | None = None) -> None:
        super().save(folder, dtype=dtype)
        save_file(self.gather_head(), folder / HEAD)
        facts = {"centre": self.centre(), "updates": self.policy}
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    def gather_head(self) -> dict[str, Tensor]:
        """The head's weights, whole, under their own names; every rank must ask."""
        ranks.tell(self.name, "gather_head")
        assert self.head is not None
        return {name: ranks.whole(p).detach().cpu().contiguous() for name, p in self.head.named_parameters()}


def load_head(folder: Path, head: ScalarHead) -> None:
    """Fill a head from a reward model's folder. UserError where it has none, or one of another width."""
    try:
        head.load_state_dict(load_file(folder / HEAD))
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: names or shapes that do not fit
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{folder}: {HEAD} cannot be read ({reason}); {_WANTED}.") from None


class LearnedReward:
    """A reward model that scores transcripts in this process. It sees the page, as the policy does."""

    def __init__(self, origin: Origin, policy: config.Policy, *, micro_tokens: int) -> None:
        """UserError where the origin's folder is no reward model."""
        folder = Path(origin.path)
        self.centre = _centre(folder)
        self.reader = Reader(origin, policy, micro_tokens=micro_tokens, name=origin.path, head=True)
        assert self.reader.head is not None
        load_head(folder, self.reader.head)
        self.reader.module.requires_grad_(False)

    def __call__(self, page: Page, group: Sequence[Transcript]) -> list[Score]:
        prompter = self.reader.prompter
        prompt = prompter.prompt(page)
        rows = [
            Row(prompt=prompt, completion_ids=tokens_of(transcript, prompter), group_id=0, weight=0.0)
            for transcript in group
        ]
        return [as_score(score - self.centre) for score in self.reader.scores(rows)]


def tokens_of(transcript: Transcript, prompter: Prompter) -> tuple[int, ...]:
    """What the transcript is read as: its text, and the end where the policy wrote one (or nothing else)."""
    ids = prompter.encode(transcript.raw)
    return ids if ids and transcript.finish != "stop" else (*ids, prompter.eos_id)


def as_score(score: float) -> Score:
    """A centred score as a chance, sigmoid(score) (as the reference rewards of Fu et al. 2025, arXiv 2502.18770)."""
    value = 0.5 * (1 + math.tanh(score / 2))  # no overflow, however sure the model is
    return Score(value=value, parts={"score": score}, why=f"score {score:+.2f} against the start's mean")


def _centre(folder: Path) -> float:
    path = folder / FACTS
    try:
        centre = json.loads(read_text(path))["centre"]
    except (Unreadable, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is no reward model's; {_WANTED}.") from None
    if type(centre) not in (int, float) or not math.isfinite(centre):
        raise UserError(f"{path}: centre is {centre!r}, not a number; train it again.")
    return float(centre)
