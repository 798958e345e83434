"""Log-probabilities in chunks against the full softmax: values, entropies, gradients, and how many logits exist."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import nn

from ocr_rl.learn import logprobs
from ocr_rl.learn.logprobs import token_logprobs


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("banned_ids", [(), (0, 7)])
def test_chunked_logprobs_are_the_full_log_softmax(temperature: float, banned_ids: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    N, D, V = 23, 8, 40
    head = nn.Linear(D, V, bias=False)
    target = torch.randint(8, V, (N,))
    weight = torch.randn(N)
    results = []
    for chunk in (N, 5):
        hidden = torch.linspace(-2, 2, N * D).view(N, D).requires_grad_()
        logprob, entropy = token_logprobs(
            hidden, head.weight, target, temperature=temperature, banned_ids=banned_ids, chunk=chunk
        )
        head.weight.grad = None
        (logprob * weight).sum().backward()
        results.append((logprob.detach(), entropy, hidden.grad, head.weight.grad))
    hidden = torch.linspace(-2, 2, N * D).view(N, D).requires_grad_()
    logits = head(hidden) / temperature
    logits[:, list(banned_ids)] = -torch.inf
    full = logits.log_softmax(-1)
    head.weight.grad = None
    (full[torch.arange(N), target] * weight).sum().backward()
    probability = full.detach().exp()
    entropy = -(probability * full.detach()).nan_to_num().sum(-1)  # 0 * -inf of a banned token is 0
    for result in results:
        for value, expected in zip(
            result, (full.detach()[torch.arange(N), target], entropy, hidden.grad, head.weight.grad), strict=True
        ):
            assert torch.allclose(value, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("part", ["head", "hidden"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(part: str) -> None:
    torch.manual_seed(0)
    hidden, weight, target = torch.randn(6, 4), torch.randn(9, 4), torch.randint(9, (6,))
    both = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    token_logprobs(*both, target, chunk=2)[0].sum().backward()
    half = [hidden.clone().requires_grad_(part != "hidden"), weight.clone().requires_grad_(part != "head")]
    token_logprobs(*half, target, chunk=2)[0].sum().backward()
    for alone, together in zip(half, both, strict=True):
        assert (alone.grad is None) == (not alone.requires_grad)
        assert alone.grad is None or torch.equal(alone.grad, together.grad)


def test_entropy_by_hand() -> None:
    # A uniform choice among 4 of 5 tokens: ln 4
    head = nn.Linear(2, 5, bias=False)
    nn.init.zeros_(head.weight)
    logprob, entropy = token_logprobs(torch.ones(1, 2), head.weight, torch.tensor([1]), banned_ids=(3,))
    assert float(logprob.detach()) == pytest.approx(-math.log(4))
    assert float(entropy) == pytest.approx(math.log(4))


def test_trap_13_logits_exist_for_one_chunk_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = logprobs._log_softmax
    monkeypatch.setattr(logprobs, "_log_softmax", lambda h, w, *how: sizes.append(len(h) * len(w)) or whole(h, w, *how))
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", 100)
    hidden, weight = torch.randn(23, 4, requires_grad=True), torch.randn(40, 4, requires_grad=True)
    token_logprobs(hidden, weight, torch.arange(23))[0].sum().backward()
    assert len(sizes) == 2 * 12 and max(sizes) <= 100  # twice: for the loss, and for the head's gradient
