"""Who answers which page: a queue of pages, and servers that take the next one when they have room.

Each page goes to the server with the fewest on their way. Where no page is left in the queue, a server that has
answered before and has fewer on their way than another takes pages over from it: the page is on its way twice then, and
the first answer counts. So a slow server answers fewer pages, and one that hangs holds nobody up. It knows nothing
about what a page or a server is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


class Shares(Generic[S]):
    """The places 0 to n - 1 of a step's pages: in the queue, on their way to some servers, or answered."""

    def __init__(self, n: int) -> None:
        self._queue = deque(range(n))
        self._at: dict[int, list[S]] = {}  # the servers that write a place, the first asked first
        self._able: set[S] = set()  # have answered a page

    @property
    def left(self) -> bool:
        """Whether a page is not answered yet."""
        return bool(self._queue or self._at)

    def hand_out(self, ready: Sequence[S], room: int) -> Iterator[tuple[S, int]]:
        """What is to be asked now of servers that are ready, with at most `room` pages on their way to each."""
        while (choice := self._choose(ready, room)) is not None:
            server, place = choice
            self._at.setdefault(place, []).append(server)
            yield choice

    def answered(self, place: int, by: S) -> None:
        """A page is done, whoever else is writing it."""
        del self._at[place]
        self._able.add(by)

    def lose(self, server: S) -> None:
        """A server is gone: pages that it alone was writing are first in the queue again, in order."""
        self._able.discard(server)
        for place in sorted(self._at, reverse=True):
            writers = self._at[place]
            if server in writers:
                writers.remove(server)
                if not writers:
                    del self._at[place]
                    self._queue.appendleft(place)

    def _choose(self, ready: Sequence[S], room: int) -> tuple[S, int] | None:
        free = sorted((s for s in ready if self._load(s) < room), key=self._load)
        if self._queue:
            return (free[0], self._queue.popleft()) if free else None
        for server in free:
            alone = self._longest_of_one(server)
            if server in self._able and self._load(server) < len(alone):
                return server, alone[-1]  # asked last, so perhaps not begun
        return None

    def _longest_of_one(self, but: S) -> list[int]:
        """The places that one other server writes alone, of the one with the most of them."""
        alone: dict[S, list[int]] = {}
        for place, writers in self._at.items():
            if len(writers) == 1 and writers[0] != but:
                alone.setdefault(writers[0], []).append(place)
        return max(alone.values(), key=len, default=[])

    def _load(self, server: S) -> int:
        return sum(server in writers for writers in self._at.values())
