"""The end of an error message about an unknown name: what the writer may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`; did you mean 'present'?`, or a list of all choices if none of them is similar. Empty without choices."""
    names = list(choices)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(names)}" if names else ""
