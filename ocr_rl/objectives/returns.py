"""From the rewards of tokens to returns and advantages, with a critic's values: what PPO has in place of siblings.

Pure functions on floats, no tensors. Token t of a transcript is chosen in state t (the page and the tokens before it);
`values[t]` is what the critic expects there, before the token is chosen. After the last token nothing is left to gain:
a transcript that was cut off has ended too, for it earns what it is worth as it stands, and its last token has that.

    gae([0.0, 1.0], [0.5, 0.5], gamma=1.0, lam=1.0)  ->  ((0.5, 0.5), (1.0, 1.0))
"""

from __future__ import annotations

import math
from collections.abc import Sequence

WHITE_EPS = 1e-8  # added to a variance, as TRL does

Floats = tuple[float, ...]


def token_rewards(reward: float, drift: Sequence[float], beta: float) -> Floats:
    """-beta times each token's log-ratio to the reference, and the transcript's reward at its last token.

    So is the KL a part of the reward (Ouyang et al. 2022, arXiv 2203.02155, eq. 2; per token as in Stiennon et al.
    2020, arXiv 2009.01325). `drift[t]` is log pi(token) - log ref(token), nats, of the policy that sampled it.
    """
    penalties = [-beta * nats for nats in drift]
    return (*penalties[:-1], penalties[-1] + reward)


def gae(rewards: Sequence[float], values: Sequence[float], *, gamma: float, lam: float) -> tuple[Floats, Floats]:
    """(advantages, returns) of each token: generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438).

        delta_t = r_t + gamma V_{t+1} - V_t        A_t = delta_t + gamma lam A_{t+1}        R_t = A_t + V_t

    With lam = 1 the return is the discounted sum of what follows, and the advantage is return - value; with lam = 0 a
    token is judged by what the critic expects right after it.
    """
    advantages: list[float] = []
    later, following = 0.0, 0.0  # A_{t+1}, V_{t+1}
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        later = reward + gamma * following - value + gamma * lam * later
        following = value
        advantages.append(later)
    advantages.reverse()
    returns = tuple(advantage + value for advantage, value in zip(advantages, values, strict=True))
    return tuple(advantages), returns


def whitened(batch: Sequence[Sequence[float]]) -> list[Floats]:
    """Advantages of all tokens of a step with mean 0 and variance 1 (ddof 1, WHITE_EPS added to the variance)."""
    every = [advantage for row in batch for advantage in row]
    if len(every) < 2:
        return [tuple(0.0 for _ in row) for row in batch]
    mean = math.fsum(every) / len(every)
    variance = math.fsum((advantage - mean) ** 2 for advantage in every) / (len(every) - 1)
    scale = 1 / math.sqrt(variance + WHITE_EPS)
    return [tuple((advantage - mean) * scale for advantage in row) for row in batch]


def explained_variance(values: Sequence[float], returns: Sequence[float]) -> float:
    """1 - Var(return - value) / Var(return): 1 for a perfect critic, 0 for a constant one, below 0 for a worse one.

    0 where all returns are equal: there is nothing to explain.
    """
    left = [outcome - value for outcome, value in zip(returns, values, strict=True)]
    whole = _variance(returns)
    return 1 - _variance(left) / whole if whole > 0 else 0.0


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / max(1, len(values))
    return math.fsum((value - mean) ** 2 for value in values) / max(1, len(values))
