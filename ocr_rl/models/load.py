"""The weights of a policy, from a folder or the hub: safetensors only, whole or not at all."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from ocr_rl import config
from ocr_rl.contract import UserError
from ocr_rl.models.families import family_of
from ocr_rl.models.family import Family

Dtype = Literal["float32", "bfloat16"]
_OTHER_FORMATS = ["*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.gguf", "*.onnx", "original/*"]  # never read here
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def model_folder(name: str, commit: str | None = None) -> str:
    """The folder that everybody reads: a hub name's is its snapshot, which is downloaded unless it is there.

    Of the hub's newest commit, or of that `commit`. "nano" is the embedded policy (in the wheel, or in a checkout's
    data/). UserError for a name that nobody has.
    """
    if name != "nano":
        return name if Path(name).is_dir() else _snapshot(name, commit)
    package = Path(str(files("ocr_rl")))
    for folder in (package / "nano", package.parent / "data" / "nano"):
        if (folder / "config.json").exists():
            return str(folder)
    raise UserError(
        "The embedded policy's weights are not there: train it with `make nano` and name its folder instead."
    )


def weight_files(folder: str) -> list[Path]:
    """In the order of their names."""
    return sorted(Path(folder).glob("*.safetensors"))


def commit_of(folder: str) -> str | None:
    """The hub's commit that a folder is a snapshot of; None for a folder of one's own."""
    parent = Path(folder).parent
    return Path(folder).name if parent.name == "snapshots" and parent.parent.name.startswith("models--") else None


def hub_name_of(folder: str) -> str:
    """What others call the model of a folder: its hub name where it is a snapshot of one, else the folder itself."""
    if commit_of(folder) is None:
        return folder
    return Path(folder).parent.parent.name.removeprefix("models--").replace("--", "/")


def _snapshot(name: str, commit: str | None) -> str:
    try:
        return snapshot_download(name, revision=commit, ignore_patterns=_OTHER_FORMATS)
    except (OSError, ValueError) as error:  # no such name, no network, or nothing in the cache without one
        raise UserError(f"Model {name}: cannot be loaded: {str(error).strip().splitlines()[0]}") from None


def load_config(path: str, *, trust_remote_code: bool = False) -> Any:
    """The configuration of a model of a known family, from a folder or the hub. UserError for anything else."""
    try:
        settings = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"Model {path}: cannot be loaded: {str(error).strip().splitlines()[0]}") from None
    try:
        family = family_of(settings)
    except LookupError as error:
        raise UserError(f"Model {path}: {error}.") from None
    own = family.settings(settings)
    if not isinstance(own, family.config_class):
        raise UserError(
            f"Model {path}: its config.json names {settings.architectures} and the model type of another family, "
            f"{settings.model_type}; copy the folder again."
        )
    return own


def load_family(path: str, *, trust_remote_code: bool = False) -> Family:
    """The family of a folder or hub name. Raises UserError as `load_config` does."""
    return family_of(load_config(path, trust_remote_code=trust_remote_code))


def has_gpu() -> bool:
    """Whether policies run on a GPU here."""
    return torch.cuda.is_available()


def use_dtype(path: str) -> Dtype:
    """The dtype to use a policy in: bfloat16 where it is stored so and there is a GPU, float32 otherwise."""
    return "bfloat16" if torch.cuda.is_available() and load_config(path).dtype == torch.bfloat16 else "float32"


def sampling_dtype(sampling: config.Sampling, policy: config.Policy, *, on_gpu: bool | None = None) -> Dtype:
    """In what the engine computes: what the recipe says, else bfloat16 on a GPU and the learner's dtype without one.

    `on_gpu`: of a machine that is only planned.
    """
    if sampling.dtype is not None:
        return sampling.dtype
    on_gpu = torch.cuda.is_available() if on_gpu is None else on_gpu
    return "bfloat16" if on_gpu else policy.dtype


def empty_model(path: str, *, tied: bool, dtype: str = "float32", trust_remote_code: bool = False) -> PreTrainedModel:
    """The model of a folder as `load_model` gives it, but for its numbers, which are whatever memory holds.

    For who is given the numbers by somebody else: no file of weights is read, and no memory touched. `tied`: whether
    the head is the embedding, which the files say (`load_model`), and the configuration may say otherwise.
    """
    settings = load_config(path, trust_remote_code=trust_remote_code)
    settings.tie_word_embeddings = settings.text_config.tie_word_embeddings = tied
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            settings, dtype=DTYPES[dtype], attn_implementation="sdpa", trust_remote_code=trust_remote_code
        )
    model.to_empty(device="cpu")
    model.tie_weights()
    family_of(settings).prepare(model)
    return model


def load_model(path: str, *, dtype: str = "float32", trust_remote_code: bool = False) -> PreTrainedModel:
    """A model from a folder or the hub; safetensors only."""
    settings = load_config(path, trust_remote_code=trust_remote_code)
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(  # type: ignore[misc]
            path,
            config=settings,  # by it the class is chosen
            dtype=DTYPES[dtype],
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # RuntimeError: shapes that do not fit
        raise UserError(f"Model {path}: cannot be loaded: {str(error).strip().splitlines()[0]}") from None
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise UserError(f"Model {path}: its weights lack {missing[0]} ({len(missing)} in all); copy the folder again.")
    # A file with a head of its own stays untied, whatever its configuration says: saved, it must say so.
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = tied
    family_of(settings).prepare(model)
    return model
