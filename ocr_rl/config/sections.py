"""Sections of a recipe that every algorithm shares: pages, policy, optimiser, sampling, scoring, evaluation."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter, field_validator, model_validator

from ocr_rl.config.base import BelowOne, Natural, Positive, Section, Share


class Folder(Section):
    """Pages of a dataset folder."""

    dir: Path
    """A folder in the layout of olmOCR-Bench: PDFs below pdfs/, unit tests in *.jsonl beside it."""
    limit: Positive | None = None
    """Use only so many pages, the first ones after a shuffle by `seed`."""
    seed: int = 0
    """Of the shuffle before `limit`."""


class Typeset(Section):
    """Pages that are typeset on first use, written below the run's folder."""

    synth: str
    """A kind of page: one of those that `ocr-rl pages synth --help` lists."""
    n: Positive = 1000
    """How many pages."""
    seed: int = 0
    """Of the pages' content and looks, and of the shuffle before `limit`."""
    pages_per_document: Positive = 64
    """Pages of one PDF; they share its looks."""
    fonts: Literal["seen", "unseen"] | None = None
    """Typefaces that the embedded policy learnt from, or did not; by default the kind's own."""
    words: Literal["invented", "latin"] | None = None
    """invented: half of the words are random syllables; latin: all words are Latin; by default the kind's own."""
    scan: float | None = Field(default=None, ge=0, le=4)
    """How bad a scanner the pages went through, 0 for none; by default the kind's own."""
    limit: Positive | None = None
    """Use only so many pages, the first ones after a shuffle by `seed`."""


def _kind_of_source(given: Any) -> str | None:
    if isinstance(given, Folder | Typeset):
        return "folder" if isinstance(given, Folder) else "typeset"
    kinds = [
        kind for key, kind in (("dir", "folder"), ("synth", "typeset")) if isinstance(given, dict) and key in given
    ]
    return kinds[0] if len(kinds) == 1 else None


PageSource = Annotated[
    Annotated[Folder, Tag("folder")] | Annotated[Typeset, Tag("typeset")],
    Discriminator(
        _kind_of_source,
        custom_error_type="page_source",
        custom_error_message="give exactly one of dir (a dataset folder) and synth (a kind of typeset page)",
    ),
]


def page_source(data: Any) -> Folder | Typeset:
    """A source of pages as a run's config.json has it. Raises pydantic's ValidationError for anything else."""
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if value is not None}
    return TypeAdapter(PageSource).validate_python(data)


