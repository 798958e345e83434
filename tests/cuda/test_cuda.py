"""What only CUDA can show: its kernels, its dtypes, and that nothing mixes devices. Skipped where there is none."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from benchmarks.gpu.attention import by_varlen
from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.doctor import Dtype, parity
from ocr_rl.learn.probe import looks
from ocr_rl.learn.rows import Batch
from ocr_rl.models import tower
from ocr_rl.models.attention import attend, by_rectangles, packing
from ocr_rl.models.kernels import FLASH
from ocr_rl.models.load import load_model
from ocr_rl.models.varlen import distance_from_plain, kernel_for
from ocr_rl.objectives.losses import PolicyGradient
from ocr_rl.policy import open_sampler
from ocr_rl.rollout.flow import Row
from ocr_rl.rollout.prompt import Prompter
from tests.contracts.conftest import HOW, gap, in_order, weights_of
from tests.contracts.test_adapters_arrive import adapted, adapter_over
from tests.cuda import bodies
from tests.learn.conftest import NLL, MakeLearner, largest_gap

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
CUDA = torch.device("cuda")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def test_masters_move_as_float32_does() -> None:
    bodies.masters_move_as_float32_does(CUDA)


def test_moments_are_loaded_where_they_belong() -> None:
    bodies.moments_are_loaded_where_they_belong(CUDA)


@DTYPES
def test_packed_attention_is_plain_attention(dtype: torch.dtype) -> None:
    bodies.packed_attention_is_plain_attention(CUDA, dtype)


@DTYPES
def test_chunks_of_logits_change_nothing(dtype: torch.dtype) -> None:
    bodies.chunks_of_logits_change_nothing(CUDA, dtype)


@pytest.mark.parametrize("lengths", [[[5, 3, 1, 4]], [[60, 20, 70, 10], [20, 30], [90, 10]]])
def test_one_varlen_call_would_be_our_attention(lengths: list[list[int]]) -> None:
    """Its causal mask is aligned to the last key: a completion sees its prompt and its own past, with no mask."""
    generator = torch.Generator().manual_seed(0)
    X = sum(map(sum, lengths))
    numbers = [torch.randn(1, heads, X, 64, generator=generator).to(CUDA, torch.bfloat16) for heads in (4, 2, 2)]
    ours = by_rectangles(*(x[0].transpose(0, 1) for x in numbers), packing(lengths).to(CUDA), 64**-0.5)
    assert bodies.distance(by_varlen(lengths, *numbers)[0], ours) < bodies.LIMITS[torch.bfloat16]


# Heads of queries, heads of keys, width: the embedded policy's, 3B, 7B, and Qwen3.5's full attention; the towers of the
# embedded policy, of Qwen2.5-VL and Qwen2-VL, and of Qwen3-VL and PaddleOCR-VL.
@pytest.mark.parametrize(
    "heads", [(4, 2, 64), (16, 2, 128), (28, 4, 128), (16, 4, 256), (3, 3, 64), (16, 16, 80), (16, 16, 72)]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flash_attention_by_segments_is_used_and_exact(heads: tuple[int, int, int], dtype: torch.dtype) -> None:
    """Output and three gradients: no warning, and within rounding of the same rule in float32."""
    query, key = (torch.zeros(3, n, heads[2], device=CUDA, dtype=dtype) for n in heads[:2])
    assert kernel_for(query, key, dtype) is FLASH
    assert distance_from_plain(FLASH, heads, dtype, CUDA) < 0.01


def test_no_layer_makes_a_mask_in_16_bits() -> None:
    where = packing([[60, 20, 70, 10], [20, 30]]).to(CUDA)
    numbers = [torch.randn(1, heads, 210, 64, device=CUDA, dtype=torch.bfloat16) for heads in (4, 2, 2)]
    attend(torch.nn.Module(), *numbers, None, 64**-0.5, packing=where)
    assert not any("visible_TS" in vars(block) for block in where.blocks)


@pytest.mark.parametrize("policy", [{"dtype": "bfloat16"}, {"autocast": True}, {}], ids=str)
def test_a_tower_sees_what_it_sees_on_a_cpu(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch, policy: dict
) -> None:
    """By the kernel in 16 bits, by transformers' way in float32; of two images at once."""
    there = make_learner(policy=policy)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = make_learner()
    pixels, sizes = here._pixels([rows[0].prompt, rows[-1].prompt], here.prompter.image)
    calls: list[int] = []
    kernel = tower.by_kernel
    monkeypatch.setattr(tower, "by_kernel", lambda *given: calls.append(kernel(*given) is not None) or kernel(*given))
    with torch.no_grad():
        ours, exact = there.network.see(pixels.to(CUDA), sizes.to(CUDA))[0], here.network.see(pixels, sizes)[0]
    short = bool(policy)
    assert len(calls) == 4 and all(calls) is short
    assert bodies.distance(ours.cpu(), exact) < (3e-2 if short else 1e-3)


