"""A server as a candidate of a benchmark: asked like a policy in process, with what its tokens cost.

NAME=URL,model=…,preset=…,longest_px=…,max_tokens=…,price=IN/OUT,key_env=…,in_flight=…,deadline=…
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from ocr_rl.contract import UserError
from ocr_rl.evaluate.candidates import SEEDS_APART, Answer, Todo, as_answers, retries_above
from ocr_rl.evaluate.chat import base_url
from ocr_rl.evaluate.endpoint import attempts_at
from ocr_rl.evaluate.readers import Asking, AtEndpoint, at_endpoint
from ocr_rl.models.known import require_preset
from ocr_rl.pages.raster import MAX_PX

_WHOLE = {"longest_px": MAX_PX, "max_tokens": 10**6, "in_flight": 4096, "deadline": 86_400}  # options, and the most
_WORDS = ("model", "preset", "key_env", "price")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointCandidate:
    """A model behind an OpenAI-compatible server."""

    name: str
    url: str
    repeats: int
    temperature: float  # of the first attempt
    asking: Asking
    model: str | None = None
    prices: tuple[float, float] | None = None  # per million tokens of prompts and of transcripts
    key_env: str = "OPENAI_API_KEY"
    in_flight: int = 64
    deadline_s: float = 600.0
    workers: int = 1

    def settings(self) -> Mapping[str, Any]:
        reader = _reader(self)
        return {
            "model": reader.model,
            "version": f"{reader.model} at {urlsplit(self.url).netloc}",
            "repeats": self.repeats,
            "temperature": self.temperature,
            "prices": self.prices,
            **asdict(reader.settings),
        }

    def answers(self, todo: Todo) -> Iterator[Answer]:
        reader = _reader(self)
        for repeat, pages in todo.items():
            of_pages = attempts_at(
                reader.endpoint,
                pages,
                reader.settings,
                temperature=self.temperature,
                retries=retries_above(self.temperature),
                seed=SEEDS_APART * (repeat - 1),
                workers=self.workers,
            )
            yield from as_answers(of_pages, repeat, len(pages), self.name)


@cache
def _reader(candidate: EndpointCandidate) -> AtEndpoint:
    return at_endpoint(
        candidate.url,
        model=candidate.model,
        key_name=candidate.key_env,
        asking=candidate.asking,
        in_flight=candidate.in_flight,
        deadline_s=candidate.deadline_s,
        workers=candidate.workers,
    )


def endpoint_candidate(
    spec: str, *, repeats: int, temperature: float, preset: str | None, instruction: str | None, workers: int
) -> EndpointCandidate:
    """What the words of --endpoint name; no server is asked yet. UserError for what is none."""
    place, *settings = spec.split(",")
    name, equals, url = place.partition("=")
    name, url = (name, url) if equals and "://" not in name else ("", place)
    options: dict[str, str] = {}
    for setting in settings:
        option, equals, value = setting.partition("=")
        if not equals or option not in (*_WHOLE, *_WORDS):
            raise UserError(
                f"--endpoint {spec}: {setting!r} is none of {', '.join((*_WORDS, *_WHOLE))} with its value."
            )
        options[option] = value
    sizes = {option: _whole(spec, option, options[option]) for option in _WHOLE if option in options}
    if "preset" in options:
        require_preset(options["preset"], f"--endpoint {spec}: preset ")
    asking = Asking(
        preset=options.get("preset", preset),
        instruction=instruction,
        longest_px=sizes.get("longest_px"),
        max_tokens=sizes.get("max_tokens"),
    )
    return EndpointCandidate(
        name=name or options.get("model") or urlsplit(base_url(url)).netloc,
        url=base_url(url),
        repeats=repeats,
        temperature=temperature,
        asking=asking,
        model=options.get("model"),
        prices=_prices(spec, options["price"]) if "price" in options else None,
        key_env=options.get("key_env", "OPENAI_API_KEY"),
        in_flight=sizes.get("in_flight", 64),
        deadline_s=float(sizes.get("deadline", 600)),
        workers=workers,
    )


def _whole(spec: str, option: str, value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= _WHOLE[option]:
        raise UserError(f"--endpoint {spec}: {option} is a whole number from 1 to {_WHOLE[option]}, got {value!r}.")
    return int(value)


def _prices(spec: str, value: str) -> tuple[float, float]:
    try:
        asked, written = map(float, value.split("/"))
        if 0 <= asked < float("inf") and 0 <= written < float("inf"):
            return asked, written
    except ValueError:
        pass
    raise UserError(f"--endpoint {spec}: price is IN/OUT per million tokens, as in 0.1/0.4, got {value!r}.")
