"""What a run keeps of each token of a sample: its characters and how likely it was, in at most four bytes a token.

    row = pack(lengths=(3, 1), sampler=(-0.2, -3.1))    # {"n": 2, "keeps": ["sampler"], "data": "eAFjsWNmBAAA1QBH"}
    trace = unpack(row)                                 # trace.sampler: (-0.2, -3.1) to 0.05 nats

`data` is base64 of compressed bytes: one a token for each figure in the order of `keeps`, then the lengths: a log of
all samples costs little. Knows nothing about tokenizers or scores.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NATS = 0.05  # a step of a log-probability or an entropy; 255 stands for 12.75 nats and all beyond
LEAST_GAP = 1e-6  # nats; the gap has a sign and 127 sizes, 18 a decade, up to 11 nats
_DECADE = 18
MOST_TOKENS = 2**20  # of a sample; a log that says more is not believed
_MORE = 255  # in lengths: this many characters, and those of the next byte


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTrace:
    """One value a token; a figure that nobody knew is None."""

    lengths: tuple[int, ...]  # characters of the text that the token completes
    sampler: tuple[float, ...] | None = None  # log-probability when it was sampled, nats
    gap: tuple[float, ...] | None = None  # the learner's log-probability less the sampler's, nats
    entropy: tuple[float, ...] | None = None  # of the learner's distribution, nats


def pack(
    *,
    lengths: Sequence[int],
    sampler: Sequence[float],
    learner: Sequence[float] | None = None,
    entropy: Sequence[float] | None = None,
) -> dict[str, Any]:
    """The trace of one sample as JSON; `learner` are log-probabilities too, and what is kept of them is the gap."""
    kept = {"sampler": _nats(-np.asarray(sampler, dtype=float))}
    if learner is not None:
        kept["gap"] = _gaps(np.asarray(learner, dtype=float) - np.asarray(sampler, dtype=float))
    if entropy is not None:
        kept["entropy"] = _nats(np.asarray(entropy, dtype=float))
    data = zlib.compress(b"".join([*kept.values(), _lengths(lengths)]), 1)
    return {"n": len(lengths), "keeps": list(kept), "data": base64.b64encode(data).decode("ascii")}


def columns(row: Any) -> dict[str, bytes] | None:
    """The bytes of each figure, and the lengths as `chars`, of what `pack` wrote; None for anything else."""
    try:
        n, names = int(row["n"]), [str(name) for name in row["keeps"]]
        if not 0 <= n <= MOST_TOKENS or not set(names) <= set(_READ) or len(set(names)) < len(names):
            return None
        packed = base64.b64decode(row["data"], validate=True)
        data = zlib.decompressobj().decompress(packed, 16 * MOST_TOKENS)
    except (KeyError, TypeError, ValueError, OverflowError, zlib.error):
        return None
    of_tokens = {name: data[k * n : (k + 1) * n] for k, name in enumerate(names)}
    chars = data[len(names) * n :]
    return of_tokens | {"chars": chars} if len(_read_lengths(chars)) == n else None


def unpack(row: Any) -> TokenTrace | None:
    """What `pack` wrote; None for anything else."""
    if (codes := columns(row)) is None:
        return None
    figures = {name: read(codes[name]) for name, read in _READ.items() if name in codes}
    return TokenTrace(lengths=_read_lengths(codes["chars"]), **figures)


def _lengths(lengths: Sequence[int]) -> bytes:
    return b"".join(bytes([_MORE]) * (n // _MORE) + bytes([n % _MORE]) for n in lengths)


def _read_lengths(data: bytes) -> tuple[int, ...]:
    lengths, carried = [], 0
    for byte in data:
        if byte == _MORE:
            carried += byte
        else:
            lengths.append(carried + byte)
            carried = 0
    return tuple(lengths)


def _nats(values: np.ndarray) -> bytes:
    return np.nan_to_num(values / NATS, nan=255, posinf=255).round().clip(0, 255).astype(np.uint8).tobytes()


def _read_nats(data: bytes) -> tuple[float, ...]:
    return tuple((np.frombuffer(data, np.uint8) * NATS).tolist())


def _read_logprobs(data: bytes) -> tuple[float, ...]:
    return tuple((np.frombuffer(data, np.uint8) * -NATS).tolist())


def _gaps(values: np.ndarray) -> bytes:
    """0 is less than LEAST_GAP; 1 to 127 are sizes on a logarithmic scale, with 128 added where it is negative."""
    sizes = np.nan_to_num(np.abs(values), nan=1e9, posinf=1e9).clip(LEAST_GAP, 1e9)
    steps = (np.log10(sizes / LEAST_GAP) * _DECADE).round().clip(0, 127).astype(np.uint8)
    return (steps + 128 * ((values < 0) & (steps > 0)).astype(np.uint8)).tobytes()


def _read_gaps(data: bytes) -> tuple[float, ...]:
    codes = np.frombuffer(data, np.uint8)
    steps = codes & 127
    sizes = np.where(steps > 0, LEAST_GAP * 10 ** (steps / _DECADE), 0.0)
    return tuple(np.where(codes > 127, -sizes, sizes).tolist())


_READ = {"sampler": _read_logprobs, "gap": _read_gaps, "entropy": _read_nats}
