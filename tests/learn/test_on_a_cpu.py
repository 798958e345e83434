"""The tests that CUDA has to pass too (tests/cuda), on a CPU."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from tests.cuda import bodies

CPU = torch.device("cpu")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def test_masters_move_as_float32_does() -> None:
    bodies.masters_move_as_float32_does(CPU)


def test_moments_are_loaded_where_they_belong() -> None:
    bodies.moments_are_loaded_where_they_belong(CPU)


@DTYPES
def test_packed_attention_is_plain_attention(dtype: torch.dtype) -> None:
    bodies.packed_attention_is_plain_attention(CPU, dtype)


@DTYPES
def test_chunks_of_logits_change_nothing(dtype: torch.dtype) -> None:
    bodies.chunks_of_logits_change_nothing(CPU, dtype)
