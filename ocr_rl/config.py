"""Recipes: TOML files checked by pydantic. Unknown keys are errors; nothing here imports torch.

A recipe has exactly one of the sections `[sft]`, `[grpo]`, `[dpo]`, `[best_of_n]`: that section is the algorithm.
Knows nothing about how anything is done.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from ocr_rl.contract import UserError
from ocr_rl.track import Tracker

Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PageSource(Section):
    """Pages from a dataset folder, or synthetic ones made on the spot (written below the run directory)."""

    dir: Path | None = None
    synth: str | None = None
    """A kind of `ocr-rl pages synth`, with n, seed and pages_per_document."""
    n: Positive = 1000
    seed: int = 0
    pages_per_document: Positive = 64
    fonts: Literal["seen", "unseen"] | None = None
    """Typefaces that the embedded policy learnt from, or did not; None: the kind's own."""
    words: Literal["invented", "latin"] | None = None
    """invented: half of the words are random syllables; latin: all words are Latin; None: the kind's own."""
    scan: float | None = Field(default=None, ge=0, le=4)
    """How bad a scanner the pages went through, 0 for none; None: the kind's own."""
    limit: Positive | None = None
    """Use only the first pages, after a shuffle by `seed`."""

    @model_validator(mode="after")
    def _one(self) -> PageSource:
        if (self.dir is None) == (self.synth is None):
            raise ValueError("give exactly one of dir (a dataset folder) and synth (a kind of synthetic page)")
        return self


class Policy(Section):
    """Which model, and how it is trained."""

    path: str | None = None
    """A folder or hub name of a Qwen2.5-VL; "nano" is the policy that ships with this package."""
    fresh: Literal["nano"] | None = None
    """Start from random weights in this shape instead."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights. bfloat16 weights have no float32 master copy: for LoRA, or where memory asks for it."""
    autocast: bool = False
    """Compute in bfloat16 over float32 weights."""
    lora_rank: int = Field(default=0, ge=0)
    """0 trains all weights; otherwise adapters of this rank (merged on the way to the sampler and when saved)."""
    freeze_vision: bool = False
    gradient_checkpointing: bool = False
    trust_remote_code: bool = False
    longest_px: Annotated[int, Field(gt=0, le=8192)] | None = None
    """Longest side of the page image; None: what the model's folder says (ocr_rl.json), 1288 otherwise."""
    instruction: str | None = None
    """Text before the page image; None likewise."""
    max_tokens: Positive | None = None
    """Longest transcript when the policy is used; None likewise, 4096 otherwise."""
    max_prompt_tokens: Positive | None = None
    """Longest prompt, image included; None likewise, 4096 otherwise. A page that needs more is refused, never cut."""

    @model_validator(mode="after")
    def _one(self) -> Policy:
        if (self.path is None) == (self.fresh is None):
            raise ValueError("give exactly one of path (a model) and fresh (a shape with random weights)")
        return self


class Optim(Section):
    name: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for all two-dimensional weights but embeddings, AdamW for the rest."""
    lr: float = Field(default=2e-6, gt=0)
    adam_lr: float | None = Field(default=None, gt=0)
    """With muon: the rate of the AdamW part."""
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.98)
    warmup: int = Field(default=0, ge=0)
    """Steps of linear warm-up."""
    cooldown: Share = 0.0
    """Last share of the steps, over which the rate falls linearly to `final`."""
    final: Share = 0.05
    schedule: tuple[tuple[Natural, Share], ...] = ()
    """Instead of warmup, cooldown and final: (step from 0, share of lr), straight lines between them, flat outside."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    micro_tokens: Positive = 16384
    """Tokens (prompts and completions) computed at once; changes memory, never the result."""

    @model_validator(mode="after")
    def _one_schedule(self) -> Optim:
        steps = [step for step, _ in self.schedule]
        if any(later <= earlier for earlier, later in pairwise(steps)):
            raise ValueError("schedule: each step must be later than the one before it")
        if self.schedule and (twice := {"warmup", "cooldown", "final"} & self.model_fields_set):
            raise ValueError(f"schedule stands instead of {', '.join(sorted(twice))}: leave that out, or schedule = []")
        return self


