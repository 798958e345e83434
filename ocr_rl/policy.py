"""Open a policy for use: its folder, its own settings, a prompter and a sampler, closed again at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.learn.model import model_folder
from ocr_rl.rollout.prompt import Prompter, load_prompter
from ocr_rl.rollout.sampler.base import GPU_SHARE, GPU_SHARE_ALONE, Sampler
from ocr_rl.rollout.sampler.load import use_dtype
from ocr_rl.rollout.settings import PromptSettings, read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPolicy:
    sampler: Sampler
    prompter: Prompter
    settings: PromptSettings


@contextmanager
def open_policy(model: str, *, engine: str = "vllm", longest_px: int | None = None) -> Iterator[OpenPolicy]:
    """Any model folder or hub name; "nano" is the embedded policy."""
    policy = config.Policy.model_validate(
        {"path": model_folder(model), "longest_px": longest_px, "dtype": use_dtype(model_folder(model))}
    )
    settings = policy_settings(policy, model_folder(model))
    prompter = policy_prompter(policy, model_folder(model), settings)
    sampling = config.Sampling.model_validate(
        {"engine": engine, "max_model_len": settings.max_prompt_tokens + settings.max_tokens}
    )
    sampler = open_sampler(sampling, model_folder(model), prompter, policy, gpu_share=GPU_SHARE_ALONE)
    try:
        yield OpenPolicy(sampler=sampler, prompter=prompter, settings=settings)
    finally:
        sampler.close()


def policy_settings(policy: config.Policy, folder: str) -> PromptSettings:
    """The folder's own settings, with what the recipe says over them."""
    found = read_settings(folder)
    said = {field.name: getattr(policy, field.name) for field in fields(PromptSettings)}
    return replace(found, **{name: value for name, value in said.items() if value is not None})


def policy_prompter(policy: config.Policy, folder: str, settings: PromptSettings) -> Prompter:
    return load_prompter(
        folder,
        settings.longest_px,
        instruction=settings.instruction,
        max_prompt_tokens=settings.max_prompt_tokens,
        trust_remote_code=policy.trust_remote_code,
    )


def open_sampler(
    sampling: config.Sampling, model: str, prompter: Prompter, policy: config.Policy, *, gpu_share: float = GPU_SHARE
) -> Sampler:
    """The engine that the recipe names, with the weights of a model folder; `gpu_share` is what vLLM takes of a GPU."""
    if sampling.engine == "transformers":
        from ocr_rl.rollout.sampler.hf import HfSampler

        return HfSampler(model, prompter, dtype=policy.dtype, trust_remote_code=policy.trust_remote_code)
    if sampling.engine == "vllm_server":
        from ocr_rl.rollout.sampler.vllm_server import VllmServerSampler

        assert sampling.url is not None  # config.Sampling sees to it
        return VllmServerSampler(
            sampling.url,
            model,
            prompter,
            max_model_len=sampling.max_model_len,
            weights_dir=sampling.weights_dir,
            deadline_s=sampling.deadline_s,
            wait_s=sampling.server_wait_s,
        )
    try:
        from ocr_rl.rollout.sampler.vllm import VllmSampler
    except ModuleNotFoundError as error:
        raise UserError(
            f"sampling.engine: vLLM is not installed ({error}); install ocr-rl[vllm] (CUDA) or ocr-rl[cpu], "
            'or set engine = "transformers".'
        ) from None
    return VllmSampler(
        model,
        prompter,
        dtype=policy.dtype,
        max_model_len=sampling.max_model_len,
        max_num_seqs=sampling.max_num_seqs,
        gpu_memory_utilization=gpu_share,
        trust_remote_code=policy.trust_remote_code,
    )