class Policy(Section):
    """Which model, and how it is trained."""

    path: str | None = None
    """A folder or hub name (families: docs/families.md); "nano" is the policy that ships with this package."""
    reference: str | None = None
    """The frozen policy that KL and preferences are measured from, of the same shape; by default the start (of dpo, the
    policy as each round begins)."""
    fresh: str | None = None
    """Start from random weights instead: "nano", or a family's smallest shape (docs/families.md)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights that compute. The optimiser moves float32 masters of what is learnt in bfloat16."""
    autocast: bool = False
    """Compute in bfloat16 over float32 weights."""
    lora_rank: int = Field(default=0, ge=0, le=512)
    """0 trains all weights; otherwise adapters of this rank, which the sampler gets as adapters."""
    lora_alpha: Positive | None = None
    """What adapters say counts lora_alpha / lora_rank times; by default twice the rank."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's inputs left out while it learns; never in log-probabilities that are compared.

    Which ones depends on optim.micro_tokens and on the number of processes too, and so does the result.
    """
    lora_targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all-linear"
    """Layers that get adapters, by the last part of their names, as in ["q_proj", "v_proj"], wherever there are any."""
    lora_vision: bool | None = None
    """Whether the vision tower's blocks get adapters too; by default unless freeze_vision."""
    freeze_vision: bool = False
    """Leave the vision tower as it is."""
    gradient_checkpointing: bool = False
    """Compute each layer again in the backward pass instead of keeping its activations: less memory, more time."""
    trust_remote_code: bool = False
    """Run code from the model's own folder. Off by default: it is somebody's program."""
    longest_px: Annotated[int, Field(gt=0, le=8192)] | None = None
    """Longest side of the page image; by default what the model's folder says (ocr_rl.json), else 1288."""
    preset: str | None = None
    """Ask as another known model is asked (docs/models.md); by default as the model itself is known for."""
    instruction: str | None = None
    """Text before the page image; by default what the model's folder or preset says, else a general one."""
    image_first: bool | None = None
    """Whether the page image stands before the text; by default what the model's folder or preset says, else not."""
    max_tokens: Positive | None = None
    """Longest transcript when the policy is used; by default what the model's folder says, else 4096."""
    max_prompt_tokens: Positive | None = None
    """Longest prompt, image included; by default what the model's folder says, else 4096. A longer page is refused."""

    @model_validator(mode="after")
    def _one(self) -> Policy:
        if (self.path is None) == (self.fresh is None):
            raise ValueError("give exactly one of path (a model) and fresh (a shape with random weights)")
        return self

    @field_validator("lora_targets", mode="before")
    @classmethod
    def _names(cls, given: Any) -> Any:
        names = isinstance(given, list | tuple) and given and all(isinstance(name, str) for name in given)
        if given != "all-linear" and not names:
            raise ValueError('give "all-linear", or names of layers as in ["q_proj", "v_proj"]')
        return given

    @model_validator(mode="after")
    def _dtypes(self) -> Policy:
        if self.autocast and self.dtype == "bfloat16":
            raise ValueError("autocast computes in bfloat16 over float32 weights: leave it out where dtype is bfloat16")
        return self

    @model_validator(mode="after")
    def _adapters(self) -> Policy:
        changed = self.changed("lora_alpha", "lora_dropout", "lora_targets", "lora_vision")
        if changed and self.lora_rank == 0:
            raise ValueError(f"{changed[0]} is for adapters: set lora_rank too")
        if self.lora_targets != "all-linear" and len(set(self.lora_targets)) < len(self.lora_targets):
            raise ValueError("lora_targets names a layer twice")
        if self.lora_vision and self.freeze_vision:
            raise ValueError("lora_vision gives the vision tower adapters, freeze_vision leaves it alone: choose one")
        return self

    @property
    def lora_scale(self) -> int:
        """lora_alpha, or what it is by default."""
        return self.lora_alpha or 2 * self.lora_rank

    @property
    def lora_in_tower(self) -> bool:
        """Whether adapters sit in the vision tower too."""
        return not self.freeze_vision if self.lora_vision is None else self.lora_vision


class Optim(Section):
    """The optimiser and the schedule of its rate."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for all two-dimensional weights but embeddings, AdamW for the rest."""
    lr: float = Field(default=2e-6, gt=0)
    """The highest learning rate."""
    adam_lr: float | None = Field(default=None, gt=0)
    """With muon: the rate of the AdamW part."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.98)
    """AdamW's decay rates of the first and the second moment."""
    warmup: int = Field(default=0, ge=0)
    """Steps of linear warm-up."""
    cooldown: Share = 0.0
    """Last share of the steps, over which the rate falls linearly to `final`."""
    final: Share = 0.05
    """Share of the rate that is left at the end of the cool-down."""
    schedule: tuple[tuple[Natural, Share], ...] = ()
    """Instead of warmup, cooldown and final: (step from 0, share of lr), straight lines between them, flat outside."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients with a larger norm are scaled down to it."""
    micro_tokens: Positive = 16384
    """Tokens (prompts and completions) computed at once; changes memory, never the result (but what dropout draws)."""

    @model_validator(mode="after")
    def _one_schedule(self) -> Optim:
        steps = [step for step, _ in self.schedule]
        if any(later <= earlier for earlier, later in pairwise(steps)):
            raise ValueError("schedule: each step must be later than the one before it")
        if self.schedule and (twice := self.changed("warmup", "cooldown", "final")):
            raise ValueError(f"schedule stands instead of {', '.join(twice)}: leave that out, or schedule = []")
        return self


