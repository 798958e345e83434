"""Work in a thread of its own, whose end somebody waits for later."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
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


def at_once(act: Callable[[], T]) -> Future[T]:
    """Do it here and now."""
    future: Future[T] = Future()
    future.set_result(act())
    return future