class Sampling(Section):
    engine: Literal["vllm", "vllm_server", "transformers"] = "vllm"
    """vllm: in this process. vllm_server: vLLM's own server at `url`, on other devices or machines."""
    temperature: float = Field(default=1.0, ge=0.01, le=10)
    max_tokens: Positive = 4096
    max_model_len: Positive = 8192
    max_num_seqs: Positive = 256
    """Samples written side by side (of a server: its own --max-num-seqs)."""
    # Where the server is changes no result: left out of a run's config.json, so a run resumes with another one.
    url: str | None = Field(default=None, exclude=True)
    """Of the server, as in "http://127.0.0.1:8000"; this run must have it to itself."""
    weights_dir: Path | None = Field(default=None, exclude=True)
    """Where weights are written for the server, which must see the same path; None: this machine's temporary folder."""
    deadline_s: float = Field(default=600.0, gt=0, exclude=True)
    """For every call to the server: one page's samples, one load of weights."""
    server_wait_s: float = Field(default=600.0, gt=0, exclude=True)
    """How long to wait for a server that is dead or starting."""

    @model_validator(mode="after")
    def _server(self) -> Sampling:
        if (self.engine == "vllm_server") != (self.url is not None):
            raise ValueError('url belongs to engine = "vllm_server", and that engine needs one')
        if self.url is not None and not re.fullmatch(r"https?://[^/\s]+/?", self.url):
            raise ValueError(f"url must look like http://127.0.0.1:8000, got {self.url!r}")
        return self


class Stage(Section):
    """One lesson of a curriculum."""

    pages: PageSource
    steps: Positive
    pages_per_step: Positive
    front_matter: bool = True
    """Teach olmOCR's output format (YAML front matter before the Markdown)."""


class Sft(Section):
    stages: tuple[Stage, ...] = Field(min_length=1)

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


class RewardChoice(Section):
    name: str
    """An installed plug-in (`ocr-rl plugins`) or "my_file.py:MyReward"."""
    weight: float = Field(default=1.0, gt=0)
    options: dict[str, JsonValue] = {}
    gate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Least value with which the other rewards of a transcript count; below it they are all 0. A gate has no weight."""
    holds: tuple[str, ...] = ()
    """Of a gate: the rewards that it holds back, where not all of them ("formulas count only if the page parses")."""
    by_part: bool = False
    """With advantage "gdpo": normalise each part by itself (the test types of pass_rate, with its weights, floors)."""

    @model_validator(mode="after")
    def _gate_or_weight(self) -> RewardChoice:
        if self.gate is not None and {"weight", "by_part"} & self.model_fields_set:
            raise ValueError("a gate adds nothing to the reward: leave out weight and by_part, or the gate")
        if "holds" in self.model_fields_set and not (self.holds and self.gate is not None):
            raise ValueError("holds is for a gate and names rewards: add gate and a name, or leave out holds")
        return self


def _no_twins(rewards: tuple[RewardChoice, ...]) -> tuple[RewardChoice, ...]:
    names = [choice.name for choice in rewards]
    for name in names:
        if names.count(name) > 1:  # scores are kept by name: one would stand for both
            raise ValueError(f"the reward {name!r} is named twice; name it once, with its weight")
    counted = [choice.name for choice in rewards if choice.gate is None]
    for name in (name for choice in rewards for name in choice.holds):
        if name not in counted:
            raise ValueError(f"holds names {name!r}, which is no reward with a weight in this recipe")
    if not counted:
        raise ValueError("gates alone teach nothing; name a reward without a gate")
    return rewards


Rewards = Annotated[tuple[RewardChoice, ...], Field(min_length=1), AfterValidator(_no_twins)]


class Grpo(Section):
    """Shao et al. 2024 (arXiv 2402.03300) and the variants of METHODS."""

    pages: PageSource
    steps: Positive
    pages_per_step: Positive = 8
    samples_per_page: int = Field(default=8, ge=2)
    minibatches: Positive = 1
    """Optimiser updates per rollout; more than one makes the ratio differ from 1."""
    rewards: Rewards
    ratio: Literal["token", "sequence", "geometric"] = "token"
    aggregation: Literal["grpo", "dapo", "dr_grpo"] = "grpo"
    advantage: Literal["group_std", "batch_std", "none", "leave_one_out", "gdpo"] = "group_std"
    """How rewards become advantages (`ocr_rl.rollout.advantage`)."""
    epsilon: float = Field(default=0.2, gt=0)
    epsilon_high: float | None = Field(default=None, gt=0)
    surrogate: Literal["clip", "cispo"] = "clip"
    """cispo clips the ratio as a weight instead of the update, so that every token keeps a gradient."""
    delta: float | None = Field(default=None, gt=1)
    """Two-sided clip: the largest ratio that counts for a bad sample."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL to the starting policy; 0: none."""
    kl: Literal["k1", "k2", "k3"] = "k3"
    importance_level: Literal["token", "sequence"] = "token"
    """Truncated importance correction between sampler and learner: per token, or one a sample (geometric mean)."""
    importance_cap: float = Field(default=2.0, gt=0)
    flip: Share = 0.0
    """Share of groups whose rewards are turned upside down: label noise, for studies."""
    refills: int = Field(default=1, ge=0)
    """How many more rollouts a step may ask for to replace groups without signal."""
    rest: int = Field(default=0, ge=0)
    """A page without signal is passed over for one of its turns, then two, four, at most so many; 0: never."""
    mask_unfinished: bool = False
    """Leave samples that hit max_tokens out of the loss."""

    @model_validator(mode="after")
    def _one_bound(self) -> Grpo:
        if self.surrogate == "cispo" and self.delta is not None:
            raise ValueError("delta is for the clipped surrogate; cispo bounds every ratio by epsilon_high")
        return self


