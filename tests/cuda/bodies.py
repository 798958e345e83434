"""What must hold on any device, as functions over it: the tests beside call them with CUDA, tests/learn with a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ocr_rl import config
from ocr_rl.contract import Page
from ocr_rl.learn.logprobs import token_logprobs
from ocr_rl.learn.masters import Masters
from ocr_rl.learn.optimizers import load_moments, open_optimizers
from ocr_rl.models.attention import attend, packing
from ocr_rl.rollout.flow import Prompt
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler
from tests.contracts.conftest import HOW, changed, gap, in_order, weights_of

RATE = 2e-6
# Relative lengths of differences. float32 on a GPU sums in another order; bfloat16 keeps 8 bits, so 0.4 % a number.
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Length of the difference over the length of the other."""
    return float((ours.double() - theirs.double()).detach().norm() / theirs.detach().double().norm())


def masters_move_as_float32_does(device: torch.device) -> None:
    """300 equal AdamW steps on bfloat16 weights: their masters move as float32 weights do, and the weights follow."""
    (_, far), (layer, near) = (_stepped(dtype, device) for dtype in (torch.float32, torch.bfloat16))
    assert abs(near / far - 1) < 0.01
    rounded, master = layer.weight.detach(), Masters(layer).by_name["weight"].detach()
    assert torch.equal(master.bfloat16(), rounded) and not torch.equal(master, rounded.float())


def moments_are_loaded_where_they_belong(device: torch.device) -> None:
    """A state that was saved goes on to the bit, and every moment lies beside its weight."""
    layer, other = _layer(torch.float32, device), _layer(torch.float32, device)
    (optimizer,), (later,) = (open_optimizers(Masters(some).by_name, config.Optim(lr=1e-3)) for some in (layer, other))
    _step(layer, optimizer)
    with torch.no_grad():
        other.weight.copy_(layer.weight)
    saved = optimizer.state_dict()
    on_disk = {**saved, "state": {i: {n: v.cpu() for n, v in s.items()} for i, s in saved["state"].items()}}
    load_moments(later, [on_disk])
    for some, opt in ((layer, optimizer), (other, later)):
        _step(some, opt)
        moments = [value for values in opt.state.values() for value in values.values() if value.ndim]
        assert {value.device.type for value in moments} == {device.type}
    assert torch.equal(layer.weight, other.weight)


def packed_attention_is_plain_attention(device: torch.device, dtype: torch.dtype) -> None:
    """Outputs and gradients against one dense mask, with heads shared as in the published models."""
    lengths = [[37, 12, 5, 30], [37, 8], [20, 16, 16]]
    given, again = (_inputs(lengths, device, dtype) for _ in range(2))
    where = packing(lengths).to(device)
    ours, _ = attend(nn.Module(), *given, None, 0.25, packing=where)
    query, key, value = again
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    theirs = scaled_dot_product_attention(query, key, value, attn_mask=_dense(lengths, device), scale=0.25)
    theirs = theirs.transpose(1, 2)
    for output in (ours, theirs):
        (output.float() * torch.arange(output.shape[1], device=device)[None, :, None, None]).sum().backward()
    assert distance(ours, theirs) < LIMITS[dtype]
    for x, y in zip(given, again, strict=True):
        assert x.grad is not None and y.grad is not None and distance(x.grad, y.grad) < LIMITS[dtype]


def chunks_of_logits_change_nothing(device: torch.device, dtype: torch.dtype) -> None:
    """Log-probabilities and both gradients, by the chunk, whole, and as torch computes them in float64."""
    generator = torch.Generator().manual_seed(0)
    hidden_ND = torch.randn(23, 32, generator=generator).to(dtype)
    weight_VD = (torch.randn(101, 32, generator=generator) / 4).to(dtype)
    target_N = torch.randint(90, (23,), generator=generator).to(device)

    def answer(chunk: int) -> list[Tensor]:
        hidden, weight = (x.to(device).requires_grad_() for x in (hidden_ND.clone(), weight_VD.clone()))
        values, _ = token_logprobs(hidden, weight, target_N, temperature=0.7, banned_ids=(95, 96), chunk=chunk)
        values.sum().backward()
        assert hidden.grad is not None and weight.grad is not None
        return [values.detach(), hidden.grad, weight.grad]

    hidden, weight = (x.double().to(device).requires_grad_() for x in (hidden_ND, weight_VD))
    logits = (hidden @ weight.T / 0.7).index_fill(1, torch.tensor([95, 96], device=device), -torch.inf)
    exact = logits.log_softmax(-1).gather(1, target_N[:, None])[:, 0]
    exact.sum().backward()
    assert hidden.grad is not None and weight.grad is not None
    for chunk in (7, 1000):
        for ours, theirs in zip(answer(chunk), (exact.detach(), hidden.grad, weight.grad), strict=True):
            assert ours.device.type == device.type and distance(ours, theirs) < LIMITS[dtype]


def _layer(dtype: torch.dtype, device: torch.device) -> nn.Linear:
    layer = nn.Linear(64, 64, bias=False)
    with torch.no_grad():
        layer.weight.copy_(0.02 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
    return layer.to(device, dtype)


def _stepped(dtype: torch.dtype, device: torch.device) -> tuple[nn.Linear, float]:
    """A layer after 300 equal steps, and how far its masters have moved in the mean."""
    layer = _layer(dtype, device)
    masters = Masters(layer)
    master = masters.by_name["weight"]
    begun = master.detach().clone()
    (optimizer,) = open_optimizers(masters.by_name, config.Optim(lr=RATE))
    for _ in range(300):
        layer.weight.grad = torch.ones_like(layer.weight)
        masters.take_gradients()
        optimizer.step()
        optimizer.zero_grad()
        masters.hand_back()
    assert torch.equal(layer.weight, master.to(dtype))
    return layer, float((master - begun).detach().abs().mean())


def _step(layer: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
    layer.weight.grad = layer.weight.detach().sin()
    optimizer.step()


def _inputs(lengths: Sequence[Sequence[int]], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    X = sum(map(sum, lengths))
    numbers = [torch.randn(1, heads, X, 64, generator=generator) for heads in (4, 2, 2)]
    return [x.to(device, dtype).requires_grad_() for x in numbers]


def _dense(lengths: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Who sees whom: causal, in its group, the prompt or its own completion."""
    at = torch.tensor([(g, k) for g, some in enumerate(lengths) for k, n in enumerate(some) for _ in range(n)])
    group, number = at.T
    own = (number[:, None] == number) | (number == 0)
    return ((group[:, None] == group) & own).tril().to(device)


def an_engine_wakes_right(
    sampler: Sampler, asked: list[tuple[Page, Prompt]], model: nn.Module, prompter: Prompter, *, most: float
) -> None:
    """It sleeps after each call (`sampling.sleep`), and says with the weights that it has then, tower's and text's.

    `most`: nats that a token may differ by from plain log-probabilities on a CPU.
    """
    for policy, weights in enumerate((weights_of(model), changed(model, "visual", 0.1), weights_of(model)), 1):
        sampler.load(weights, policy)
        for _ in range(2):
            assert gap(in_order(sampler, asked, HOW), weights, model, prompter) < most
