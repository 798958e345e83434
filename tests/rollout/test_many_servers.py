"""Several servers: they share pages, die, come back with the right weights, and the samples are the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from threading import Event

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

from ocr_rl.contract import Page, UserError
from ocr_rl.learn.probe import Canary
from ocr_rl.rollout.flow import Prompt
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler import vllm_server, wire
from ocr_rl.rollout.sampler.base import Sampling, seed_for
from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler
from tests.fake_vllm import FakeVllm
from tests.learn.conftest import Referee
from tests.rollout.test_vllm_server import weights

HOW = Sampling(n=3, temperature=0.7, max_tokens=60, seed=5)
Open = Callable[..., VllmServerSampler]


@pytest.fixture
def fakes(prompter: Prompter, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeVllm, FakeVllm]]:
    monkeypatch.setattr(wire, "POLL_S", 0.02)
    servers = FakeVllm(prompter), FakeVllm(prompter)
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def open_(fakes, nano_dir: Path, prompter: Prompter, tmp_path: Path) -> Iterator[Open]:
    opened = []

    def open_both(**settings) -> VllmServerSampler:
        urls = tuple(server.url for server in fakes)
        given = {"max_model_len": 256, "weights_dir": tmp_path, "deadline_s": 30.0, "wait_s": 30.0, **settings}
        opened.append(VllmServerSampler(nano_dir, prompter, ServerSettings(url=urls, **given)))
        return opened[-1]

    yield open_both
    for sampler in opened:
        sampler.close()


@pytest.fixture(scope="module")
def asked(tiny_pages: list[Page], prompter: Prompter) -> list[tuple[Page, Prompt]]:
    """Eight pages that look like four, each with samples of its own."""
    pages = [replace(page, id=f"0a1b2c3d:p{n}") for n, page in enumerate(tiny_pages * 2, 1)]
    return [(page, prompter.prompt(page)) for page in pages]


def written(sampler: VllmServerSampler, asked, how: Sampling = HOW) -> dict[str, list[tuple[str, int]]]:
    groups = list(sampler.sample(asked, how))
    assert len({group.page.id for group in groups}) == len(groups) == len(asked)
    return {group.page.id: [(sample.text, sample.policy) for sample in group.samples] for group in groups}


def pages_asked(server: FakeVllm, asked, how: Sampling = HOW) -> int:
    """How often it was asked for pages with these settings."""
    seeds = {seed_for(how.seed, page.id) for page, _ in asked}
    return sum(seed in seeds for seed in server.seeds)


@pytest.fixture
def hold(fakes, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], bool]], None]:
    """From then on no page is answered by either before something has come true."""

    def until(come: Callable[[], bool]) -> None:
        def write(fake: FakeVllm, body: dict) -> dict:
            end = time.monotonic() + 30
            while "content_parts" in body and not come():
                assert time.monotonic() < end, "it has not come true"
                time.sleep(0.001)
            return FakeVllm.write(fake, body)

        for fake in fakes:
            monkeypatch.setattr(fake, "write", partial(write, fake))

    return until


def shared(fakes, asked, how: Sampling = HOW) -> Callable[[], bool]:
    """Whether each of both was asked for half of the pages."""
    return lambda: all(pages_asked(fake, asked, how) >= len(asked) // 2 for fake in fakes)


def of_seeds(asked, how: Sampling, policy: int, loaded: str) -> dict[str, list[tuple[str, int]]]:
    """What the stand-ins write, whoever is asked."""
    return {
        page.id: [(f"{seed_for(how.seed, page.id) % 1000} {k} {loaded} ", policy) for k in range(how.n)]
        for page, _ in asked
    }


def test_both_hold_the_weights_and_share_the_pages(open_, fakes, asked, hold) -> None:
    sampler = open_()
    sampler.load(weights(2.0), 1)
    assert fakes[0].loaded == fakes[1].loaded == "16.000" and fakes[0].version == fakes[1].version
    hold(shared(fakes, asked))
    assert written(sampler, asked) == of_seeds(asked, HOW, 1, "16.000")


def test_each_page_has_its_limit_whoever_writes_it(open_, fakes, asked, hold) -> None:
    sampler = open_()
    limits = {page.id: 3 + page.number for page, _ in asked[::2]}
    how = replace(HOW, max_tokens=12, page_limits=limits)
    hold(shared(fakes, asked, how))
    lengths = {g.page.id: {len(s.token_ids) for s in g.samples} for g in sampler.sample(asked, how)}
    assert lengths == {page.id: {limits.get(page.id, 12)} for page, _ in asked}


def test_one_killed_in_mid_step_ten_times_changes_no_sample(open_, fakes, asked, hold, capsys, monkeypatch) -> None:
    sampler, rng = open_(), Random(0)
    for step in range(1, 11):
        sampler.load(weights(float(step)), step)
        how = replace(HOW, seed=step)
        dies, lost = fakes[step % 2], Event()
        (ours,) = (server for server in sampler._servers if server.wire.url == dies.url)
        fails = ours.fails
        monkeypatch.setattr(ours, "fails", lambda down, fails=fails, lost=lost: (fails(down), lost.set()))
        dies.faults = [""] * rng.randrange(4) + ["dies"]  # and is back a moment later, without our weights
        hold(lost.is_set)  # that it died must be seen before all pages are answered
        assert written(sampler, asked, how) == of_seeds(asked, how, step, f"{8 * step}.000")
        monkeypatch.setattr(ours, "fails", fails)
        becomes_true(lambda dies=dies, other=fakes[1 - step % 2]: dies.version == other.version)  # in the background
        assert dies.url in capsys.readouterr().out


def becomes_true(come: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not come():
        assert time.monotonic() < end, "it has not come true"
        time.sleep(0.01)


def test_the_others_take_the_pages_of_one_that_stays_dead_and_it_gets_the_weights_before_its_next_page(
    open_, fakes, asked, hold
) -> None:
    sampler, (first, second) = open_(), fakes
    sampler.load(weights(2.0), 1)
    second.stop()
    assert written(sampler, asked) == of_seeds(asked, HOW, 1, "16.000")
    sampler.load(weights(3.0), 2)  # does not wait for the dead one
    assert written(sampler, asked) == of_seeds(asked, HOW, 2, "24.000")
    second.start()
    becomes_true(lambda: second.version == first.version)  # it is tried again in the background
    how = replace(HOW, seed=6)
    hold(shared(fakes, asked, how))
    assert written(sampler, asked, how) == of_seeds(asked, how, 2, "24.000")


def test_one_that_forgot_the_weights_answers_no_page_with_others(open_, fakes, asked) -> None:
    sampler = open_()
    sampler.load(weights(2.0), 1)
    ours = written(sampler, asked)
    fakes[1].stop()
    fakes[1].start()
    fakes[1].faults = ["old weights"]
    assert written(sampler, asked) == ours


def test_a_slow_one_answers_fewer_pages_and_holds_nobody_up(open_, fakes, asked, monkeypatch) -> None:
    sampler, (quick, slow) = open_(max_num_seqs=6), fakes  # room for three pages of three samples
    never = Event()
    write = slow.write

    def late(body: dict) -> dict:
        if "content_parts" in body:
            never.wait(30)
        return write(body)

    monkeypatch.setattr(slow, "write", late)
    how = replace(HOW, seed=6)
    assert written(sampler, asked, how) == of_seeds(asked, how, 0, fakes[0].loaded)
    assert pages_asked(slow, asked, how) == 3 and pages_asked(quick, asked, how) == len(asked)
    never.set()


def test_one_page_is_not_asked_twice(open_, fakes, asked) -> None:
    written(open_(), asked[:1])
    assert sum(pages_asked(server, asked) for server in fakes) == 1


def test_one_that_hangs_does_not_hold_up_the_next_load(open_, fakes, asked, monkeypatch, capsys) -> None:
    monkeypatch.setattr(vllm_server, "LATE_S", 0.05)
    sampler, hung, go = open_(), fakes[1], Event()
    answer = hung.answer

    def hang(path: str, body: dict) -> dict:
        go.wait(30)
        return answer(path, body)

    monkeypatch.setattr(hung, "answer", hang)
    sampler.load(weights(2.0), 1)
    assert not go.is_set() and f"{hung.url} has not read the weights yet" in capsys.readouterr().out
    assert written(sampler, asked) == of_seeds(asked, HOW, 1, "16.000") and pages_asked(hung, asked) == 0
    go.set()


def test_one_that_reads_while_newer_weights_come_reads_these_too(open_, fakes, asked, monkeypatch) -> None:
    sampler, (first, second), reading, go = open_(), fakes, Event(), Event()
    second.stop()
    sampler.load(weights(2.0), 1)
    assert written(sampler, asked) == of_seeds(asked, HOW, 1, "16.000")  # without the second, which is waited for
    answer = second.answer

    def slow(path: str, body: dict) -> dict:
        answered = answer(path, body)
        if path == "/collective_rpc" and not reading.is_set():
            reading.set()
            assert go.wait(30)
        return answered

    monkeypatch.setattr(second, "answer", slow)
    second.start()
    assert reading.wait(30)
    sampler.load(weights(3.0), 2)
    go.set()
    becomes_true(lambda: second.version == first.version)
    assert second.loaded == first.loaded == "24.000"


def test_a_canary_is_written_by_each(open_, fakes, asked, tiny_pages, prompter, hold) -> None:
    sampler, how = open_(), Sampling(n=3, temperature=0.7, max_tokens=60)
    canary = Canary(Referee(prompter), sampler, tiny_pages, how, 0)
    hold(lambda: all(fake.seeds for fake in fakes))
    canary.ask()
    assert all(fake.seeds for fake in fakes)  # else `hold` has waited in vain
    assert canary.gap()["gap_max"] == 0.5


def test_all_dead_is_one_sentence(open_, fakes, asked) -> None:
    sampler = open_(wait_s=0.1)
    for server in fakes:
        server.stop()
    with pytest.raises(UserError, match=r"None of the 2 servers is left\. The server http.* was not back within 0.1 s"):
        written(sampler, asked)
    fakes[0].start()
    assert len(written(sampler, asked)) == len(asked)


def test_a_run_begins_with_those_that_are_there(open_, fakes, asked, capsys) -> None:
    fakes[0].stop()
    sampler = open_(wait_s=0.1)
    assert len(written(sampler, asked)) == len(asked)
    assert "its pages go to the others, it is tried again, for at most 0.1 s" in capsys.readouterr().out


def test_one_started_with_other_settings_is_named_at_once(open_, fakes) -> None:
    fakes[1].raw_logprobs = True
    with pytest.raises(UserError, match=rf"{fakes[1].url} gives log-probabilities of another distribution"):
        open_()


def test_one_that_fails_again_and_again_is_left_out_and_tried_in_the_next_step(open_, fakes, asked, hold) -> None:
    sampler = open_()
    fakes[1].faults = ["error"] * 99
    assert written(sampler, asked) == of_seeds(asked, HOW, 0, fakes[0].loaded)
    fakes[1].faults = []
    written(sampler, asked, replace(HOW, seed=6))  # in which it is tried again, and perhaps comes too late
    (ours,) = (server for server in sampler._servers if server.wire.url == fakes[1].url)
    becomes_true(lambda: ours.down is None)
    how = replace(HOW, seed=7)
    hold(shared(fakes, asked, how))
    assert written(sampler, asked, how) == of_seeds(asked, how, 0, fakes[0].loaded)