class Rounds(Section):
    """Samples of the policy are drawn before the first step of a round, then learnt from without sampling again."""

    pages: PageSource
    steps: Positive
    """Optimiser updates over all rounds."""
    rounds: Positive = 1
    """1: offline, once. More: fresh samples of the policy as it is then; steps must divide by it."""
    pages_per_round: Positive = 800
    pages_per_step: Positive = 8
    samples_per_page: int = Field(default=8, ge=2)
    rewards: Rewards

    @model_validator(mode="after")
    def _whole(self) -> Rounds:
        if self.steps % self.rounds:
            raise ValueError(f"steps ({self.steps}) must divide by rounds ({self.rounds})")
        return self


class BestOfN(Rounds):
    """Rejection sampling: supervised fine-tuning on the best sample of each page."""


class Dpo(Rounds):
    """Rafailov et al. 2023 (arXiv 2305.18290): pairs are the best and the worst sample of a page."""

    beta: float = Field(default=0.1, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    length_normalised: bool = False
    nll_anchor: float = Field(default=0.0, ge=0)
    """Times the chosen answer's negative log-likelihood per token, added to the loss."""
    margin: Share = 0.0
    """Pairs whose rewards differ by no more than this are ties and are dropped."""
    flip: Share = 0.0
    """Share of pairs whose labels are exchanged: label noise, for studies."""
    preferences: Path | None = None
    """A JSONL file of pairs (pdf, page, chosen, rejected) to learn from instead of sampling."""


class Evaluation(Section):
    sets: dict[str, PageSource] = Field(min_length=1)
    """Held-out pages by name; the first set is the one that curves and the last line speak of."""
    every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0: only before and after."""
    max_tokens: Positive = 4096

    @property
    def first(self) -> PageSource:
        return next(iter(self.sets.values()))


class Scoring(Section):
    """How rewards are asked: in worker processes that may hang or crash without taking the run along."""

    workers: Positive = 2
    timeout_s: float = Field(default=60.0, gt=0)
    """For one reward on one group; one that takes longer is ended, and its group dropped and counted.

    An audit's groups are larger than training's, and have as much more time.
    """
    audit: bool = True
    """Refuse to train with rewards that a cheat beats (`ocr-rl rewards audit`)."""


class Tripwire(Section):
    """A bound for the mean of a figure of metrics.jsonl over its last `steps` steps, and what happens beyond it."""

    above: float | None = None
    below: float | None = None
    of_start: bool = False
    """The bounds are multiples of the figure's mean over the run's first steps."""
    steps: Positive = 5
    then: Literal["warn", "stop", "roll_back"] = "warn"

    @model_validator(mode="after")
    def _bounded(self) -> Tripwire:
        if self.above is None and self.below is None:
            raise ValueError("give a bound: above or below")
        return self


class Tripwires(Section):
    """When a run is not what it should be. A wire given without a bound, as in {then = "stop"}, keeps its default one.

    roll_back goes to the last checkpoint from before the figures that tripped, and on with other pages.
    """

    length: Tripwire = Tripwire(above=4.0, of_start=True)
    finished: Tripwire = Tripwire(below=0.5, of_start=True, then="stop")
    """The share of samples that ended by themselves."""
    repetition: Tripwire = Tripwire(below=0.5, of_start=True, then="stop")
    """The reward of this name (1: nothing is said over and over), where the recipe asks for it."""
    reward: Tripwire = Tripwire(below=0.5, of_start=True, then="stop")
    entropy: Tripwire = Tripwire(above=5.0, below=0.05, of_start=True)
    kl: Tripwire = Tripwire(above=2.0)
    grad_norm: Tripwire = Tripwire(above=20.0, of_start=True)
    gap: Tripwire = Tripwire(above=0.2, steps=1, then="stop")
    """Mean difference, in nats a token, between sampler and learner: they do not have the same weights or image."""
    gap_max: Tripwire | None = None
    """The largest difference; None: a stop above 0.01 where everything is float32, no bound otherwise."""
    page_gain: Tripwire = Tripwire(below=0.0, steps=1, then="stop")
    """GRPO: by how many nats a token a blank page is worse than the page. At 0 the policy does not look."""
    falling_type: Literal["warn", "stop", "roll_back"] = "warn"
    """A test type gets clearly worse while the reward rises."""
    not_finite: Literal["stop", "roll_back"] = "stop"
    """A loss or a gradient that is no number; the optimiser never sees it."""
    roll_backs: int = Field(default=3, ge=0)
    """How often a run may go back before it stops."""

    @model_validator(mode="before")
    @classmethod
    def _default_bounds(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        filled = dict(given)
        for name, wire in given.items():
            default = cls.model_fields[name].default if name in cls.model_fields else None
            if isinstance(default, Tripwire) and isinstance(wire, dict) and not {"above", "below"} & set(wire):
                filled[name] = default.model_dump() | wire
        return filled

    @property
    def actions(self) -> set[str]:
        return {self.falling_type, self.not_finite, *(wire.then for _, wire in self if isinstance(wire, Tripwire))}


class Recipe(Section):
    seed: int = 0
    policy: Policy
    optim: Optim = Optim()
    sampling: Sampling = Sampling()
    scoring: Scoring = Scoring()
    sft: Sft | None = None
    grpo: Grpo | None = None
    dpo: Dpo | None = None
    best_of_n: BestOfN | None = None
    evaluation: Evaluation | None = None
    tripwires: Tripwires = Tripwires()
    track: tuple[Tracker, ...] = ()
    """Where metrics go besides metrics.jsonl."""
    save_every: Positive = 100
    keep: Positive = 2
    """How many checkpoints are kept: the latest, and the one with the best evaluation, if any was evaluated."""

    @model_validator(mode="after")
    def _one(self) -> Recipe:
        if sum(section is not None for section in (self.sft, self.grpo, self.dpo, self.best_of_n)) != 1:
            raise ValueError("give exactly one of the sections [sft], [grpo], [dpo] and [best_of_n]")
        if self.grpo is None and "roll_back" in self.tripwires.actions:
            raise ValueError("tripwires: roll_back is for [grpo], elsewhere a step has its pages; use warn or stop")
        return self

    @property
    def watched(self) -> Tripwires:
        """The tripwires, with the bound of `gap_max` that goes with the dtypes; SFT is meant to lower the entropy."""
        exact = self.policy.dtype == "float32" and not self.policy.autocast
        own: dict[str, Tripwire] = {}
        if self.tripwires.gap_max is None and exact:
            own["gap_max"] = Tripwire(above=0.01, steps=1, then="stop")
        entropy, usual = self.tripwires.entropy, Tripwires().entropy
        if self.sft is not None and (entropy.above, entropy.below) == (usual.above, usual.below):
            own["entropy"] = entropy.model_copy(update={"below": None})
        return self.tripwires.model_copy(update=own)

    @property
    def steps(self) -> int:
        algorithm = self.sft or self.grpo or self.dpo or self.best_of_n
        assert algorithm is not None
        return algorithm.steps

    @property
    def rewards(self) -> tuple[RewardChoice, ...]:
        """Those that judge the policy's own samples; none for SFT and for somebody's preferences."""
        algorithm = self.grpo or self.dpo or self.best_of_n
        if algorithm is None or (isinstance(algorithm, Dpo) and algorithm.preferences is not None):
            return ()
        return algorithm.rewards

    @property
    def advantage(self) -> str:
        """What of the rewards ranks siblings, a key of `ocr_rl.rollout.advantage.ADVANTAGES`.

        DPO and best-of-N rank them by the reward itself.
        """
        return "none" if self.grpo is None else self.grpo.advantage

    @property
    def samples_per_page(self) -> int:
        """Siblings in a group of the policy's own samples; 1 for SFT."""
        algorithm = self.grpo or self.dpo or self.best_of_n
        return 1 if algorithm is None else algorithm.samples_per_page


def shipped_recipes() -> dict[str, Path]:
    folder = Path(str(files("ocr_rl") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(name: str, overrides: list[str] | None = None) -> Recipe:
    """A recipe by file path or by the name of a shipped one, with `section.key=value` overrides (TOML values)."""
    path = Path(name)
    if not path.suffix and not path.exists():
        shipped = shipped_recipes()
        if name not in shipped:
            close = difflib.get_close_matches(name, shipped, n=1)
            hint = f"did you mean {close[0]}?" if close else f"shipped are {', '.join(shipped)}."
            raise UserError(f"No recipe named {name!r}: {hint}")
        path = shipped[name]
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"Recipe {path}: there is no such file.") from None
    except OSError as error:
        raise UserError(f"Recipe {path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:  # also not UTF-8, or brackets nested thousands deep
        raise UserError(f"Recipe {path}: not valid TOML: {error}.") from None
    return parse_recipe(data, overrides or [], str(path))


def parse_recipe(data: dict[str, Any], overrides: Sequence[str], name: str) -> Recipe:
    """A recipe from what its file says; `data` takes up the overrides. Raises UserError, which calls it `name`."""
    for override in overrides:
        _override(data, override)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise UserError(f"Recipe {name}: {explain(error, Recipe)}") from None


def _override(data: dict[str, Any], override: str) -> None:
    """Set one key; a page source that gets a `dir` loses what made it synthetic."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {override!r}: write it as section.key=value.")
    value = _value(text, override)
    *parents, last = key.strip().split(".")
    here: Any = data
    for part in parents:
        here = _element(here, part, override) if isinstance(here, list) else here.setdefault(part, {})
        if not isinstance(here, dict | list):
            raise UserError(f"--set {override!r}: {part} is a value, not a section.")
    if isinstance(here, list):
        raise UserError(f"--set {override!r}: {'.'.join(parents)} is a list; name an element, as in {parents[-1]}.0.")
    if last == "dir" and "synth" in here:
        for synthetic in ("synth", "n", "pages_per_document", "fonts", "scan"):
            here.pop(synthetic, None)
    here[last] = value


def _value(text: str, override: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except RecursionError:
        raise UserError(f"--set {override[:80]!r}...: the value is nested too deeply.") from None
    except ValueError:
        return text  # a bare word is a string
    if len(parsed) > 1:  # a line break, and further keys behind it
        raise UserError(f"--set {override!r}: sets more than one key; give --set once for each.")
    return parsed["value"]


def _element(items: list[Any], part: str, override: str) -> Any:
    if not part.isdecimal():
        raise UserError(f"--set {override!r}: {part} is no number; name an element of the list, from 0.")
    if len(part) > 9 or int(part) >= len(items):
        raise UserError(f"--set {override!r}: there is no element {part}, the list has {len(items)}.")
    return items[int(part)]


def explain(error: ValidationError, root: type[Section]) -> str:
    """The first fault of a `root` as one sentence: where, what, and the nearest known key."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "recipe"
    if first["type"] == "extra_forbidden":
        known = _fields_at(root, first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here are {', '.join(known)}."
        return f"unknown key {where}: {hint}"
    message = f"{where}: {first['msg'].removeprefix('Value error, ')}"
    got = first.get("input")
    return f"{message}." if isinstance(got, dict) else f"{message} (got {str(got)[:80]})."


def _fields_at(root: type[Section], loc: tuple[int | str, ...]) -> list[str]:
    section: Any = root
    key = False  # whether the next part is a key of a dict of sections, such as a set's name
    for part in loc:
        if isinstance(part, str) and not key:
            annotation = section.model_fields[part].annotation
            section, key = _section_of(annotation), get_origin(annotation) is dict
        else:
            key = False
    return list(section.model_fields)


def _section_of(annotation: Any) -> Any:
    """The section class inside an annotation such as `Sft | None` or `tuple[Stage, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for arg in getattr(annotation, "__args__", ()) if (found := _section_of(arg))), None)
