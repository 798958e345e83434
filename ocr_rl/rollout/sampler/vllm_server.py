"""vLLM's own server over HTTP: for an engine on other devices, or other machines, than the learner's.

It knows nothing about scoring or training, and imports nothing of vLLM. Token ids go in with the page's image, token
ids and log-probabilities come out (`/inference/v1/generate`); weights are written to a folder that the server reads
too. The server keeps the name of the weights that it holds, stamps it on every answer and forgets it when it is
started again: so an answer from other weights cannot pass for ours. One server serves one run at a time.

A server that is dead, too slow, or holds other weights is reported in one line and waited for, then the pages that it
has not answered are asked again: seeds are by page, so their samples are those of an undisturbed run.
"""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ocr_rl.contract import Page, UserError
from ocr_rl.models.load import load_config, load_model
from ocr_rl.models.weights import Adapter, Weights, lora_room
from ocr_rl.rollout.flow import Group, Prompt, Sample
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampling, require_adapters, require_room, seed_for
from ocr_rl.rollout.sampler.wire import ServerDown, Wire

BANNED = -1e30  # added to a logit: JSON has no infinity, and this leaves a probability of exactly 0
_ADAPTER = "ocr-rl-"  # what the names of our adapters on the server begin with


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    url: str
    max_model_len: int = 2048  # of prompt and sample together; the server's own must not be smaller
    weights_dir: Path | None = None  # must have the same path here and there; None: the temporary folder
    deadline_s: float = 600.0  # for every remote call
    wait_s: float = 600.0  # for every wait for a server to come (back)


