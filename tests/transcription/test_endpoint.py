"""Pages through a server that misbehaves: each is answered, or named with its reason, before its deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate import endpoint as module
from ocr_rl.evaluate.chat import Endpoint, back_off, base_url, served
from ocr_rl.evaluate.endpoint import Read, Unanswered, attempts_at
from ocr_rl.evaluate.readers import at_endpoint
from ocr_rl.evaluate.transcribe import RETRY_TEMPERATURES
from ocr_rl.models.settings import PromptSettings
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.sampler.base import seed_for
from tests.transcription.fake_chat import FAULTS, Body, FakeChat, completion, image_of, text_of

SETTINGS = PromptSettings(longest_px=64, instruction="Read this.", max_tokens=50)
Pdf = Callable[..., Path]


def pages_of(pdf: Path, count: int) -> list[Page]:
    return [Page(id=f"d:p{number}", pdf=pdf, number=number) for number in range(1, count + 1)]


def read(fake: FakeChat, pages: list[Page], **how: object) -> dict[int, Read]:
    endpoint = Endpoint(url=fake.url, model="fake", **{"deadline_s": 20.0, **how})  # type: ignore[arg-type]
    results = list(attempts_at(endpoint, pages, SETTINGS, retries=RETRY_TEMPERATURES, seed=3))
    assert sorted(page.number for page, _ in results) == [page.number for page in pages], "each page once"
    return {page.number: result for page, result in results}


def texts(results: dict[int, Read]) -> list[str]:
    return [result[-1].transcript.raw for _, result in sorted(results.items()) if not isinstance(result, PageError)]


@pytest.fixture
def pages(pdf: Pdf) -> list[Page]:
    return pages_of(pdf("a.pdf", 4), 4)


def test_a_page_is_asked_as_its_settings_say(fake: FakeChat, pages: list[Page]) -> None:
    results = read(fake, pages[:1], extra={"top_k": 1}, key="sk-secret")
    (body,) = fake.asked
    assert [part["type"] for part in body["messages"][0]["content"]] == ["text", "image_url"]
    asked = {name: body[name] for name in ("model", "temperature", "max_tokens", "top_k", "seed")}
    assert asked == {"model": "fake", "temperature": 0.0, "max_tokens": 50, "top_k": 1, "seed": seed_for(3, "d:p1")}
    (attempt,) = results[1]  # type: ignore[misc]
    assert (attempt.transcript.num_tokens, attempt.prompt_tokens, attempt.transcript.finish) == (7, 20, "stop")
    assert fake.keys == ["Bearer sk-secret"]


@pytest.mark.parametrize(
    "fault",
    ["429", "429 until a date", "500", "503", "cut", "no JSON", "deep JSON", "other JSON", "no text", "much"],
)
def test_what_a_fault_took_is_asked_again(fake: FakeChat, pages: list[Page], fault: str) -> None:
    undisturbed = texts(read(fake, pages))
    assert len(set(undisturbed)) == 4
    fake.faults = [fault, "", fault, fault]
    assert texts(read(fake, pages)) == undisturbed


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("", "401")])
def test_a_server_that_stays_so_costs_each_page_its_deadline_at_most(
    fake: FakeChat, pages: list[Page], fault: str
) -> None:
    fake.faults = [fault] * 1000
    start = time.monotonic()
    results = read(fake, pages[:2], deadline_s=0.5)
    assert time.monotonic() - start < 10  # no hang: a page without a deadline would take 20 s
    for result in results.values():
        assert isinstance(result, Unanswered)
        assert "server" in result.reason or "within 0.5 s" in result.reason


def test_the_key_is_in_no_sentence(fake: FakeChat, pages: list[Page]) -> None:
    fake.faults = ["401"]
    with pytest.raises(UserError, match=r"refuses the key \(401: wrong key …\); is it in MY_KEY\?"):
        read(fake, pages, key="sk-secret", key_name="MY_KEY")
    assert "sk-secret" not in repr(Endpoint(url="u", model="m", key="sk-secret"))


def test_a_server_that_answers_nothing_ends_the_job(fake: FakeChat, pages: list[Page], monkeypatch) -> None:
    monkeypatch.setattr(module, "IN_A_ROW", 3)
    fake.faults = ["400"] * 1000
    with pytest.raises(UserError, match="3 pages in a row have no answer .*maximum context length.*to go on"):
        read(fake, pages, in_flight=2)


def test_no_more_pages_are_on_the_way_than_asked_for(fake: FakeChat, pages: list[Page]) -> None:
    fake.write = lambda body: (time.sleep(0.05), completion(text_of(body)))[1]
    read(fake, pages, in_flight=2)
    assert fake.most == 2


UPSIDE_DOWN = (
    "---\nprimary_language: en\nis_rotation_valid: False\nrotation_correction: 180\nis_table: False\n"
    "is_diagram: False\n---\n"
)


def test_the_ladder_is_that_of_the_engine_in_process(fake: FakeChat, pages: list[Page]) -> None:
    """Page 1 never ends; page 2 calls itself turned once."""
    first, second = (fake_image(fake, page) for page in pages[:2])

    def write(body: Body) -> Body:
        if image_of(body) == second:
            return completion(UPSIDE_DOWN + "umop")
        return completion("for ever", "length") if image_of(body) == first else completion("upright")

    fake.write = write
    results = read(fake, pages[:2])
    ways = {number: [(a.temperature, a.rotation) for a in tries] for number, tries in results.items()}  # type: ignore[union-attr]
    assert ways == {1: [(0.0, 0), (0.2, 0), (0.5, 0), (0.8, 0)], 2: [(0.0, 0), (0.0, 180)]}
    assert [body["seed"] for body in fake.asked if image_of(body) == first] == [
        seed_for(3 + step, "d:p1") for step in range(4)
    ]


def fake_image(fake: FakeChat, page: Page) -> str:
    read(fake, [page])
    return image_of(fake.asked.pop())


def test_a_page_whose_deadline_passes_keeps_what_it_has(fake: FakeChat, pages: list[Page]) -> None:
    fake.write = lambda body: completion("cut off", "length")
    fake.faults = ["", "slow"]
    ((attempt,),) = read(fake, pages[:1], deadline_s=1.0).values()  # type: ignore[misc]
    assert attempt.transcript.raw == "cut off"


def test_a_page_that_cannot_be_drawn_is_no_fault_of_the_server(fake: FakeChat, pages: list[Page]) -> None:
    results = read(fake, [*pages, replace(pages[0], id="d:p9", number=9)])
    assert isinstance(results[9], PageError) and not isinstance(results[9], Unanswered)
    assert len(texts(results)) == 4


def test_a_caller_who_has_seen_enough_leaves_nothing_behind(fake: FakeChat, pages: list[Page]) -> None:
    fake.faults = ["", *["no end"] * 10]
    stream = attempts_at(Endpoint(url=fake.url, model="fake"), pages, SETTINGS)
    next(stream)
    stream.close()


def test_waits_double_up_to_a_bound_and_are_shaken() -> None:
    assert all(0.25 * 2**k <= back_off(k) <= 0.5 * 2**k for k in range(6))
    assert back_off(10**6) <= 30.0
    assert len({back_off(3) for _ in range(9)}) > 1


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("https://h/v1/", "https://h/v1"),
        ("https://h/api/v3/chat/completions", "https://h/api/v3"),
    ],
)
def test_an_address_is_completed(given: str, url: str) -> None:
    assert base_url(given) == url


@pytest.mark.parametrize(
    "given", ["h:1", "ftp://h", "http://", "http://u:p@h", "http://h?key=1", "http://[", "http://h:x"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(UserError, match="--endpoint"):
        base_url(given)


def test_the_model_is_the_one_that_is_served(fake: FakeChat) -> None:
    assert served(fake.url, "", "K", None).name == "fake"
    assert served(fake.url, "", "K", "other").name == "other"
    fake.cards = [{"id": "a"}, {"id": "b"}]
    with pytest.raises(UserError, match=r"serves 2 models \(a, b\); name one with --model"):
        served(fake.url, "", "K", None)
    with pytest.raises(UserError, match="cannot be reached"):
        served("http://127.0.0.1:9/v1", "", "K", None)


@pytest.mark.parametrize("name", ["half \ud800", "\x1b[31mred", "line\nline", "x" * 2000, "", 3])
def test_a_models_name_that_cannot_be_shown_is_none(fake: FakeChat, name: object) -> None:
    fake.cards = [{"id": name, "root": name}, {"id": "fake", "root": name}]
    assert (served(fake.url, "", "K", None).name, served(fake.url, "", "K", None).root) == ("fake", "")


def test_a_root_that_is_no_path_is_unknown(fake: FakeChat) -> None:
    fake.cards = [{"id": "fake", "root": "x" * 900}]
    assert at_endpoint(fake.url, model=None).settings == PromptSettings()


@pytest.mark.parametrize("count", [10**4000, -1, True, 1.5, float("nan"), "7", None])
def test_a_count_of_tokens_that_is_none_counts_nothing(fake: FakeChat, pages: list[Page], count: object) -> None:
    fake.write = lambda body: completion("text", tokens=count)  # type: ignore[arg-type]
    assert read(fake, pages[:1])[1][0].transcript.num_tokens == 0  # type: ignore[index]


def test_a_key_stands_without_what_a_file_put_around_it(fake: FakeChat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", " sk-secret\n")
    assert at_endpoint(fake.url, model=None, key_name="KEY").endpoint.key == "sk-secret"
    for odd in ("sk-é", "sk-a\nb"):
        monkeypatch.setenv("KEY", odd)
        with pytest.raises(UserError, match="KEY: holds more than printable ASCII"):
            at_endpoint(fake.url, model=None, key_name="KEY")


def test_a_job_that_ends_by_a_sentence_leaves_no_worker(
    fake: FakeChat, pages: list[Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    def drawn(function: Any, jobs: Any, **_: object) -> Iterator[Any]:
        try:
            yield from ((job, function(job)) for job in jobs)
        finally:
            closed.append(True)

    monkeypatch.setattr(module, "guarded", drawn)
    fake.faults = ["401"] * 4
    with pytest.raises(UserError, match="refuses the key") as info:
        read(fake, pages, in_flight=1)
    assert closed and info.value  # while the error, which holds the frames, is still there
