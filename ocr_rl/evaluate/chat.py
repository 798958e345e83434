"""One question to an OpenAI-compatible server (vLLM, SGLang, llama.cpp, hosted ones): an image in, a transcript out.

A server may be slow, busy, dead or mad. What may pass is asked again, after a wait that doubles and that a server may
lengthen (Retry-After); the caller bounds the whole by a deadline. An answer is read up to a size, and believed only in
the form that the interface has. Knows nothing about pages or ladders, and never shows the key.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import httpx

from ocr_rl.contract import Transcript, UserError
from ocr_rl.text.front_matter import split_front_matter

MAX_ANSWER_BYTES = 2**24  # a transcript of 200,000 characters, each escaped, is a tenth of it
MAX_TOKENS = 10**9  # of one answer; a server that counts more does not count
MAX_NAME = 1000  # characters of a model's name
CONNECT_S = 10.0
LOOK_S = 30.0  # to wait for a server's list of models
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
SPOILT = 8  # answers to one question that the server gave and nobody can use, before it is given up
_BUSY = (408, 409, 425, 429, 502, 503, 504)  # will pass; they count for nothing
_NO_ENTRY = {
    401: "refuses the key",
    402: "wants to be paid",
    403: "refuses the key",
    404: "has no such address or model",
}
_REASON = 300  # characters of a server's own words
_THOUGHTS = ("reasoning_content", "reasoning")  # where servers put what a model thinks before it writes
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server and how it is used."""

    url: str  # as `base_url` gives it
    model: str
    key: str = field(default="", repr=False)
    key_name: str = "OPENAI_API_KEY"  # the environment variable that it came from, for sentences
    in_flight: int = 64  # pages
    deadline_s: float = 600.0  # of one page, with all its attempts and waits
    extra: Mapping[str, Any] = field(default_factory=dict)  # further fields of every question


class Refused(Exception):
    """Why a question has no answer and would have none if it were asked again."""


