"""One vLLM server: what it holds, and what it answers. It knows nothing about other servers.

The server keeps the name of the weights that it holds, stamps it on every answer and forgets it when it is started
again: so an answer from other weights cannot pass for ours.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ocr_rl.contract import Page, UserError
from ocr_rl.rollout.aside import begin
from ocr_rl.rollout.flow import Group, Prompt, Sample
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampling, require_adapters, seed_for
from ocr_rl.rollout.sampler.vllm_transfer import Transfer
from ocr_rl.rollout.sampler.wire import ServerDown, Wire

if TYPE_CHECKING:
    from ocr_rl.models.weights import Adapter
    from ocr_rl.rollout.sampler.vllm_loads import Load

UNUSED = "default"  # what vLLM calls the weights that it was started with
READINGS = 4  # of a file after a transfer that broke off, at most
BANNED = -1e30  # added to a logit: JSON has no infinity, and this leaves a probability of exactly 0


class Server:
    """A running `vllm serve` that this run has to itself."""

    def __init__(self, wire: Wire, prompter: Prompter, max_model_len: int) -> None:
        self.wire = wire
        self.transfer = Transfer(wire)
        self.down: ServerDown | None = None  # why it is to be waited for
        self._failures = 0  # in a row, without a new group
        self._prompter, self._max_model_len = prompter, max_model_len
        self._coming: Future[None] | None = None

    # Is it there?

    def come(self, load: Callable[[], Load]) -> Future[None]:
        """Done once it holds the load: one that is down is waited for first. It comes once at a time.

        ServerDown where it fails (and `come` again waits for it); UserError where waiting does not help.
        """
        if self._coming is None or self._coming.done():
            self._coming = begin(partial(self._come, load))
        return self._coming

    def fails(self, down: ServerDown) -> None:
        self.down = down
        self._failures += 1

    def forgive(self) -> None:
        """It gave a group, or somebody has been told: what failed before is forgotten."""
        self._failures = 0

    def _come(self, load: Callable[[], Load]) -> None:
        if self.down is not None:
            self.wire.wait(self.down, self._failures)
        held = None
        while held is not (now := load()):  # a newer one may have been written while it read
            try:
                self._hold(now)
            except ServerDown as down:
                self.fails(down)
                raise
            held = now
        self.down = None

    # Weights

    def _hold(self, load: Load) -> None:
        """Have the server read the weights unless it holds them, and forget whatever it computed with others."""
        version = str(self.wire.call("/weight_info", method="GET").get("weight_version"))
        if version == load.version:
            return
        # Pausing ends requests that somebody has left behind, as a learner that was killed does.
        self.wire.call("/pause", params={"mode": "abort"})
        if not version.startswith(f"{load.run}-"):
            self.transfer.meet(used=version != UNUSED)
        if not version.startswith(f"{load.base_version}-"):
            self._give(load)
        self._hold_adapter(load)
        if self.wire.call("/reset_prefix_cache").get("success") is not True:
            raise ServerDown("could not empty its prefix cache")
        # On both sides, in the server and in its engine: left alone they silently serve what the old vision tower saw.
        self.wire.call("/reset_mm_cache")
        self.wire.call("/reset_encoder_cache")
        self.wire.call("/resume")
        self._check_settings()  # with every load: a server that was started again may have been given others
        self.wire.call("/update_weight_version", {"new_version": load.version})

    def _give(self, load: Load) -> None:
        """All weights: sent where the server takes them so, read by it from a file otherwise."""
        transfer = self.transfer
        ready = transfer.offered and not transfer.torn
        sent = ready and load.tensors is not None and transfer.send(load.tensors)
        if transfer.torn:
            self._heal(load)
        elif not sent:
            self._have_read(load)
        elif not transfer.proven:
            came = self._digests()
            self._have_read(load)
            transfer.proven = came == self._digests() != {}
            if not transfer.proven:
                transfer.give_up("what came was not what the file says")

    def _have_read(self, load: Load) -> None:
        folder = load.file()
        reload = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        try:
            self.wire.call("/collective_rpc", reload)
        except ServerDown as down:
            raise ServerDown(f"{down} (can it read {folder}? sampling.weights_dir says where)") from None

    def _heal(self, load: Load) -> None:
        """Read after a transfer that broke off, until the server holds the same twice.

        What the transfer has left of a layer counts towards what comes next: that reading fails, or leaves a mixture.
        """
        held: list[dict[str, str]] = []
        for _ in range(READINGS):
            with suppress(ServerDown):
                self._have_read(load)
                held.append(self._digests())
                if held[-1] and held[-2:-1] == held[-1:]:
                    self.transfer.torn = False
                    return
        raise ServerDown("reads no weights any more since a transfer of them broke off")

    def _digests(self) -> dict[str, str]:
        """Of each weight as the server holds it."""
        return self.wire.call("/weight_checker", {"action": "checksum"}).get("checksums") or {}

    def _hold_adapter(self, load: Load) -> None:
        """The adapter under the name of this load, so that nothing cached for another one is taken for it."""
        from ocr_rl.rollout.sampler.vllm_loads import ADAPTER

        served = [card["id"] for card in self.wire.call("/v1/models", method="GET").get("data") or ()]
        for name in served:
            if name.startswith(ADAPTER) and name != load.model:
                self.wire.call("/v1/unload_lora_adapter", {"lora_name": name}, sentence=True)
        if load.adapter is None:
            return
        self._require_adapters(load.adapter)
        if load.model not in served:
            body = {"lora_name": load.model, "lora_path": str(load.adapter_dir)}
            self.wire.call("/v1/load_lora_adapter", body, sentence=True)

    def _require_adapters(self, adapter: Adapter) -> None:
        """UserError where the server was not started for these: it would leave a tower's adapters out in silence."""
        info = self.wire.call("/server_info", method="GET", params={"config_format": "json"})
        lora = (info.get("vllm_config") or {}).get("lora_config") or {}
        in_tower = any(self._prompter.family.of_vision(name) for name in adapter.tensors)
        require_adapters(self._prompter.family, in_tower=in_tower)
        tower_left_out = in_tower and not lora.get("enable_tower_connector_lora")
        if lora.get("max_lora_rank", 0) < adapter.config.r or tower_left_out:
            from ocr_rl.models.weights import lora_room

            flags = f"--enable-lora --max-lora-rank {lora_room(adapter.config.r)}"
            raise UserError(
                f"The server {self.wire.url} takes no such adapters: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 "
                f"and {flags}{' --enable-tower-connector-lora' if in_tower else ''}."
            )

    def _check_settings(self) -> None:
        """UserError where the server's own settings would give other log-probabilities, or cut samples short.

        Not before the load: a load that failed, for whoever was here last, leaves an engine that dies when asked.
        """
        shown = self.wire.call("/v1/models", method="GET").get("data") or [{}]
        longest = shown[0].get("max_model_len")
        if not isinstance(longest, int) or longest < self._max_model_len:
            raise UserError(
                f"sampling.max_model_len is {self._max_model_len}, that of the server {self.wire.url} {longest}: "
                "start it with a larger --max-model-len, or lower the setting."
            )
        # With one token allowed its probability is 1, unless the server says what it was before the ban.
        only = {"temperature": 1.0, "max_tokens": 1, "logprobs": 0, "ignore_eos": True, "detokenize": False}
        ids = [token for token in self._prompter.token_ids if token not in self._prompter.banned_ids] or [0]
        body = {"token_ids": ids, "sampling_params": {**only, "allowed_token_ids": [self._prompter.eos_id]}}
        logprob = self.wire.call("/inference/v1/generate", body)["choices"][0]["logprobs"]["content"][0]["logprob"]
        if abs(logprob) > 1e-3:
            raise UserError(
                f"The server {self.wire.url} gives log-probabilities of another distribution than the one sampled "
                "from: start it with --logprobs-mode processed_logprobs."
            )

    # Samples

    def ask(self, page: Page, prompt: Prompt, how: Sampling, load: Load) -> Future[dict[str, Any]]:
        """One page: its image once, its prompt with one placeholder, which vLLM expands. `read` reads the answer."""
        png = io.BytesIO()
        self._prompter.image(prompt).save(png, "PNG", compress_level=1)
        url = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")
        body = {
            **({} if load.model is None else {"model": load.model}),
            "token_ids": list(prompt.token_ids),
            "content_parts": [{"type": "image_url", "url": url}],
            "return_token_ids": True,
            "sampling_params": {  # the same as in sampler/vllm
                "n": how.n,
                "temperature": how.temperature,
                "max_tokens": how.limit(page.id),
                "seed": seed_for(how.seed, page.id),
                "stop_token_ids": [self._prompter.eos_id],
                "ignore_eos": True,
                "logit_bias": {str(token): BANNED for token in self._prompter.banned_ids},
                "logprobs": 0,
                "detokenize": False,
            },
        }
        return self.wire.start(self.wire.post("/inference/v1/generate", body))

    def read(self, page: Page, prompt: Prompt, answer: dict[str, Any], how: Sampling, load: Load) -> Group:
        """The samples of an answer. ServerDown where they are not what was asked for, or of other weights."""
        seen = tuple(answer.get("prompt_token_ids") or ())
        if seen != prompt.expanded_ids:
            raise RuntimeError(
                f"Page {page.id}: the server {self.wire.url} saw a prompt of {len(seen)} tokens, the learner computes "
                f"with {len(prompt.expanded_ids)}: their processors or chat formats differ."
            )
        choices = sorted(answer.get("choices") or (), key=lambda choice: choice["index"])
        if len(choices) != how.n:
            raise ServerDown(f"answered {len(choices)} of {how.n} samples")
        return Group(
            page=page,
            prompt=prompt,
            samples=tuple(self._read(choice, load) for choice in choices),
            temperature=how.temperature,
            banned_ids=self._prompter.banned_ids,
        )

    def _read(self, choice: dict[str, Any], load: Load) -> Sample:
        ids, finish = tuple(choice.get("token_ids") or ()), choice.get("finish_reason")
        logprobs = tuple(token["logprob"] for token in (choice.get("logprobs") or {}).get("content") or ())
        versions = {span["version"] for span in choice.get("weight_versions") or ()}
        if versions != {load.version}:
            raise ServerDown("answered with other weights than ours; was it started again, or does another run use it?")
        if finish not in ("stop", "length") or len(logprobs) != len(ids):
            raise ServerDown(f"left a sample unfinished ({finish}, {len(logprobs)} log-probabilities of {len(ids)})")
        if (finish == "stop") != (ids[-1:] == (self._prompter.eos_id,)):
            raise RuntimeError(f"vLLM finished a sample by {finish!r} but its last token is {ids[-1:]}")
        return Sample(
            token_ids=ids, logprobs=logprobs, text=self._prompter.decode(ids), finish=finish, policy=load.policy
        )
