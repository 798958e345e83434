"""The server sampler against a server that misbehaves on order, and once against vLLM's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

import torch

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.models.load import model_folder
from ocr_rl.models.settings import PromptSettings
from ocr_rl.models.weights import Adapter
from ocr_rl.policy import open_sampler
from ocr_rl.rollout.flow import Prompt
from ocr_rl.rollout.prompt import Origin, Prompter
from ocr_rl.rollout.sampler import wire
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.rollout.sampler.server import BANNED
from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler
from ocr_rl.rollout.sampler.wire import REDOS
from tests.fake_vllm import FakeVllm, _sum

HOW = Sampling(n=3, temperature=0.7, max_tokens=60, seed=5)
Open = Callable[..., VllmServerSampler]


@pytest.fixture
def fake(prompter: Prompter, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVllm]:
    monkeypatch.setattr(wire, "POLL_S", 0.02)
    server = FakeVllm(prompter)
    yield server
    server.stop()


@pytest.fixture
def open_(fake: FakeVllm, nano_dir: Path, prompter: Prompter, tmp_path: Path) -> Iterator[Open]:
    opened = []

    def open_one(**settings) -> VllmServerSampler:
        given = {"max_model_len": 256, "weights_dir": tmp_path, "deadline_s": 30.0, "wait_s": 30.0, **settings}
        opened.append(VllmServerSampler(nano_dir, prompter, ServerSettings(url=fake.url, **given)))
        return opened[-1]

    yield open_one
    for sampler in opened:
        sampler.close()


@pytest.fixture(scope="module")
def asked(tiny_pages: list[Page], prompter: Prompter) -> list[tuple[Page, Prompt]]:
    return [(page, prompter.prompt(page)) for page in tiny_pages]


def test_a_hub_name_is_read_by_the_server_from_its_snapshot(
    fake: FakeVllm, nano_dir: Path, prompter: Prompter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocr_rl.models.load.snapshot_download", lambda name, **how: str(nano_dir))
    folder = model_folder("Somebody/Some-Model")
    origin = Origin(path=folder, settings=PromptSettings(), prompter=prompter)
    sampling = config.Sampling(engine="vllm_server", url=fake.url, weights_dir=tmp_path, max_model_len=256)
    open_sampler(sampling, origin, config.Policy(path="Somebody/Some-Model")).close()
    assert fake.loaded == _sum(str(nano_dir))


def weights(value: float) -> Iterator[tuple[str, torch.Tensor]]:
    shared = torch.full((2, 2), value)
    yield "embed", shared
    yield "head", shared  # tied: the same memory under two names


def written(sampler: VllmServerSampler, asked, how: Sampling = HOW) -> list[list[str]]:
    groups = sorted(sampler.sample(asked, how), key=lambda group: group.page.number)
    return [[sample.text for sample in group.samples] for group in groups]


@pytest.mark.parametrize(
    "fault",
    ["dies", "error", "half an answer", "one sample less", "half the log-probabilities", "aborted", "old weights"],
)
def test_what_a_fault_took_is_asked_again_and_the_step_is_as_if_nothing_had_happened(
    open_: Open, fake: FakeVllm, asked, fault: str, capsys: pytest.CaptureFixture
) -> None:
    sampler = open_()
    sampler.load(weights(2.0), 1)
    undisturbed = written(sampler, asked)
    fake.faults = ["", fault]
    assert written(sampler, asked) == undisturbed
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and fake.url in lines[0], "one line says what happened"


def test_trap_9_a_server_slower_than_the_deadline_is_reported_and_asked_again(open_, fake, asked, capsys) -> None:
    sampler = open_(deadline_s=1.0)
    fake.faults = ["slow"]
    assert len(written(sampler, asked)) == len(asked)
    assert "did not answer /inference/v1/generate within 1 s" in capsys.readouterr().out


def test_a_fault_that_comes_again_and_again_ends_the_run_with_a_sentence(open_, fake, asked) -> None:
    sampler = open_()
    fake.faults = ["error"] * len(asked) * REDOS
    with pytest.raises(UserError, match=rf"failed {REDOS} times in a row.*EngineDeadError"):
        written(sampler, asked)


def test_trap_9_a_server_that_does_not_come_back_is_waited_for_no_longer_than_the_setting(open_, fake, asked) -> None:
    sampler = open_(wait_s=0.1)
    fake.stop()
    with pytest.raises(UserError, match=r"was not back within 0.1 s \(sampling.server_wait_s\)"):
        written(sampler, asked)
    fake.start()
    assert len(written(sampler, asked)) == len(asked)


def test_trap_8_a_restarted_server_gets_our_weights_again_before_it_writes(open_, fake, asked) -> None:
    sampler = open_()
    sampler.load(weights(2.0), 1)
    ours = written(sampler, asked)
    fake.stop()
    fake.start()
    fake.calls.clear()
    assert written(sampler, asked) == ours
    assert fake.calls.index("/collective_rpc") < fake.calls.index("/inference/v1/generate")


def test_trap_2_new_weights_are_read_all_caches_emptied_and_the_old_file_goes(
    open_, fake, asked, tmp_path: Path
) -> None:
    sampler = open_()
    sampler.load(weights(2.0), 1)
    before = written(sampler, asked)
    fake.calls.clear()
    sampler.load(weights(3.0), 2)
    order = ["/pause", "/collective_rpc", "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache"]
    assert [call for call in fake.calls if call in order] == order
    assert written(sampler, asked) != before
    assert len(list(tmp_path.glob("*/*/model.safetensors"))) == 1
    sampler.close()
    assert not list(tmp_path.iterdir())


def adapter(value: float, base: Path, layer: str = "model.language_model.layers.0.self_attn.q_proj") -> Adapter:
    from peft import LoraConfig

    lora = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"])
    tensors = {f"base_model.model.{layer}.lora_{part}.weight": torch.full((2, 2), value) for part in "AB"}
    return Adapter(base=str(base), marks={}, config=lora, tensors=tensors)


def test_adapters_have_a_name_of_their_own_over_weights_that_are_read_once(open_, fake, asked, nano_dir, tmp_path):
    sampler = open_()
    fake.calls.clear()
    texts = []
    for policy in (1, 2):
        sampler.load(adapter(float(policy), nano_dir), policy)
        assert len(fake.adapters) == 1  # the one before is taken off
        texts.append(written(sampler, asked))
    assert texts[0] != texts[1] and "with" in texts[0][0][0]
    assert "/collective_rpc" not in fake.calls  # the base is there since the start
    assert fake.calls.count("/v1/load_lora_adapter") == 2 and fake.calls.count("/reset_encoder_cache") == 2
    assert len(list(tmp_path.glob("*/*/adapter_model.safetensors"))) == 1
    sampler.load(weights(2.0), 3)
    assert not fake.adapters and "with" not in written(sampler, asked)[0][0]
    sampler.load(adapter(1.0, nano_dir), 4)  # over weights that it no longer holds
    assert fake.calls.count("/collective_rpc") == 2
    assert written(sampler, asked)[0][0].endswith(texts[0][0][0].partition(" with ")[2])  # the first adapters again
    sampler.load(adapter(2.0, nano_dir), 5)
    assert fake.calls.count("/collective_rpc") == 2


def test_trap_8_a_restarted_server_gets_base_and_adapters_again(open_, fake, asked, nano_dir) -> None:
    sampler = open_()
    sampler.load(adapter(1.0, nano_dir), 1)
    ours = written(sampler, asked)
    fake.faults = ["", "dies"]  # and is back without adapters
    assert written(sampler, asked) == ours
    assert fake.calls.index("/collective_rpc") < fake.calls.index("/v1/load_lora_adapter")


@pytest.mark.parametrize(
    ("lora", "says"),
    [
        (None, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora --max-lora-rank 8"),
        ({"max_lora_rank": 1}, "--max-lora-rank 8"),
        ({"max_lora_rank": 8, "enable_tower_connector_lora": False}, "--enable-tower-connector-lora"),
    ],
)
def test_trap_21_a_server_that_would_leave_adapters_out_is_refused(open_, fake, nano_dir, lora, says: str) -> None:
    sampler = open_()
    fake.lora = lora
    with pytest.raises(UserError, match=says):
        sampler.load(adapter(1.0, nano_dir, layer="model.visual.blocks.0.attn.qkv"), 1)


def test_trap_1_a_prompt_that_the_learner_would_see_differently_is_never_learnt_from(open_, fake, asked) -> None:
    sampler = open_()
    fake.faults = ["wrong prompt"]
    with pytest.raises(RuntimeError, match="saw a prompt of"):
        written(sampler, asked)


def test_all_pages_are_in_flight_at_once(open_, fake, asked, monkeypatch) -> None:
    sampler = open_()
    seen: list[int] = []
    write = fake.write

    def wait_for_all(body):
        seen.append(1)
        while len(seen) < len(asked):
            pass
        return write(body)

    monkeypatch.setattr(fake, "write", wait_for_all)
    assert len(written(sampler, asked)) == len(asked)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"raw_logprobs": True}, "--logprobs-mode processed_logprobs"),
        ({"max_model_len": 100}, "larger --max-model-len"),
        ({"missing": {"/v1/models"}}, "--enable-scale-out"),
    ],
)
def test_a_server_started_with_other_settings_is_refused(open_, fake, wrong: dict, says: str) -> None:
    for name, value in wrong.items():
        setattr(fake, name, value)
    with pytest.raises(UserError, match=says):
        open_()


@pytest.mark.parametrize(("name", "value"), [("raw_logprobs", True), ("max_model_len", 100)])
def test_a_server_started_again_with_other_settings_is_refused_too(open_, fake, asked, name: str, value) -> None:
    sampler = open_()
    assert written(sampler, asked)
    fake.stop()
    setattr(fake, name, value)
    fake.start()
    with pytest.raises(UserError, match="start it with"):
        written(sampler, asked)


def test_banned_ids_get_no_probability_at_all(prompter: Prompter) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        logits = torch.tensor([3.0, 50.0], dtype=dtype) + torch.tensor([0.0, BANNED], dtype=dtype)
        assert logits.log_softmax(-1)[0] == 0


def test_a_closed_sampler_says_so(open_, asked) -> None:
    sampler = open_()
    sampler.close()
    sampler.close()
    with pytest.raises(RuntimeError, match="closed"):
        written(sampler, asked)
