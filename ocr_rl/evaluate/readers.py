"""Two ways to ask a policy about pages: in this process, or at a server. Both climb the same ladder.

A reader says what must not change while a job goes on, and is opened only once there is a page to read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.candidates import fingerprint, model_place
from ocr_rl.evaluate.chat import Endpoint, base_url, served
from ocr_rl.evaluate.endpoint import Read, attempts_at
from ocr_rl.evaluate.transcribe import RETRY_TEMPERATURES, attempts
from ocr_rl.models.known import read_settings
from ocr_rl.models.settings import PromptSettings

# Pages in; each comes back with its attempts, or with the reason why there are none.
Ask = Callable[[Iterable[Page]], Iterator[tuple[Page, Read]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How one wants a policy to be asked, where not as it is known for."""

    preset: str | None = None
    instruction: str | None = None
    longest_px: int | None = None
    max_tokens: int | None = None  # at an endpoint alone: an engine here is opened for what the model says
    seed: int = 0

    def over(self, settings: PromptSettings) -> PromptSettings:
        given = {name: getattr(self, name) for name in ("instruction", "longest_px", "max_tokens")}
        return replace(settings, **{name: value for name, value in given.items() if value is not None})


class Reader(Protocol):
    @property
    def model(self) -> str: ...
    @property
    def settings(self) -> PromptSettings: ...

    def bound(self) -> Mapping[str, Any]:
        """What must not change between the halves of a job, beside the settings."""
        ...

    def opened(self) -> Any:
        """A context manager that gives an `Ask`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcess:
    """A policy that is loaded here."""

    model: str
    backend: str
    asking: Asking

    @property
    def settings(self) -> PromptSettings:
        return self.asking.over(read_settings(model_place(self.model), self.asking.preset))

    def bound(self) -> Mapping[str, Any]:
        return {"files": fingerprint(self.model), "seed": self.asking.seed}

    @contextmanager
    def opened(self) -> Iterator[Ask]:
        from ocr_rl.policy import open_policy  # torch and all

        asking = self.asking
        with open_policy(
            self.model,
            engine=self.backend,
            longest_px=asking.longest_px,
            preset=asking.preset,
            instruction=asking.instruction,
        ) as policy:
            yield lambda pages: attempts(
                pages,
                policy.sampler,
                policy.prompter,
                max_tokens=policy.settings.max_tokens,
                retries=RETRY_TEMPERATURES,
                seed=asking.seed,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AtEndpoint:
    """A policy that a server holds."""

    endpoint: Endpoint
    settings: PromptSettings
    seed: int = 0
    workers: int = 1  # processes that draw pages

    @property
    def model(self) -> str:
        return self.endpoint.model

    def bound(self) -> Mapping[str, Any]:
        return {"extra": dict(self.endpoint.extra), "seed": self.seed}

    @contextmanager
    def opened(self) -> Iterator[Ask]:
        yield lambda pages: attempts_at(
            self.endpoint,
            pages,
            self.settings,
            retries=RETRY_TEMPERATURES,
            seed=self.seed,
            workers=self.workers,
        )


def at_endpoint(
    url: str,
    *,
    model: str | None,
    key_name: str = "OPENAI_API_KEY",
    asking: Asking = Asking(),  # noqa: B008 frozen
    extra: Mapping[str, Any] | None = None,
    in_flight: int = 64,
    deadline_s: float = 600.0,
    workers: int = 1,
) -> AtEndpoint:
    """The reader of a server's model (its only one, where none is named), asked as it is known for.

    What it is known for says the folder or hub name that it was loaded from, where the server tells it, else its name.
    The key is what the environment variable `key_name` holds; none, where there is no such variable. UserError where
    the server is not there.
    """
    address, key = base_url(url), _key(key_name)
    card = served(address, key, key_name, model)
    endpoint = Endpoint(
        url=address,
        model=card.name,
        key=key,
        key_name=key_name,
        in_flight=in_flight,
        deadline_s=deadline_s,
        extra=extra or {},
    )
    settings = asking.over(_known_settings(card.root, card.name, asking.preset))
    return AtEndpoint(endpoint=endpoint, settings=settings, seed=asking.seed, workers=workers)


def _key(name: str) -> str:
    """What the environment holds, without blanks and line ends around it. UserError for what no header can hold."""
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{name}: holds more than printable ASCII, which no key does; set it anew, or see --key-env.")
    return key


def _known_settings(root: str, name: str, preset: str | None) -> PromptSettings:
    ways = (read_settings(place, preset) for place in (root, name) if place)
    return next((way for way in ways if way != PromptSettings()), PromptSettings())


def settings_of(reader: Reader) -> dict[str, Any]:
    """What a job of this reader is bound to."""
    return {"model": reader.model, **asdict(reader.settings), **reader.bound(), "retries": list(RETRY_TEMPERATURES)}


def extra_fields(words: Iterable[str]) -> dict[str, Any]:
    """["top_k=1"] -> {"top_k": 1}: further fields of a question, their values as JSON or else as text."""
    fields: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UserError(f"--extra {word}: write NAME=VALUE, as in top_k=1.")
        if name in ("model", "messages", "stream"):
            raise UserError(f"--extra {word}: {name} is not to be set.")
        try:
            fields[name] = json.loads(value)
        except (ValueError, RecursionError):
            fields[name] = value
        try:
            json.dumps(fields[name], allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError):  # NaN, infinity, bytes that are no text
            raise UserError(f"--extra {name}: its value cannot be sent as JSON; give another one.") from None
    return fields
