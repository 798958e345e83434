"""Memory of a recipe's policy on cards that need not be here, and the bytes that travel; from its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn.memory import Device, EngineSize, Shape, engine_size, memory_on, shape_of, this_device
from ocr_rl.models.load import model_folder
from ocr_rl.policy import open_learning_origin
from ocr_rl.scale.advice import Room
from ocr_rl.scale.load import Bytes, Load
from ocr_rl.scale.step import Split

_PLENTY = 2**60  # of the host's memory, which is not planned here


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A recipe's policy: its shape, and what an engine of it holds."""

    recipe: config.Recipe
    path: str  # of the policy's folder
    shape: Shape
    engine: EngineSize

    @property
    def bytes(self) -> Bytes:
        plan = memory_on(_card(0, 1), _served(self.recipe), self.shape)
        return Bytes(
            sent=self.engine.sent,
            saved=plan.weights + plan.optimizer + plan.gradients,  # as many float32 numbers as gradients
            weights=plan.weights,
            gradients=plan.gradients,
        )

    def rooms(self, splits: Sequence[Split], load: Load, card: int | None) -> list[Room]:
        """Memory of each split; `card`: bytes of one, or None for this machine's own, if it has a GPU."""
        return [self._room(split, load, card) for split in splits]

    def page_tokens(self) -> int:
        """Of an A4 page's prompt, upright, at the recipe's size. UserError where the processor is not there."""
        origin = open_learning_origin(self.recipe, self.path)
        longest = origin.settings.longest_px
        image = Image.new("RGB", (round(longest / 2**0.5), longest))
        return len(origin.prompter.expand(origin.prompter.num_image_tokens(image)))

    def _room(self, split: Split, load: Load, card: int | None) -> Room:
        here = this_device()
        if card is None and split.shared and not here.gpu:  # a run without GPUs, in this machine's memory
            plan, card = memory_on(replace(here, ranks=1), self.recipe, self.shape), here.total
        else:
            card = card or (here.total if here.gpu else None)
            recipe = self.recipe if split.shared else _served(self.recipe)
            plan = memory_on(_card(card or 0, split.learners), recipe, self.shape)
        prompt = load.prompt_tokens.value if load.prompt_tokens else 0.0
        return Room(
            learner=plan.peak,
            engine=0 if split.shared else self.engine.weights,
            sample=self.engine.token * (load.mean + prompt / load.samples),
            card=card,
            ways=plan.ways,
        )


def sizes_of(recipe: config.Recipe) -> Sizes:
    """From the configuration of the recipe's policy. UserError where that is not there."""
    if recipe.policy.path is None:
        raise UserError(f"policy.fresh = {recipe.policy.fresh!r} is made when a run starts")
    path = model_folder(recipe.policy.path)
    shape = shape_of(recipe.policy, path)
    return Sizes(recipe=recipe, path=path, shape=shape, engine=engine_size(recipe, shape))


def _card(size: int, ranks: int) -> Device:
    return Device(gpu=True, ranks=ranks, free=size, total=size, host=_PLENTY)


def _served(recipe: config.Recipe) -> config.Recipe:
    """The recipe with its engine on cards of its own."""
    served = recipe.sampling.model_copy(update={"engine": "vllm_server", "url": "http://127.0.0.1:8000"})
    return recipe.model_copy(update={"sampling": served})
