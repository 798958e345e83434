"""Open a policy for use: its folder, its own settings, a prompter and a sampler, closed again at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.models.known import instruction_to_learn, read_settings
from ocr_rl.models.load import model_folder, sampling_dtype, use_dtype
from ocr_rl.models.settings import PromptSettings
from ocr_rl.rollout.prompt import Origin, Prompter, load_prompter
from ocr_rl.rollout.sampler.base import GPU_SHARE_ALONE, Sampler


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPolicy:
    sampler: Sampler
    prompter: Prompter
    settings: PromptSettings


@contextmanager
def open_policy(
    model: str,
    *,
    engine: str = "vllm",
    longest_px: int | None = None,
    preset: str | None = None,
    instruction: str | None = None,
) -> Iterator[OpenPolicy]:
    """Any model folder or hub name; "nano" is the embedded policy.

    It is asked as it is known for (`models.known`), as another model is (`preset`), or with one's own instruction.
    """
    folder = model_folder(model)
    dtype = use_dtype(folder)
    policy = config.Policy(path=folder, dtype=dtype, longest_px=longest_px, preset=preset, instruction=instruction)
    origin = open_origin(policy, folder)
    settings = origin.settings
    sampling = config.Sampling.model_validate(
        {
            "engine": engine,
            "dtype": dtype,
            "max_model_len": settings.max_prompt_tokens + settings.max_tokens,
            **({"gpu_share": GPU_SHARE_ALONE} if engine == "vllm" else {}),
        }
    )
    sampler = open_sampler(sampling, origin, policy)
    try:
        yield OpenPolicy(sampler=sampler, prompter=origin.prompter, settings=settings)
    finally:
        sampler.close()


def open_origin(policy: config.Policy, path: str) -> Origin:
    """The model of a folder or hub name, asked as its preset or its own settings say, and over these the recipe."""
    given = {field.name: getattr(policy, field.name) for field in fields(PromptSettings)}
    given = {name: value for name, value in given.items() if value is not None}
    settings = replace(read_settings(path, policy.preset), **given)
    prompter = load_prompter(
        path,
        settings.longest_px,
        instruction=settings.instruction,
        image_first=settings.image_first,
        max_prompt_tokens=settings.max_prompt_tokens,
        trust_remote_code=policy.trust_remote_code,
    )
    return Origin(path=path, settings=settings, prompter=prompter)


def open_learning_origin(recipe: config.Recipe, path: str) -> Origin:
    """The model that a recipe starts from: one without a format of its own is asked for what the recipe rewards."""
    policy = recipe.policy
    if policy.instruction is None:
        asked_for = instruction_to_learn(path, policy.preset, front_matter=recipe.wants_front_matter)
        policy = policy.model_copy(update={"instruction": asked_for})
    return open_origin(policy, path)


def open_sampler(sampling: config.Sampling, origin: Origin, policy: config.Policy) -> Sampler:
    """The engine that the recipe names, with the origin's weights."""
    if sampling.engine == "transformers":
        from ocr_rl.rollout.sampler.hf import HfSampler

        return HfSampler(
            origin.path,
            origin.prompter,
            dtype=sampling_dtype(sampling, policy),
            trust_remote_code=policy.trust_remote_code,
        )
    if sampling.engine == "vllm_server":
        from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler

        assert sampling.url is not None  # config.Sampling sees to it
        server = ServerSettings(
            url=sampling.url,
            max_model_len=sampling.max_model_len,
            max_num_seqs=sampling.max_num_seqs,
            dtype=sampling_dtype(sampling, policy),
            weights_dir=sampling.weights_dir,
            deadline_s=sampling.deadline_s,
            wait_s=sampling.server_wait_s,
        )
        return VllmServerSampler(origin.path, origin.prompter, server)
    try:
        from ocr_rl.learn.memory import learns_to_see, shape_of
        from ocr_rl.rollout.sampler.vllm.engine import EngineSettings, VllmSampler
    except ModuleNotFoundError as error:
        raise UserError(
            f"sampling.engine: vLLM is not installed ({error}); install ocr-rl[vllm] (CUDA) or ocr-rl[cpu], "
            'or set engine = "transformers".'
        ) from None
    engine = EngineSettings(
        dtype=sampling_dtype(sampling, policy),
        max_model_len=sampling.max_model_len,
        max_num_seqs=sampling.max_num_seqs,
        gpu_share=sampling.gpu_share,
        sleep=sampling.sleep,
        trust_remote_code=policy.trust_remote_code,
        lora_rank=policy.lora_rank,
        lora_in_tower=policy.lora_rank > 0 and learns_to_see(shape_of(policy, origin.path)),
    )
    return VllmSampler(origin.path, origin.prompter, engine)
