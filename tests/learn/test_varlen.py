"""Attention by segments against that by rectangles, with the kernel's rule in torch; and when a kernel is not used."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor

from ocr_rl.models import attention
from ocr_rl.models.attention import attend, by_rectangles, packing
from ocr_rl.models.kernels import FLASH, PLAIN, Call, Kernel
from ocr_rl.models.varlen import _serves, by_segments, distance_from_plain, kernel_for, segments
from ocr_rl.rollout.flow import Row
from tests.learn.conftest import NLL, MakeLearner, apart, largest_gap
from tests.learn.test_attention import KV, SHAPES, D, H

CPU = torch.device("cpu")


def numbers(X: int) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(X, heads, D, dtype=torch.float64, requires_grad=True) for heads in (H, KV, KV)]


@pytest.mark.parametrize("lengths", [*SHAPES, [[4], [3, 2]], [[7]]])
def test_segments_and_rectangles_give_one_output_and_one_gradient(lengths: list[list[int]]) -> None:
    X, where = sum(map(sum, lengths)), packing(lengths)
    given, again = numbers(X), numbers(X)
    ours = by_segments(*given, where.segments, 0.3, PLAIN)
    theirs = by_rectangles(*again, where, 0.3)
    assert (ours - theirs).abs().max() < 1e-12
    upstream = torch.randn_like(ours)
    (ours * upstream).sum().backward()
    (theirs * upstream).sum().backward()
    for x, y in zip(given, again, strict=True):
        assert x.grad is not None and y.grad is not None
        assert (x.grad - y.grad).abs().max() < 1e-12


def test_the_example_in_the_docstring_is_what_segments_are() -> None:
    drawn = segments([[3, 2, 1], [3, 2]])
    assert drawn.own_N.tolist() == [0, 3, 5, 6, 9, 11]
    assert drawn.written_W.tolist() == [3, 4, 5, 9, 10] and drawn.written_P.tolist() == [0, 3, 5]
    assert drawn.shared_K.tolist() == [0, 1, 2, 6, 7, 8] and drawn.shared_P.tolist() == [0, 3, 6]
    assert (drawn.longest, drawn.longest_written, drawn.longest_shared) == (3, 3, 3)
    assert {x.dtype for x in (drawn.own_N, drawn.written_P, drawn.shared_P)} == {torch.int32}


class Recorder:
    """A kernel as PLAIN, and its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, Call]] = []
        self.kernel = Kernel(self.forward, PLAIN.backward)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        self.calls.append((q, k, call))
        return PLAIN.forward(q, k, v, call)


def test_a_prompt_is_read_once_however_many_complete_it() -> None:
    recorder = Recorder()
    for samples in (1, 5):
        by_segments(*numbers(9 + 2 * samples), segments([[9, *[2] * samples]]), 0.3, recorder.kernel)
    assert [(len(q), len(k)) for q, k, _ in recorder.calls] == [(11, 11), (2, 9), (19, 19), (10, 9)]
    assert [call.causal for _, _, call in recorder.calls] == [True, False] * 2


def test_a_layer_asks_the_kernel_where_there_is_one_and_makes_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    where, recorder = packing([[5, 3, 1, 4]]), Recorder()
    given = [x.transpose(0, 1)[None] for x in numbers(13)]
    monkeypatch.setattr(attention, "kernel_for", lambda query, key, dtype: recorder.kernel)
    ours, _ = attend(torch.nn.Module(), *given, None, 0.3, packing=where)
    assert not any("visible_TS" in vars(block) for block in where.blocks)
    monkeypatch.setattr(attention, "kernel_for", lambda query, key, dtype: None)
    theirs, _ = attend(torch.nn.Module(), *given, None, 0.3, packing=where)
    assert len(recorder.calls) == 2 and (ours - theirs).abs().max() < 1e-12


def test_under_autocast_the_kernel_is_given_short_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(attention, "kernel_for", lambda query, key, dtype: recorder.kernel)
    given = [x.detach().float().transpose(0, 1)[None] for x in numbers(5)]
    with torch.autocast("cpu", torch.bfloat16):
        attend(torch.nn.Module(), *given, None, 0.3, packing=packing([[3, 2]]))
    assert {x.dtype for q, k, _ in recorder.calls for x in (q, k)} == {torch.bfloat16}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_learner_reads_and_learns_alike_by_segments(
    make_learner: MakeLearner, rows: list[Row], monkeypatch: pytest.MonkeyPatch, checkpointing: bool
) -> None:
    answers = []
    for kernel in (None, PLAIN):
        monkeypatch.setattr(attention, "kernel_for", lambda query, key, dtype, kernel=kernel: kernel)
        learner = make_learner(policy={"gradient_checkpointing": checkpointing})
        logprobs = learner.logprobs(rows)
        learner.prepare(rows, NLL)
        answers.append(
            (logprobs, {n: p.grad.clone() for n, p in learner.masters.by_name.items() if p.grad is not None})
        )
    (by_mask, gradient), (by_kernel, other) = answers
    assert largest_gap(by_mask, by_kernel) < 1e-5
    assert gradient.keys() == other.keys() and apart(other, gradient) < 1e-5


# --- kernels that are not used ----------------------------------------------------------------------------------------


def test_on_a_cpu_and_in_float32_there_is_none() -> None:
    query, key, _ = numbers(3)
    assert kernel_for(query, key, torch.bfloat16) is None and kernel_for(query, key, torch.float32) is None


def bits(q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    out, lse = PLAIN.forward(q, k, v, call)
    return out, lse / torch.log(torch.tensor(2.0))


def blind(q: Tensor, k: Tensor, v: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    sees = Call(**{n: getattr(call, n) for n in call.__slots__} | {"causal": False})
    return PLAIN.forward(q, k, v, sees)


def silent(*_: object) -> tuple[Tensor, Tensor, Tensor]:
    raise RuntimeError("head dimension 24 is none of ours\nat line 7")


def nothing(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return q * float("nan"), torch.zeros_like(k), torch.zeros_like(v)


@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        (Kernel(bits, PLAIN.backward), "away from what it should say"),  # lse by another logarithm
        (Kernel(blind, PLAIN.backward), "away from what it should say"),
        (Kernel(PLAIN.forward, nothing), "it is nan away"),
        (Kernel(PLAIN.forward, silent), "head dimension 24 is none of ours$"),
        (FLASH, "Could not run|not implemented|_flash_attention_forward"),  # on a CPU
    ],
)
def test_a_kernel_that_answers_otherwise_is_not_used_and_a_warning_says_why(kernel: Kernel, why: str) -> None:
    with pytest.warns(UserWarning, match=f"Flash Attention is not used.*({why})"):
        assert not _serves(kernel, (4, 2, 24), torch.float32, CPU)


def test_a_kernel_that_answers_right_is_used(recwarn: pytest.WarningsRecorder) -> None:
    assert _serves(PLAIN, (4, 2, 24), torch.bfloat16, CPU) and not recwarn.list
    assert distance_from_plain(PLAIN, (4, 2, 24), torch.float32, CPU) == 0
