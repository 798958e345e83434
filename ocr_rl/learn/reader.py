"""A reader: a network, and what it says of rows. Log-probabilities, values, scores; it learns nothing.

With several ranks each has a reader with a part of the weights, and a method that needs them all tells the others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.profiler import record_function
from transformers import PreTrainedModel

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn import ranks
from ocr_rl.learn.features import Features, KeptFeatures, joined, room, stands_still
from ocr_rl.learn.network import PolicyNetwork, Reads, ScalarHead, base, trainable
from ocr_rl.learn.rows import Batch, collate
from ocr_rl.learn.undrawn import Undrawn
from ocr_rl.models.load import empty_model, load_model, model_folder
from ocr_rl.models.weights import BASE_DTYPE, marks_of
from ocr_rl.pages.raster import ImageRef, PageError
from ocr_rl.rollout.aside import one_ahead
from ocr_rl.rollout.flow import Prompt, Row
from ocr_rl.rollout.prompt import Origin

ImageOf = Callable[[Prompt], Image.Image]
Answer = TypeVar("Answer")
Seen = TypeVar("Seen")

_BLANK_PX = 64


class Reader:
    """One network. `policy` is the version of its weights, which a learner counts."""

    def __init__(
        self,
        origin: Origin,
        policy: config.Policy,
        *,
        micro_tokens: int,
        reference: bool = False,
        seed: int = 0,
        name: str = "policy",
        head: bool = False,
        stop_gradient: bool = False,
        critic_adapter: bool = False,
    ) -> None:
        """`reference`: keep the start, frozen. `seed` is for the random numbers that LoRA's adapters begin with.

        `head`: one number is read off each hidden state too; `stop_gradient`: learning it does not move the model.
        `critic_adapter`: with a second adapter, for a critic. `name` is how the other ranks know it.
        """
        self.name = name
        self.origin = origin
        self.prompter = origin.prompter
        self.micro_tokens = micro_tokens
        self.policy = 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = policy.dtype
        model = _opened(origin.path, dtype=policy.dtype, trust_remote_code=policy.trust_remote_code)
        self.family = origin.prompter.family
        self.family.pack(model)
        self.adapters = policy.lora_rank > 0
        first = self.adapters and ranks.rank() == 0
        self.base_marks = marks_of(model.state_dict().items(), BASE_DTYPE) if first else {}
        if ranks.world() == 1:  # otherwise each rank takes its part only
            model.to(self.device)  # type: ignore[arg-type]
        frozen = self._frozen(model, policy) if reference else None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.module = trainable(model, self.family, policy, critic=critic_adapter)
        self.head = ScalarHead(base(self.module).config.text_config.hidden_size) if head else None
        if self.head is not None and ranks.world() == 1:
            self.head.to(self.device)
        self.network = self._sharded(self.module, policy, self.head, stop_gradient)
        self.reference = None if frozen is None else self._sharded(frozen, policy)
        self.module.train()
        self.positions = lru_cache(maxsize=256)(self._positions)
        # Several ranks must go through the tower side by side, and each knows other pages.
        still = stands_still(self.family.vision_parts(base(self.module)))
        other_tower = reference and policy.reference is not None
        self.features = KeptFeatures(room()) if still and ranks.world() == 1 and not other_tower else None

    def _frozen(self, model: PreTrainedModel, policy: config.Policy) -> PreTrainedModel | None:
        """The reference. With LoRA the start is the same model with its adapters switched off: none of its own."""
        if policy.reference is None:
            return copy.deepcopy(model).requires_grad_(False).eval() if policy.lora_rank == 0 else None
        how = {"dtype": policy.dtype, "trust_remote_code": policy.trust_remote_code}
        other = _opened(model_folder(policy.reference), **how)
        if shapes_of(other) != shapes_of(model):
            raise UserError(
                f"policy.reference: {policy.reference} has another shape than the policy; name one that was trained "
                "from the same model."
            )
        self.family.pack(other)
        if ranks.world() == 1:
            other.to(self.device)  # type: ignore[arg-type]
        return other.requires_grad_(False).eval()

    @torch.no_grad()
    def logprobs(
        self, rows: Sequence[Row], *, reference: bool = False, image: ImageOf | None = None
    ) -> list[tuple[float, ...]]:
        """Log-probabilities of each row's completion under the current (or the reference) weights, in row order.

        `image` shows another image than the prompt's own (of the same size): does the policy look at all?
        """
        if image is not None and ranks.world() > 1:
            image = _all_drawn(rows, image).__getitem__  # pixels can be sent, functions cannot
        ranks.tell(self.name, "logprobs", rows, reference=reference, image=image)
        network = self.reference if reference and self.reference is not None else self.network
        with self._adapters_off() if reference and self.reference is None else nullcontext():
            return self._each(rows, lambda batch: _by_row(network(batch).logprob_N, batch), image)

    @torch.no_grad()
    def values(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        """What the head reads before each token of each row's completion, in row order."""
        ranks.tell(self.name, "values", rows)
        return self._each(rows, lambda batch: _by_row(self.network(batch, Reads.SCALARS).value_N, batch))

    @torch.no_grad()
    def scores(self, rows: Sequence[Row]) -> list[float]:
        """What the head reads at the last token of each row's completion, in row order."""
        ranks.tell(self.name, "scores", rows)
        return self._each(rows, lambda batch: self.network(batch, Reads.SCALARS).score_B.tolist())

    def _each(
        self, rows: Sequence[Row], ask: Callable[[Batch], Sequence[Answer]], image: ImageOf | None = None
    ) -> list[Answer]:
        """What `ask` answers for the rows of each micro-batch, in the order of `rows`."""
        place = {id(row): i for i, row in enumerate(rows)}
        own: dict[int, Answer] = {}
        self.module.eval()
        try:
            for batch, counts in self._batches(rows, image):
                with record_function("ocr_rl read"):
                    answers = ask(batch)
                if counts:
                    own |= {place[id(row)]: answer for row, answer in zip(batch.rows, answers, strict=True)}
        finally:
            self.module.train()
        everywhere = {i: answer for share in ranks.gathered(own) for i, answer in share.items()}
        return [everywhere[place[id(row)]] for row in rows]

    def _batches(self, rows: Sequence[Row], image: ImageOf | None = None) -> Iterator[tuple[Batch, bool]]:
        """This rank's micro-batches, and whether they count: those that stand for empty ones (`ranks.passes`) do not.

        On a GPU each waits in pinned memory, pixels and all, when it is asked for: it was made while the device worked
        on the one before it. Raises Undrawn after the last one, on every rank, where one of them lacks a page.
        """
        refused: dict[ImageRef, PageError] = {}
        made = self._made(rows, image, refused)
        if self.device.type == "cuda":
            pinned = _pinned(made, torch.cuda.current_device())
            # What the tower says is asked of the device itself, in its turn.
            made = pinned if image is None and self.features is not None else one_ahead(pinned)
        yield from ((batch.to(self.device), counts) for batch, counts in made)
        if of_all := {page: error for own in ranks.gathered(refused) for page, error in own.items()}:
            raise Undrawn(of_all)

    def _made(
        self, rows: Sequence[Row], image: ImageOf | None, refused: dict[ImageRef, PageError]
    ) -> Iterator[tuple[Batch, bool]]:
        """Micro-batches without the pages that cannot be drawn, which go into `refused`."""
        see: Callable[[Prompt], Any] = image or self.prompter.image
        if image is None and self.features is not None:
            see = partial(self._features, kept=self.features)
        for groups in ranks.passes(rows, self.micro_tokens):
            drawn, seen = _those_seen(groups, see, refused)
            if drawn:
                yield self._batch(drawn, seen), True
            elif ranks.world() > 1:
                yield self._nothing, False

    def _batch(self, groups: Sequence[Sequence[Row]], seen: Sequence[Any]) -> Batch:
        """`seen` of each group's page: its image, or what the tower says of it."""
        positions = lambda row, size: self.positions(row.prompt.expanded_ids, tuple(size.tolist()))
        if isinstance(seen[0], Features):
            layers, sizes = joined(seen)
            return replace(collate(groups, (torch.empty(0), sizes), positions), seen=layers)
        return collate(groups, self._pixels(seen), positions)

    @cached_property
    def _nothing(self) -> Batch:
        """A pass that says nothing, and needs no file: one token after a blank page."""
        blank, prompter = Image.new("RGB", (_BLANK_PX, _BLANK_PX), "white"), self.prompter
        prompt = Prompt(
            page_id="",
            image=ImageRef(pdf=Path(), number=1),
            token_ids=prompter.token_ids,
            expanded_ids=prompter.expand(prompter.num_image_tokens(blank)),
        )
        return self._batch([[Row(prompt=prompt, completion_ids=(prompter.eos_id,), group_id=0, weight=0.0)]], [blank])

    def _features(self, prompt: Prompt, kept: KeptFeatures) -> Features:
        """The page is read alone: whom it stands beside may change the last bit, and stays another one's matter."""

        @torch.no_grad()
        def read() -> Features:
            pixels, sizes = self._pixels([self.prompter.image(prompt)])
            with record_function("ocr_rl tower"):
                layers = self.network.see(pixels.to(self.device), sizes.to(self.device))
            return Features(size=sizes[0], layers=tuple(layer.cpu() for layer in layers))

        return kept.of(prompt.image, read)

    def _pixels(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """(pixel values, sizes) of them."""
        with record_function("ocr_rl pixels"):
            pixel_values, sizes = self.prompter.pixels(images)
        return torch.from_numpy(pixel_values), torch.from_numpy(sizes).long()

    def _positions(self, prompt_ids: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
        """(3, prompt length); most prompts of a run are alike."""
        return self.family.positions(base(self.module), prompt_ids, size)

    def _sharded(
        self, model: Any, policy: config.Policy, head: ScalarHead | None = None, stop_gradient: bool = False
    ) -> PolicyNetwork:
        network = PolicyNetwork(model, self.family, autocast=policy.autocast, head=head, stop_gradient=stop_gradient)
        blocks = self.family.blocks(base(model))
        ranks.shard(network, blocks, short=policy.autocast, exact=[] if head is None else [head])
        return network

    def _adapters_off(self) -> Any:
        return self.module.disable_adapter()  # type: ignore[operator]


def _those_seen(
    groups: Sequence[list[Row]], see: Callable[[Prompt], Seen], refused: dict[ImageRef, PageError]
) -> tuple[list[list[Row]], list[Seen]]:
    """The groups whose page can be seen, and what is; the other pages go into `refused`."""
    drawn, seen = [], []
    for group in groups:
        prompt = group[0].prompt
        try:
            seen.append(see(prompt))
        except PageError as error:
            refused[prompt.image] = error
        else:
            drawn.append(group)
    return drawn, seen


def _all_drawn(rows: Sequence[Row], image: ImageOf) -> dict[Prompt, Image.Image]:
    """The image of each row's page. Undrawn where one of them has none."""
    refused: dict[ImageRef, PageError] = {}
    groups, images = _those_seen([[row] for row in {row.prompt: row for row in rows}.values()], image, refused)
    if refused:
        raise Undrawn(refused)
    return {group[0].prompt: image for group, image in zip(groups, images, strict=True)}


def _opened(path: str, **how: Any) -> PreTrainedModel:
    """The first rank reads the files, and tells the others what their numbers go into (`ranks.shard` sends these)."""
    model = load_model(path, **how) if ranks.rank() == 0 else None
    tied = ranks.gathered(None if model is None else model.config.tie_word_embeddings)[0]
    return empty_model(path, tied=tied, **how) if model is None else model


def _pinned(made: Iterator[tuple[Batch, bool]], gpu: int) -> Iterator[tuple[Batch, bool]]:
    for batch, counts in made:
        torch.cuda.set_device(gpu)  # a new thread is on the first GPU, whichever this rank's is
        yield batch.pinned(), counts


def shapes_of(model: PreTrainedModel) -> dict[str, torch.Size]:
    """Of its weights, by name."""
    return {name: weight.shape for name, weight in model.named_parameters()}


def _by_row(value_N: Tensor, batch: Batch) -> list[tuple[float, ...]]:
    lengths = [len(row.completion_ids) for row in batch.rows]
    return [tuple(piece.tolist()) for piece in value_N.cpu().split(lengths)]