class Sampling(Section):
    """The engine that writes transcripts, and how it draws them."""

    engine: Literal["vllm", "vllm_server", "transformers"] = "vllm"
    """vllm: in this process. vllm_server: vLLM's own server at `url`, on other devices or machines."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the engine's weights, cast on load; by default bfloat16 on a GPU, the policy's without one."""
    temperature: float = Field(default=1.0, ge=0.01, le=10)
    """Of the samples to learn from; evaluations are greedy."""
    max_tokens: Positive = 4096
    """Longest sample, in tokens."""
    page_limit: float | None = Field(default=None, ge=1, le=1000)
    """As 2.0: samples to learn from end at so many times the page's reference or text layer, and 64 tokens more."""
    max_model_len: Positive = 8192
    """Longest prompt and sample together that the engine makes room for, in tokens."""
    max_num_seqs: Positive = 256
    """Samples written side by side (of a server: its own --max-num-seqs)."""
    gpu_share: float = Field(default=0.4, gt=0, lt=1, exclude=True)
    """Of a GPU's memory, what vLLM in this process takes, keys and values included; the learner needs the rest."""
    sleep: bool = Field(default=False, exclude=True)
    """vLLM in this process gives a GPU's memory back while the learner works, for a second or two a step."""
    # Where the server is changes no result: left out of a run's config.json, so a run resumes with another one.
    url: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(default=None, exclude=True)
    """Of the server, as in "http://127.0.0.1:8000", or a list of several; this run must have them to itself."""
    weights_dir: Path | None = Field(default=None, exclude=True)
    """Where weights are written for the server, which must see the same path; by default a temporary folder."""
    deadline_s: float = Field(default=600.0, gt=0, exclude=True)
    """For every call to the server: one page's samples, one load of weights."""
    server_wait_s: float = Field(default=600.0, gt=0, exclude=True)
    """How long to wait for a server that is dead or starting."""

    @model_validator(mode="after")
    def _server(self) -> Sampling:
        if (self.engine == "vllm_server") != (self.url is not None):
            raise ValueError('url belongs to engine = "vllm_server", and that engine needs one')
        if self.sleep and self.engine != "vllm":
            raise ValueError('sleep belongs to engine = "vllm": no other one is in the way of the learner')
        if self.changed("gpu_share") and self.engine != "vllm":
            raise ValueError('gpu_share belongs to engine = "vllm"; a server has its own --gpu-memory-utilization')
        if self.weights_dir is not None and self.engine != "vllm_server":
            raise ValueError('weights_dir belongs to engine = "vllm_server": no other one reads weights from files')
        urls = [self.url] if isinstance(self.url, str) else self.url or ()
        if wrong := [url for url in urls if not re.fullmatch(r"https?://[^/\s]+/?", url)]:
            raise ValueError(f"url must look like http://127.0.0.1:8000, got {wrong[0]!r}")
        if len({url.rstrip("/") for url in urls}) < len(urls):
            raise ValueError("url names a server twice")
        return self

    @property
    def elsewhere(self) -> bool:
        """Whether samples are written in another process than the learner's, so that both can work at once."""
        return self.engine == "vllm_server"


class Evaluation(Section):
    """Held-out pages, transcribed greedily before, on the way and after."""

    sets: dict[str, PageSource] = Field(min_length=1)
    """Held-out pages by name; the first set is the one that curves and the last line speak of."""
    every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0: only before and after."""
    max_tokens: Positive = 4096
    """Longest transcript, in tokens."""

    @property
    def first(self) -> PageSource:
        return next(iter(self.sets.values()))


class Scoring(Section):
    """How rewards are asked: in worker processes that may hang or crash without taking the run along."""

    workers: Positive = 2
    """Processes side by side."""
    timeout_s: float = Field(default=60.0, gt=0)
    """For one reward on one group; one that takes longer is ended, and its group dropped and counted.

    An audit's groups are larger than training's, and have as much more time.
    """
    audit: bool = True
    """Refuse to train with rewards that a cheat beats (`ocr-rl rewards audit`)."""