class _Spoilt(Exception):
    """Why an answer cannot be used; `wait_s` is what the server asks for. Worth asking again."""

    def __init__(self, reason: str, *, passes: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.passes, self.wait_s = passes, wait_s


def base_url(text: str) -> str:
    """Gives "http://127.0.0.1:8000/v1" for "http://127.0.0.1:8000"; a path of its own is kept. UserError for none."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(f"--endpoint {text}: is no address; write it as in http://127.0.0.1:8000/v1.")
    if parts.username or parts.password or parts.query:
        raise UserError("--endpoint: an address holds no key; put it into the environment, and see --key-env.")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def client(url: str, key: str) -> httpx.AsyncClient:
    """What asks a server; it follows no redirects, which could carry the key elsewhere."""
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return httpx.AsyncClient(
        base_url=url,
        headers=headers,
        timeout=httpx.Timeout(None, connect=CONNECT_S),  # the caller bounds the whole page, not each read
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        trust_env=urlsplit(url).hostname not in _LOCAL,  # proxies are for servers elsewhere
    )


async def ask(
    http: httpx.AsyncClient, endpoint: Endpoint, body: Mapping[str, Any], troubles: list[str]
) -> tuple[Transcript, int]:
    """The transcript, and the number of the prompt's tokens (0 where the server does not count).

    It asks until there is an answer, and the caller's `asyncio.timeout` bounds that; `troubles` tells meanwhile what
    was in the way. Raises Refused; UserError for what would stop every other page too.
    """
    spoilt = 0
    for failures in count():
        try:
            return _read(await _object(http, endpoint, "POST", "/chat/completions", body))
        except _Spoilt as flaw:
            troubles.append(str(flaw))
            spoilt += not flaw.passes
            if spoilt == SPOILT:
                raise Refused(f"the server spoilt {SPOILT} answers, the last time it {flaw}") from None
            if flaw.wait_s > endpoint.deadline_s:
                raise Refused(f"the server {flaw} and asks to wait for {flaw.wait_s:g} s") from None
            await asyncio.sleep(max(flaw.wait_s, back_off(failures)))
    raise AssertionError("count() does not end")


def back_off(failures: int) -> float:
    """Seconds to wait after so many failures before: doubling, and shaken so that pages do not come back together."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failures, 16)) * random.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model that a server offers."""

    name: str
    root: str = ""  # vLLM: the folder or hub name that it was loaded from


def served(url: str, key: str, key_name: str, name: str | None) -> Served:
    """The model of that name, or the server's only one. UserError where it has none, or several and none is named."""
    endpoint = Endpoint(url=url, model=name or "", key=key, key_name=key_name)
    try:
        cards = asyncio.run(_cards(endpoint))
    except (Refused, UserError) as flaw:
        if name is not None and not isinstance(flaw, UserError):
            return Served(name=name)  # a server need not tell what it has
        raise UserError(str(flaw)) from None
    if name is None and len(cards) != 1:
        names = ", ".join(sorted(cards)[:8]) or "none"
        raise UserError(f"--endpoint {url}: it serves {len(cards)} models ({names}); name one with --model.")
    name = name if name is not None else next(iter(cards))
    root = cards.get(name, {}).get("root")
    return Served(name=name, root=root if _is_name(root) else "")


async def _cards(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    try:
        async with client(endpoint.url, endpoint.key) as http, asyncio.timeout(LOOK_S):
            listed = (await _object(http, endpoint, "GET", "/models")).get("data")
    except (_Spoilt, TimeoutError) as flaw:
        reason = str(flaw) or f"did not answer within {LOOK_S:g} s"
        if isinstance(flaw, _Spoilt) and not flaw.passes:
            raise Refused(f"--endpoint {endpoint.url}: the server {reason}; name a model with --model.") from None
        raise UserError(f"--endpoint {endpoint.url}: the server {reason}; start it, or mend the address.") from None
    cards = [card for card in listed if isinstance(card, dict)] if isinstance(listed, list) else []
    return {card["id"]: card for card in cards if _is_name(card.get("id"))}


def _is_name(name: Any) -> TypeGuard[str]:
    """Whether a server's word can be shown, written and sent back: no control characters, no half a surrogate pair."""
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()


# --- one call ---------------------------------------------------------------------------------------------------------


async def _object(
    http: httpx.AsyncClient, endpoint: Endpoint, method: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The JSON object of an answer. Raises _Spoilt, Refused, UserError."""
    try:
        async with http.stream(method, path, json=body) as answer:
            data = await _bytes(answer)
    except httpx.HTTPError as error:
        raise _Spoilt(f"cannot be reached ({type(error).__name__})", passes=_is_away(error)) from None
    status = answer.status_code
    if status in _BUSY or status >= 500:
        wait_s = _retry_after(answer.headers.get("Retry-After", ""))
        raise _Spoilt(f"answered {status}{_words(data, endpoint)}", passes=status in _BUSY, wait_s=wait_s)
    if status in _NO_ENTRY and not (status == 404 and method == "GET"):
        way_out = f"is it in {endpoint.key_name}?" if status != 404 else f"does it serve {endpoint.model!r}?"
        raise UserError(
            f"--endpoint {endpoint.url}: the server {_NO_ENTRY[status]} ({status}{_words(data, endpoint)}); {way_out}"
        )
    if not 200 <= status < 300:
        raise Refused(f"the server refuses it with {status}{_words(data, endpoint)}")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise _Spoilt("answered with what is no JSON") from None
    if not isinstance(content, dict):
        raise _Spoilt("answered with JSON that is no object")
    return content


def _is_away(error: httpx.HTTPError) -> bool:
    """Whether the server is dead or starting, rather than one that breaks its answers off."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ReadError | httpx.WriteError)


async def _bytes(answer: httpx.Response) -> bytes:
    data = bytearray()
    async for chunk in answer.aiter_raw():
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise _Spoilt(f"answered with more than {MAX_ANSWER_BYTES >> 20} MB")
    return bytes(data)


def _retry_after(text: str) -> float:
    """Seconds that the header asks for, as a number or a date; 0 where it asks for nothing that can be read."""
    try:
        seconds = float(text) if text[:1].isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
    return max(0.0, seconds) if seconds < float("inf") else 0.0


def _words(data: bytes, endpoint: Endpoint) -> str:
    """What a server says about an error, in one line and without the key."""
    text = data[: 4 * _REASON].decode("utf-8", "replace")
    text = text.replace(endpoint.key, "…") if endpoint.key else text
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f": {text[:_REASON]}" if text else ""


def _read(answer: Mapping[str, Any]) -> tuple[Transcript, int]:
    """The transcript and the prompt's tokens of a chat completion. Raises _Spoilt for an answer in another form."""
    try:
        choice = answer["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text = _text(message["content"])
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _Spoilt("answered without a choice") from None
    usage = answer.get("usage")
    tokens = _whole(usage, "completion_tokens")
    if not text and any(message.get(name) for name in _THOUGHTS):
        raise Refused(
            f"the model thought for {tokens} tokens and wrote no text; raise --max-tokens, or switch its thinking off "
            "(--extra), as its server's guide says"
        )
    if text is None:
        raise _Spoilt("answered without a text")
    transcript = Transcript(
        raw=text,
        body=split_front_matter(text)[1],
        finish=finish if finish in ("stop", "length") else "abort",
        num_tokens=tokens,
    )
    return transcript, _whole(usage, "prompt_tokens")


def _text(content: Any) -> str | None:
    """What a message says: a text, or parts of which some are text; None where it is neither."""
    if isinstance(content, list):
        parts = [part["text"] for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(parts) if parts and all(isinstance(part, str) for part in parts) else None
    return content if isinstance(content, str) else None


def _whole(usage: Any, name: str) -> int:
    number = usage.get(name) if isinstance(usage, dict) else None
    return number if type(number) is int and 0 <= number <= MAX_TOKENS else 0


def question(endpoint: Endpoint, instruction: str, png: bytes, *, image_first: bool) -> dict[str, Any]:
    """The body of a question about one image, without its temperature, seed and limit."""
    messages = turn(instruction, base64.b64encode(png).decode("ascii"), image_first=image_first)
    return {"model": endpoint.model, "messages": messages, "stream": False}


def turn(instruction: str, png_base64: str, *, image_first: bool) -> list[dict[str, Any]]:
    """The user's one turn: an image, and the instruction before or after it."""
    text = [{"type": "text", "text": instruction}] if instruction else []
    image = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png_base64}"}}]
    return [{"role": "user", "content": image + text if image_first else text + image}]
