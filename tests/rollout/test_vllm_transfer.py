"""Weights without files, against a server that plays vLLM's part: when they are sent, and when that fails."""

from __future__ import annotations

import base64
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

import torch

from ocr_rl.contract import UserError
from ocr_rl.models.weights import Named
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler import vllm_transfer, wire
from ocr_rl.rollout.sampler.base import Sampling
from ocr_rl.rollout.sampler.vllm_loads import Load, Loads
from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler
from tests.fake_vllm import FakeVllm
from tests.rollout.test_vllm_server import adapter, written

HOW = Sampling(n=2, temperature=0.7, max_tokens=60, seed=5)
Open = Callable[..., VllmServerSampler]
NEW = "/collective_rpc"  # a file is read


@pytest.fixture
def fakes(prompter: Prompter, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeVllm]]:
    monkeypatch.setattr(wire, "POLL_S", 0.02)
    servers = [FakeVllm(prompter), FakeVllm(prompter)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def open_(
    fakes: list[FakeVllm], nano_dir: Path, prompter: Prompter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """A sampler over the first server, or both; the ones of `transfer` were started with one."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from tests.contracts import by_shared_memory

    by_shared_memory.open_way(monkeypatch, tmp_path / "pieces")
    opened = []

    def open_one(*, servers: int = 1, transfer: int = 1, **settings: Any) -> VllmServerSampler:
        for fake in fakes[:transfer]:
            fake.transfer = by_shared_memory.NAME
        given = {"max_model_len": 256, "weights_dir": tmp_path / "files", "deadline_s": 30.0, "wait_s": 30.0}
        urls = tuple(fake.url for fake in fakes[:servers])
        opened.append(VllmServerSampler(nano_dir, prompter, ServerSettings(url=urls, **{**given, **settings})))
        for fake in fakes:
            fake.calls.clear()
        return opened[-1]

    yield open_one
    for sampler in opened:
        sampler.close()


@pytest.fixture(scope="module")
def asked(tiny_pages, prompter: Prompter):
    return [(page, prompter.prompt(page)) for page in tiny_pages]


def weights(value: float, names: int = 9) -> list[tuple[str, torch.Tensor]]:
    shared = torch.full((2, 2), value)
    return [("embed", shared), ("head", shared)] + [(f"layer.{i}", torch.full((3,), value)) for i in range(names - 2)]


TOTAL = 8.0 + 21.0  # of `weights`, for each unit of the value


def test_weights_are_sent_piece_by_piece_every_cache_is_emptied_and_no_file_is_left(open_, fakes, asked, tmp_path):
    sampler, (fake, _) = open_(), fakes
    sampler.load(weights(1.0), 1)  # the proof
    assert fake.calls.count(NEW) == 1 and fake.calls.count("/weight_checker") == 2
    fake.calls.clear()
    fake.sent.clear()
    sampler.load(weights(2.0), 2)
    order = ["/pause", "/start_weight_update", "/update_weights", "/update_weights", "/finish_weight_update"]
    order += ["/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache", "/resume", "/update_weight_version"]
    assert [call for call in fake.calls if call in order] == order
    assert NEW not in fake.calls and "/server_info" not in fake.calls and "/weight_checker" not in fake.calls
    assert not list((tmp_path / "files").glob("*/*"))
    assert fake.loaded == f"{2 * TOTAL:.3f}" and fake.loaded in written(sampler, asked, HOW)[0][0]
    assert "/init_weight_transfer_engine" not in fake.sent, "they have met"


def test_a_server_that_comes_late_gets_what_was_sent_and_not_what_was_learnt_since(open_, fakes, asked) -> None:
    sampler, (fake, _) = open_(), fakes
    own = weights(1.0)
    sampler.load(own, 1)
    ours = written(sampler, asked, HOW)
    for _, weight in own:
        weight += 1  # the learner has moved
    fake.faults = ["", "dies"]
    fake.calls.clear()
    assert written(sampler, asked, HOW) == ours and fake.loaded == f"{TOTAL:.3f}"
    assert fake.calls.count("/init_weight_transfer_engine") == 1, "a new server is met anew"
    assert fake.calls.count(NEW) == 1 and fake.calls.count("/weight_checker") == 2, "and proven anew"


def test_of_two_servers_one_may_need_the_file(open_, fakes, asked, tmp_path) -> None:
    sampler = open_(servers=2, transfer=1)
    for policy in (1, 2):
        sampler.load(weights(float(policy)), policy)
        assert [fake.loaded for fake in fakes] == [f"{policy * TOTAL:.3f}"] * 2
    assert [fake.calls.count(NEW) for fake in fakes] == [1, 2]
    assert [fake.calls.count("/finish_weight_update") for fake in fakes] == [2, 0]
    assert len(list((tmp_path / "files").glob("*/*/model.safetensors"))) == 1


@pytest.mark.parametrize(
    ("fault", "reads", "says"),
    [
        ("refuses", 2, "it answered /update_weights with 500: CUDA error: invalid device context"),
        ("hangs", 2, "it did not"),
        ("rounds", 1, "what came was not what the file says"),
    ],
)
def test_a_transfer_that_fails_or_differs_is_not_used_again(
    open_, fakes, asked, capsys, fault: str, reads: int, says: str
) -> None:
    """A file is read until two readings agree after one that broke off: what it left counts towards the first."""
    sampler, (fake, _) = open_(deadline_s=1.0 if fault == "hangs" else 30.0), fakes
    fake.transfer_fault = fault
    sampler.load(weights(1.0), 1)
    assert fake.loaded == f"{TOTAL:.3f}" and fake.calls.count(NEW) == reads
    (line,) = capsys.readouterr().out.splitlines()
    assert f"{fake.url} gets its weights as files, not by shared_memory: {says}" in line
    fake.transfer_fault = ""
    fake.calls.clear()
    sampler.load(weights(2.0), 2)
    assert fake.loaded == f"{2 * TOTAL:.3f}"
    assert fake.calls.count(NEW) == 1 and "/start_weight_update" not in fake.calls
    assert len(written(sampler, asked, HOW)) == len(asked)


@pytest.mark.parametrize("gpu", [True, False])
def test_what_a_killed_run_may_have_left_in_pieces_is_read_until_it_holds(
    open_, fakes, nano_dir: Path, prompter: Prompter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    """The server lives on, and only that process knew that a transfer was on its way."""
    sampler, (fake, _) = open_(), fakes
    sampler.load(weights(1.0), 1)
    if not gpu:
        monkeypatch.setattr(vllm_transfer, "can_send", lambda backend="nccl": False)
    fake.calls.clear()
    settings = ServerSettings(url=fake.url, max_model_len=256, weights_dir=tmp_path / "other")
    other = VllmServerSampler(nano_dir, prompter, settings)
    assert fake.calls.count(NEW) == fake.calls.count("/weight_checker") == 2
    other.load(weights(2.0), 1)
    assert fake.loaded == f"{2 * TOTAL:.3f}" and fake.calls.count("/finish_weight_update") == gpu
    other.close()


def test_a_server_that_tells_no_digests_proves_nothing(open_, fakes, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, (fake, _) = open_(), fakes
    answer = fake.answer
    monkeypatch.setattr(fake, "answer", lambda path, body: {} if path == "/weight_checker" else answer(path, body))
    sampler.load(weights(1.0), 1)
    assert "what came was not what the file says" in capsys.readouterr().out


def test_a_server_that_comes_back_while_weights_are_gathered_waits_for_them(
    nano_dir: Path, prompter: Prompter, tmp_path: Path
) -> None:
    """Those before them are gone by then, and no file has them."""
    loads, seen = Loads(nano_dir, prompter.family, tmp_path), list[Load]()
    loads.take(weights(1.0), 1, keep=True)

    def gather() -> Iterator[tuple[str, torch.Tensor]]:
        late = threading.Thread(target=lambda: seen.append(loads.now))
        late.start()
        late.join(0.3)
        yield from weights(2.0)

    loads.take(gather(), 2, keep=True)
    while not seen:
        time.sleep(0.01)
    assert seen[0].number == 2 and seen[0].tensors is not None
    loads.close()


def test_a_place_where_transfers_fail_is_left_at_files(open_, fakes, asked, capsys) -> None:
    sampler, (fake, _) = open_(), fakes
    fake.transfer_fault = "refuses"
    for policy in range(1, 5):
        sampler.load(weights(float(policy)), policy)
        fake.stop()
        fake.start()
        written(sampler, asked, HOW)
    lines = [line for line in capsys.readouterr().out.splitlines() if "as files" in line]
    assert len(lines) == vllm_transfer.TRIES


def test_what_lies_under_adapters_is_sent_too(open_, fakes, nano_dir, tmp_path) -> None:
    sampler, (fake, _) = open_(), fakes
    sampler.load(weights(1.0), 1)
    sampler.load(adapter(1.0, nano_dir), 2)
    assert fake.calls.count("/finish_weight_update") == 2 and fake.calls.count(NEW) == 1
    assert len(fake.adapters) == 1
    assert not list((tmp_path / "files").glob("*/*/model.safetensors"))


def test_weights_of_one_state_are_sent_once_and_caches_emptied_each_time(open_, fakes) -> None:
    sampler, (fake, _) = open_(transfer=0), fakes
    reads: list[int] = []

    def gather() -> Iterator[tuple[str, torch.Tensor]]:
        reads.append(1)
        return iter(weights(1.0))

    for state in ("a", "a", "b"):
        sampler.load(Named(state=state, gather=gather), 1)
    assert len(reads) == 2 and fake.calls.count(NEW) == 2 and fake.calls.count("/reset_encoder_cache") == 3
    sampler.load(weights(2.0), 1)  # somebody else's
    sampler.load(Named(state="b", gather=gather), 1)
    assert len(reads) == 3 and fake.loaded == f"{TOTAL:.3f}"


def test_they_travel_in_what_the_server_computes_in(open_, fakes, tmp_path) -> None:
    """In a file too. A third is 0.33398 in bfloat16, and 1.00390625 rounds to even."""
    sampler, (fake, _) = open_(transfer=0, dtype="bfloat16"), fakes
    sampler.load([("a", torch.tensor([1 / 3])), ("b", torch.tensor([7])), ("c", torch.tensor([1 / 3]).half())], 1)
    assert fake.loaded == f"{0.333984375 + 7 + 0.333251953125:.3f}"
    from safetensors.torch import load_file

    (file,) = (tmp_path / "files").glob("*/*/model.safetensors")
    assert {name: weight.dtype for name, weight in load_file(file).items()} == {
        "a": torch.bfloat16,
        "b": torch.int64,
        "c": torch.float16,
    }


# --- which way --------------------------------------------------------------------------------------------------------


def test_without_a_gpu_nobody_is_asked_what_he_offers(
    fakes: list[FakeVllm], nano_dir: Path, prompter: Prompter, tmp_path: Path
) -> None:
    fakes[0].transfer = "nccl"
    sampler = VllmServerSampler(
        nano_dir, prompter, ServerSettings(url=fakes[0].url, max_model_len=256, weights_dir=tmp_path)
    )
    sampler.load(weights(1.0), 1)
    sampler.close()
    assert "/server_info" not in fakes[0].calls and fakes[0].calls.count(NEW) == 2


@pytest.mark.parametrize(
    ("backend", "gpu", "vllm", "learners", "sends"),
    [
        ("nccl", True, True, 1, True),
        ("nccl", True, True, 6, True),
        ("ipc", True, True, 1, True),
        ("ipc", True, True, 6, False),  # the handles of one learner's memory alone are sent
        ("nccl", False, True, 1, False),
        ("nccl", True, False, 1, False),
        ("sharded_rdt", True, True, 1, False),
        (None, True, True, 1, False),
    ],
)
def test_a_way_is_taken_where_both_ends_have_it(
    monkeypatch: pytest.MonkeyPatch, backend: str | None, gpu: bool, vllm: bool, learners: int, sends: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(vllm_transfer, "find_spec", lambda name: object() if vllm else None)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: learners > 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: learners)
    assert vllm_transfer.can_send(backend) is sends


def test_an_engine_that_took_half_of_the_weights_is_not_taken_for_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from ocr_rl.rollout.sampler.vllm.engine import VllmSampler

    def refuse(*_: Any, **__: Any) -> None:
        raise UserError("half of them")

    family = SimpleNamespace(engine_names=lambda named: named)
    engine: Any = object.__new__(VllmSampler)
    engine._prompter, engine._dtype, engine._asleep = SimpleNamespace(family=family), torch.float32, None
    engine._llm = SimpleNamespace(collective_rpc=refuse)
    engine._base, engine._lora, engine._state = "base", "adapter-1", None
    with pytest.raises(UserError, match="half of them"):
        engine.load(weights(1.0), 1)
    assert engine._base is None, "adapters over it would be taken for adapters over the base"


# --- vLLM's own senders, as far as they go without a GPU --------------------------------------------------------------


def test_nccl_is_told_where_to_meet_and_what_will_come(fakes: list[FakeVllm], monkeypatch: pytest.MonkeyPatch) -> None:
    """The group itself is played; its members, the order and what the server is told are vLLM's and ours."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from vllm.distributed.weight_transfer import nccl_engine

    from ocr_rl.rollout.sampler.vllm.sending import PIECE, Channel

    broadcast: list[tuple[str, torch.Tensor]] = []
    ended: list[bool] = []

    class Group:
        def destroy(self) -> None:
            ended.append(True)

    def produce(iterator: Any, **how: Any) -> None:
        broadcast.extend(iterator)
        assert how["buffer_size_bytes"] == PIECE and how["src"] == 0

    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", lambda info: Group())
    monkeypatch.setattr(nccl_engine, "packed_nccl_broadcast_producer", produce)
    fake, own = fakes[0], dict(weights(1.0))
    channel = Channel("nccl", wire.Wire(fake.url, deadline_s=5, wait_s=5), own)
    channel.send(own)
    channel.close()
    (init,) = (body["init_info"] for body in fake.sent["/init_weight_transfer_engine"])
    assert init["master_address"] == "127.0.0.1" and init["master_port"] > 0
    assert (init["rank_offset"], init["world_size"], init["packed"]) == (1, 3, True)
    (update,) = (body["update_info"] for body in fake.sent["/update_weights"])
    assert update["names"] == list(own) and set(update["dtype_names"]) == {"float32"}
    assert update["shapes"] == [list(weight.shape) for weight in own.values()]
    assert [name for name, _ in broadcast] == list(own) and ended == [True]
    assert all(torch.equal(weight, own[name]) for name, weight in broadcast)


def test_a_server_that_dies_in_mid_transfer_ends_it(fakes: list[FakeVllm], monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL would wait for it for good: the group is taken down once the call fails."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from vllm.distributed.weight_transfer import nccl_engine

    from ocr_rl.rollout.sampler.vllm.sending import Channel

    gone = threading.Event()

    class Group:
        def destroy(self) -> None:
            gone.set()

    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", lambda info: Group())
    monkeypatch.setattr(nccl_engine, "packed_nccl_broadcast_producer", lambda iterator, **how: gone.wait(60))
    fake, own = fakes[0], dict(weights(1.0))
    channel = Channel("nccl", wire.Wire(fake.url, deadline_s=30, wait_s=5), own)
    fake.transfer_fault = "refuses"
    with pytest.raises(wire.ServerDown, match="answered /update_weights with 500"):
        channel.send(own)
    assert gone.is_set()


def test_handles_of_cuda_memory_go_through_json_as_vllm_reads_them(
    fakes: list[FakeVllm], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from vllm.distributed.weight_transfer import ipc_engine

    from ocr_rl.rollout.sampler.vllm.sending import _Client

    # As in a server started so; vLLM reads its environment once where an engine has run.
    monkeypatch.setattr(ipc_engine, "envs", SimpleNamespace(VLLM_ALLOW_INSECURE_SERIALIZATION=True))
    handles = {"GPU-1": (torch.Tensor, (4,), b"\x00\xff")}
    told = {"names": ["a"], "dtype_names": ["bfloat16"], "shapes": [[2]], "tensor_sizes": [4]}
    _Client(wire.Wire(fakes[0].url, deadline_s=5, wait_s=5)).update_weights({**told, "ipc_handles": handles})
    (body,) = fakes[0].sent["/update_weights"]
    assert pickle.loads(base64.b64decode(body["update_info"]["ipc_handles_pickled"])) == handles
    read = ipc_engine.IPCWeightTransferUpdateInfo(**body["update_info"])
    assert read.ipc_handles == handles and read.tensor_sizes == [4]


def test_a_server_that_a_broken_transfer_has_left_in_pieces_is_said_to_be(
    open_, fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds something else after each reading: nobody samples from that."""
    sampler, (fake, _) = open_(), fakes
    fake.transfer_fault = "refuses"
    numbers = iter(range(100))
    answer = fake.answer
    monkeypatch.setattr(
        fake,
        "answer",
        lambda path, body: (
            {"checksums": {"a": str(next(numbers))}} if path == "/weight_checker" else answer(path, body)
        ),
    )
    with pytest.raises(
        UserError,
        match="failed 3 times in a row; the last time it reads no weights any more since a transfer of them broke off",
    ):
        sampler.load(weights(1.0), 1)