def test_batches_come_from_pinned_memory(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, came = make_learner(), []
    move = Batch.to
    monkeypatch.setattr(Batch, "to", lambda batch, device: came.append(batch) or move(batch, device))
    learner.logprobs(rows)
    assert came and all(batch.pixel_values.is_pinned() and batch.input_ids_1X.is_pinned() for batch in came)
    assert all(batch.packing.source_Y.is_pinned() for batch in came)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sampler_and_learner_agree(dtype: Dtype) -> None:
    measured = parity("nano", dtype=dtype, engine="transformers", max_tokens=128)
    assert measured.holds, measured.to_text()


def test_the_learner_computes_what_it_computes_on_a_cpu(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = make_learner()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = make_learner()
    assert (there.device.type, here.device.type) == ("cuda", "cpu")
    assert largest_gap(there.logprobs(rows), here.logprobs(rows)) < 1e-3
    first, second = (learner.update(rows, NLL) for learner in (there, here))
    for name in ("loss", "grad_norm", "entropy"):
        assert first[name] == pytest.approx(second[name], rel=1e-3), name


POLICIES = {
    "float32": {},
    "autocast": {"autocast": True},
    "bfloat16 with masters": {"dtype": "bfloat16"},
    "adapters": {"dtype": "bfloat16", "lora_rank": 4, "freeze_vision": True},
    "adapters under autocast": {"autocast": True, "lora_rank": 4, "gradient_checkpointing": True},
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("optim", [{}, {"name": "muon"}], ids=["adamw", "muon"])
def test_nothing_mixes_devices(make_learner: MakeLearner, rows: list[Row], policy: dict, optim: dict) -> None:
    """Reference, old log-probabilities, two updates, other images, and the way to a sampler."""
    learner = make_learner(policy=policy, reference=True, lr=1e-4, micro_tokens=128, **optim)
    for _ in range(2):
        annotated = learner.annotate(rows, old=True, reference=True)
        metrics = learner.update(annotated, PolicyGradient(beta=0.1))
        assert all(math.isfinite(value) for value in metrics.values())
    assert all(math.isfinite(value) for value in looks(learner, rows[3:6]).values())
    path = learner.origin.path
    sampler = open_sampler(
        config.Sampling(engine="transformers", dtype="bfloat16"), learner.origin, config.Policy(path=path)
    )
    sampler.load(learner.weights(), 1)
    sampler.close()


@pytest.mark.parametrize("policy", [POLICIES["float32"], POLICIES["bfloat16 with masters"]], ids=["float32", "masters"])
def test_a_run_goes_on_from_what_was_saved(
    make_learner: MakeLearner, rows: list[Row], tmp_path: Path, policy: dict
) -> None:
    """What is loaded is what was saved, to the bit. The next update may sum in another order: some kernels do."""
    learner, later = (make_learner(policy=policy, lr=1e-4) for _ in range(2))
    learner.update(rows, NLL)
    learner.save_state(tmp_path / "optim.pt")
    later.load_state(tmp_path / "optim.pt")
    for name, master in learner.masters.by_name.items():
        assert torch.equal(master, later.masters.by_name[name]), name
    moments = [
        [value for values in some.optimizers[0].state.values() for value in values.values()]
        for some in (learner, later)
    ]
    assert all(torch.equal(a, b) and a.device == b.device for a, b in zip(*moments, strict=True))
    first, second = (some.update(rows, NLL) for some in (learner, later))
    assert first["grad_norm"] == pytest.approx(second["grad_norm"], rel=1e-3)


def test_trap_7_an_engine_that_sleeps_gives_memory_back_and_wakes_right(
    nano_dir: Path, prompter: Prompter, tiny_pages: list[Page]
) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from ocr_rl.rollout.sampler.vllm.engine import EngineSettings, VllmSampler

    model = load_model(nano_dir, dtype="float32")
    settings = EngineSettings(max_model_len=256, max_num_seqs=64, gpu_share=0.2, sleep=True)
    with closing(VllmSampler(nano_dir, prompter, settings)) as sampler:
        asked = [(page, prompter.prompt(page)) for page in tiny_pages]
        bodies.an_engine_wakes_right(sampler, asked, model, prompter, most=0.05)
        asleep, total = torch.cuda.mem_get_info()
        sampler._wake()
        assert asleep - torch.cuda.mem_get_info()[0] > 0.1 * total  # half of its share, at least


def test_trap_21_adapters_arrive_in_vllm(nano_dir: Path, prompter: Prompter, tiny_pages: list[Page]) -> None:
    """The text's and the tower's, as they are: nothing is merged. What others would say is not said."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from ocr_rl.rollout.sampler.vllm.engine import EngineSettings, VllmSampler

    model, asked = load_model(nano_dir, dtype="float32"), [(page, prompter.prompt(page)) for page in tiny_pages]
    settings = EngineSettings(max_model_len=256, max_num_seqs=64, gpu_share=0.2, lora_rank=3, lora_in_tower=True)
    with closing(VllmSampler(nano_dir, prompter, settings)) as sampler:
        sent = adapter_over(nano_dir, rank=3)
        sampler.load(sent, 1)
        groups = in_order(sampler, asked, HOW)
        assert gap(groups, adapted(model, sent), model, prompter) < 0.05
        assert gap(groups, weights_of(model), model, prompter) > 0.1