class VllmServerSampler:
    """A `Sampler` over a running `vllm serve` that this run has to itself."""

    def __init__(self, model: str | Path, prompter: Prompter, settings: ServerSettings) -> None:
        """`model` is the folder that the server reads first.

        Raises UserError when no server comes, or it was started with settings that do not fit.
        """
        prompter.family.require_engine(load_config(str(model)))
        self.policy = 0
        self._prompter, self._max_model_len = prompter, settings.max_model_len
        self._run, self._loads = uuid.uuid4().hex[:12], 0
        self._weights = Path(model).absolute()  # all of them, or what lies under the adapters
        self._weights_number = 0  # of the load that brought these
        self._base: str | None = str(model)  # what lies under adapters; None: weights that came from a learner
        self._adapter: Adapter | None = None
        self._adapter_dir: Path | None = None
        if settings.weights_dir is not None:
            settings.weights_dir.mkdir(parents=True, exist_ok=True)
        self._dir: Path | None = Path(tempfile.mkdtemp(prefix="weights-", dir=settings.weights_dir))
        self._wire = Wire(settings.url, deadline_s=settings.deadline_s, wait_s=settings.wait_s)
        try:
            self._wire.insist(self._hold_our_weights)
        except BaseException:
            self.close()
            raise

    def sample(self, prompts: Sequence[tuple[Page, Prompt]], how: Sampling) -> Iterator[Group]:
        if self._dir is None:
            raise RuntimeError("the sampler is closed")
        for _, prompt in prompts:
            require_room(prompt, how, self._max_model_len)
        waiting = dict(enumerate(prompts))
        failures = 0
        while waiting:
            try:
                self._hold_our_weights()
                for place, group in self._answers(waiting, how):
                    del waiting[place]
                    failures = 0
                    yield group
            except ServerDown as down:
                failures += 1
                self._wire.wait(down, failures)

    def load(self, weights: Weights, policy: int) -> None:
        if self._dir is None:
            raise RuntimeError("the sampler is closed")
        old = (self._weights, self._adapter_dir)
        self._loads += 1
        self.policy = policy
        folder = self._dir / f"{self._loads:06d}"
        if isinstance(weights, Adapter):
            self._adapter, self._adapter_dir = weights, folder
            weights.save(folder)
            if self._base != weights.base:
                # All names, as a learner's weights have them: from a folder without the tied head vLLM's CPU build
                # keeps the head that it had packed.
                self._weights, self._weights_number = self._dir / f"{self._loads:06d}-base", self._loads
                self._write(load_model(weights.base).state_dict().items(), self._weights)
                self._base = weights.base
        else:
            self._adapter, self._adapter_dir, self._base = None, None, None
            self._weights, self._weights_number = folder, self._loads
            self._write(weights, folder)
        self._wire.insist(self._hold_our_weights)
        for path in old:
            if path is not None and path.parent == self._dir and path != self._weights:
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        if self._dir is not None:
            shutil.rmtree(self._dir, ignore_errors=True)
            self._dir = None
            self._wire.close()

    @property
    def _version(self) -> str:
        """The name of the weights that the server should hold; no other run and no other load has the same."""
        return f"{self._base_version}-{self._loads}"

    @property
    def _base_version(self) -> str:
        """What the name begins with where the server holds our weights, if not yet these adapters over them."""
        return f"{self._run}-{self._weights_number}"

    # Weights

    def _write(self, weights: Iterable[tuple[str, Tensor]], folder: Path) -> None:
        """One safetensors file. Tied weights share their memory, which the format does not have: each gets its own."""
        own: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, weight in self._prompter.family.engine_names(weights):
            plain = weight.detach().cpu().contiguous()
            own[name] = plain.clone() if plain.data_ptr() in seen else plain
            seen.add(plain.data_ptr())
        folder.mkdir(parents=True)
        save_file(own, folder / "model.safetensors")

    def _hold_our_weights(self) -> None:
        """Have the server read our weights unless it holds them, and forget whatever it computed with others."""
        version = str(self._wire.call("/weight_info", method="GET").get("weight_version"))
        if version == self._version:
            return
        # Pausing ends requests that somebody has left behind, as a learner that was killed does.
        self._wire.call("/pause", params={"mode": "abort"})
        if not version.startswith(f"{self._base_version}-"):
            reload = {"method": "reload_weights", "kwargs": {"weights_path": str(self._weights)}}
            try:
                self._wire.call("/collective_rpc", reload)
            except ServerDown as down:
                raise ServerDown(f"{down} (can it read {self._weights}? sampling.weights_dir says where)") from None
        self._hold_our_adapter()
        if self._wire.call("/reset_prefix_cache").get("success") is not True:
            raise ServerDown("could not empty its prefix cache")
        # On both sides, in the server and in its engine: left alone they silently serve what the old vision tower saw.
        self._wire.call("/reset_mm_cache")
        self._wire.call("/reset_encoder_cache")
        self._wire.call("/resume")
        self._check_settings()  # with every load: a server that was started again may have been given others
        self._wire.call("/update_weight_version", {"new_version": self._version})

    def _hold_our_adapter(self) -> None:
        """The adapter under the name of this load, so that nothing cached for another one is taken for it."""
        served = [card["id"] for card in self._wire.call("/v1/models", method="GET").get("data") or ()]
        for name in served:
            if name.startswith(_ADAPTER) and name != self._model:
                self._wire.call("/v1/unload_lora_adapter", {"lora_name": name}, sentence=True)
        if self._adapter is None:
            return
        self._require_adapters(self._adapter)
        if self._model not in served:
            body = {"lora_name": self._model, "lora_path": str(self._adapter_dir)}
            self._wire.call("/v1/load_lora_adapter", body, sentence=True)

    def _require_adapters(self, adapter: Adapter) -> None:
        """UserError where the server was not started for these: it would leave a tower's adapters out in silence."""
        info = self._wire.call("/server_info", method="GET", params={"config_format": "json"})
        lora = (info.get("vllm_config") or {}).get("lora_config") or {}
        in_tower = any(self._prompter.family.of_vision(name) for name in adapter.tensors)
        require_adapters(self._prompter.family, in_tower=in_tower)
        tower_left_out = in_tower and not lora.get("enable_tower_connector_lora")
        if lora.get("max_lora_rank", 0) < adapter.config.r or tower_left_out:
            flags = f"--enable-lora --max-lora-rank {lora_room(adapter.config.r)}"
            raise UserError(
                f"The server {self._wire.url} takes no such adapters: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 "
                f"and {flags}{' --enable-tower-connector-lora' if in_tower else ''}."
            )

    @property
    def _model(self) -> str | None:
        """The model to ask for: our adapter, or None for the weights themselves."""
        return None if self._adapter is None else f"{_ADAPTER}{self._version}"

    def _check_settings(self) -> None:
        """UserError where the server's own settings would give other log-probabilities, or cut samples short.

        Not before the load: a load that failed, for whoever was here last, leaves an engine that dies when asked.
        """
        shown = self._wire.call("/v1/models", method="GET").get("data") or [{}]
        longest = shown[0].get("max_model_len")
        if not isinstance(longest, int) or longest < self._max_model_len:
            raise UserError(
                f"sampling.max_model_len is {self._max_model_len}, that of the server {self._wire.url} {longest}: "
                "start it with a larger --max-model-len, or lower the setting."
            )
        # With one token allowed its probability is 1, unless the server says what it was before the ban.
        only = {"temperature": 1.0, "max_tokens": 1, "logprobs": 0, "ignore_eos": True, "detokenize": False}
        ids = [token for token in self._prompter.token_ids if token not in self._prompter.banned_ids] or [0]
        body = {"token_ids": ids, "sampling_params": {**only, "allowed_token_ids": [self._prompter.eos_id]}}
        logprob = self._wire.call("/inference/v1/generate", body)["choices"][0]["logprobs"]["content"][0]["logprob"]
        if abs(logprob) > 1e-3:
            raise UserError(
                f"The server {self._wire.url} gives log-probabilities of another distribution than the one sampled "
                "from: start it with --logprobs-mode processed_logprobs."
            )

    # Samples

    def _answers(self, waiting: dict[int, tuple[Page, Prompt]], how: Sampling) -> Iterator[tuple[int, Group]]:
        """Groups with their place in `waiting`, as they finish. Left half-way, it gives the rest up."""
        places: dict[Future[Any], int] = {}
        try:
            for place, (page, prompt) in waiting.items():
                body = self._body(page, prompt, how)
                places[self._wire.start(self._wire.post("/inference/v1/generate", body))] = place
            for answer in as_completed(places):
                place = places[answer]
                yield place, self._group(*waiting[place], answer.result(), how)
        finally:
            for answer in places:
                answer.cancel()

    def _body(self, page: Page, prompt: Prompt, how: Sampling) -> dict[str, Any]:
        """One page: its image once, its prompt with one placeholder, which vLLM expands."""
        png = io.BytesIO()
        self._prompter.image(prompt).save(png, "PNG", compress_level=1)
        url = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")
        return {
            **({} if self._model is None else {"model": self._model}),
            "token_ids": list(prompt.token_ids),
            "content_parts": [{"type": "image_url", "url": url}],
            "return_token_ids": True,
            "sampling_params": {  # the same as in sampler/vllm
                "n": how.n,
                "temperature": how.temperature,
                "max_tokens": how.max_tokens,
                "seed": seed_for(how.seed, page.id),
                "stop_token_ids": [self._prompter.eos_id],
                "ignore_eos": True,
                "logit_bias": {str(token): BANNED for token in self._prompter.banned_ids},
                "logprobs": 0,
                "detokenize": False,
            },
        }

    def _group(self, page: Page, prompt: Prompt, answer: dict[str, Any], how: Sampling) -> Group:
        seen = tuple(answer.get("prompt_token_ids") or ())
        if seen != prompt.expanded_ids:
            raise RuntimeError(
                f"Page {page.id}: the server {self._wire.url} saw a prompt of {len(seen)} tokens, the learner computes "
                f"with {len(prompt.expanded_ids)}: their processors or chat formats differ."
            )
        choices = sorted(answer.get("choices") or (), key=lambda choice: choice["index"])
        if len(choices) != how.n:
            raise ServerDown(f"answered {len(choices)} of {how.n} samples")
        return Group(
            page=page,
            prompt=prompt,
            samples=tuple(map(self._read, choices)),
            temperature=how.temperature,
            banned_ids=self._prompter.banned_ids,
        )

    def _read(self, choice: dict[str, Any]) -> Sample:
        ids, finish = tuple(choice.get("token_ids") or ()), choice.get("finish_reason")
        logprobs = tuple(token["logprob"] for token in (choice.get("logprobs") or {}).get("content") or ())
        versions = {span["version"] for span in choice.get("weight_versions") or ()}
        if versions != {self._version}:
            raise ServerDown("answered with other weights than ours; was it started again, or does another run use it?")
        if finish not in ("stop", "length") or len(logprobs) != len(ids):
            raise ServerDown(f"left a sample unfinished ({finish}, {len(logprobs)} log-probabilities of {len(ids)})")
        if (finish == "stop") != (ids[-1:] == (self._prompter.eos_id,)):
            raise RuntimeError(f"vLLM finished a sample by {finish!r} but its last token is {ids[-1:]}")
        return Sample(
            token_ids=ids, logprobs=logprobs, text=self._prompter.decode(ids), finish=finish, policy=self.policy
        )
