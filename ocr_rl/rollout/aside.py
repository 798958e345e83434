"""Work in a thread of its own, whose end somebody waits for later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import islice
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def begin(act: Callable[[], T]) -> Future[T]:
    """Do it in a thread of its own, which the end of the program does not wait for."""
    future: Future[T] = Future()

    def settle() -> None:
        try:
            future.set_result(act())
        except BaseException as error:  # noqa: BLE001 whoever waits for the answer gets the error
            future.set_exception(error)

    Thread(target=settle, daemon=True).start()
    return future


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each of them made in a thread of its own while the one before it is in use; errors in their turn."""
    following = begin(lambda: list(islice(items, 1)))
    while item := following.result():
        following = begin(lambda: list(islice(items, 1)))
        yield item[0]


def at_once(act: Callable[[], T]) -> Future[T]:
    """Do it here and now."""
    future: Future[T] = Future()
    future.set_result(act())
    return future
