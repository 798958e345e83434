"""One contract over every sampler: transformers, vLLM, its server (a scripted one), the fake of other tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from ocr_rl.contract import UserError
from ocr_rl.learn.network import named_weights
from ocr_rl.models.load import load_model, model_folder
from ocr_rl.models.weights import Named, mark
from ocr_rl.rollout.prompt import Prompter, load_prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling
from ocr_rl.rollout.sampler.hf import HfSampler
from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler
from tests.conftest import LONGEST_PX
from tests.contracts.conftest import HOW, changed, gap, in_order, serving, weights_of, written
from tests.contracts.test_adapters_arrive import adapted, adapter_over
from tests.cuda import bodies
from tests.fake_vllm import FakeVllm
from tests.fakes import FakeSampler


@pytest.fixture(scope="module")
def server_sampler(nano_dir: Path, prompter: Prompter) -> Iterator[Sampler]:
    server = FakeVllm(prompter)
    sampler = VllmServerSampler(
        nano_dir, prompter, ServerSettings(url=server.url, max_model_len=256, deadline_s=60, wait_s=60)
    )
    yield sampler
    sampler.close()
    server.stop()


@pytest.fixture(params=["hf", "vllm", "server", "fake"])
def sampler(request: pytest.FixtureRequest, prompter: Prompter) -> Sampler:
    if request.param == "fake":
        return FakeSampler(prompter, lambda page, k: f"page {page.number} " + "again " * k)
    return request.getfixturevalue(f"{request.param}_sampler")


def test_one_group_per_page_and_n_samples_per_group(sampler: Sampler, asked, prompter: Prompter) -> None:
    groups = in_order(sampler, asked, HOW)
    assert [group.page for group in groups] == [page for page, _ in asked]
    assert [group.prompt for group in groups] == [prompt for _, prompt in asked]
    for group in groups:
        assert len(group.samples) == HOW.n
        assert (group.temperature, group.banned_ids) == (HOW.temperature, prompter.banned_ids)


def test_eos_ends_a_sample_iff_it_stopped(sampler: Sampler, asked, prompter: Prompter) -> None:
    for max_tokens in (2, 40):
        for group in sampler.sample(asked, replace(HOW, max_tokens=max_tokens)):
            for sample in group.samples:
                assert (sample.finish == "stop") == (sample.token_ids[-1] == prompter.eos_id)
                assert prompter.eos_id not in sample.token_ids[:-1]
                assert len(sample.token_ids) <= max_tokens
                assert sample.finish == "stop" or len(sample.token_ids) == max_tokens


def test_trap_4_text_is_what_the_tokens_decode_to_and_no_banned_id_is_sampled(
    sampler: Sampler, asked, prompter
) -> None:
    for group in sampler.sample(asked, replace(HOW, max_tokens=60)):
        for sample in group.samples:
            assert sample.text == prompter.decode(sample.token_ids)
            assert not set(sample.token_ids) & set(prompter.banned_ids)
            assert all(logprob <= 0 for logprob in sample.logprobs)


def test_the_same_seed_writes_the_same_whatever_else_is_asked(sampler: Sampler, asked) -> None:
    together = in_order(sampler, asked, HOW)
    alone = [group for one in asked for group in in_order(sampler, [one], HOW)]
    assert written(together) == written(alone)


def test_a_page_s_own_limit_cuts_the_samples_that_max_tokens_gives(sampler: Sampler, asked, prompter: Prompter) -> None:
    how = replace(HOW, max_tokens=40)
    limits = {asked[0][0].id: 1, asked[1][0].id: 5, asked[2][0].id: 99}  # and the fourth page has none
    whole, cut = in_order(sampler, asked, how), in_order(sampler, asked, replace(how, page_limits=limits))
    for long, short, limit in zip(whole, cut, (1, 5, 40, 40), strict=True):
        for sample, begun in zip(long.samples, short.samples, strict=True):
            assert begun.token_ids == sample.token_ids[:limit]
            assert begun.logprobs == pytest.approx(sample.logprobs[:limit], abs=1e-5)
            assert begun.finish == ("stop" if begun.token_ids[-1] == prompter.eos_id else "length")
            assert begun.text == prompter.decode(begun.token_ids)
    assert any(sample.finish == "length" and len(sample.token_ids) < 40 for group in cut for sample in group.samples)


def test_greedy_does_not_depend_on_the_seed(sampler: Sampler, asked) -> None:
    how = Sampling(temperature=0, max_tokens=12)
    assert written(in_order(sampler, asked, how)) == written(in_order(sampler, asked, replace(how, seed=9)))


def test_a_sampler_can_be_left_half_way(sampler: Sampler, asked) -> None:
    groups = iter(sampler.sample(asked, HOW))
    next(groups)
    groups.close()  # type: ignore[attr-defined]
    assert len(in_order(sampler, asked, HOW)) == len(asked)


def test_nothing_asked_nothing_written(sampler: Sampler) -> None:
    assert list(sampler.sample([], HOW)) == []


def test_policy_is_stamped_on_samples(sampler: Sampler, asked, model) -> None:
    sampler.load(weights_of(model), 7)
    try:
        assert sampler.policy == 7
        assert {sample.policy for group in sampler.sample(asked, HOW) for sample in group.samples} == {7}
    finally:
        sampler.load(weights_of(model), 0)


def test_samples_differ_between_siblings_pages_and_seeds(real: Sampler, asked) -> None:
    first = in_order(real, asked, HOW)
    assert len(set(written(first))) == len(written(first))
    assert not set(written(first)) & set(written(in_order(real, asked, replace(HOW, seed=6))))


@pytest.mark.parametrize("temperature", [0.7, 0.0, 1.0])
def test_trap_5_logprobs_are_those_of_the_distribution_really_sampled(
    real, asked, model, prompter, temperature
) -> None:
    groups = in_order(real, asked, replace(HOW, temperature=temperature, n=3 if temperature else 1))
    assert gap(groups, weights_of(model), model, prompter) < 1e-4


def test_banned_ids_stay_out_even_when_the_model_wants_nothing_else(real, asked, model, prompter) -> None:
    # A tied embedding of which only the special tokens' rows are large: their logits dwarf the others.
    weights = [
        (
            name,
            torch.where(torch.arange(len(weight))[:, None] < 7, 40 * weight, weight)
            if weight.ndim == 2 and ("embed_tokens" in name or "lm_head" in name)
            else weight,
        )
        for name, weight in weights_of(model)
    ]
    real.load(weights, 1)
    groups = in_order(real, asked, HOW)
    assert not {token for ids in written(groups) for token in ids} & set(prompter.banned_ids)
    assert gap(groups, weights, model, prompter) < 1e-4


@pytest.mark.parametrize(("part", "by"), [("visual", 0.1), ("language_model", 0.02)])
def test_trap_2_new_weights_are_used_everywhere_and_old_ones_nowhere(real, asked, model, prompter, part, by) -> None:
    before = in_order(real, asked, HOW)  # fills the caches
    weights = changed(model, part, by)
    real.load(weights, 1)
    after = in_order(real, asked, HOW)
    assert gap(after, weights, model, prompter) < 1e-4
    assert gap(after, weights_of(model), model, prompter) > 1e-2, "the change is too small to prove anything"
    real.load(weights_of(model), 2)
    assert written(in_order(real, asked, HOW)) == written(before)


def test_both_engines_agree_on_greedy_transcripts(hf_sampler: HfSampler, vllm_sampler: Sampler, asked) -> None:
    how = Sampling(temperature=0, max_tokens=24)
    assert written(in_order(hf_sampler, asked, how)) == written(in_order(vllm_sampler, asked, how))


def test_vllm_is_asked_for_as_many_pages_as_it_can_begin_soon(
    vllm_sampler: Any, asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round of 800 pages must not lie in memory as 800 images; what is written is what it was."""
    plain = in_order(vllm_sampler, asked, HOW)
    open_now, most = 0, 0
    ask = vllm_sampler._ask

    def counted(*args: Any) -> str:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        return ask(*args)

    monkeypatch.setattr(vllm_sampler, "_ask", counted)
    monkeypatch.setattr(vllm_sampler, "_max_num_seqs", HOW.n)  # as if it wrote one page at a time
    groups = []
    for group in vllm_sampler.sample([*asked] * 3, HOW):
        open_now -= 1
        groups.append(group)
    assert most <= 4 < len(groups) == 3 * len(asked)
    texts = {group.page.id: [sample.text for sample in group.samples] for group in groups}
    assert texts == {group.page.id: [sample.text for sample in group.samples] for group in plain}


def test_trap_7_vllm_sleeps_between_two_calls_and_wakes_with_what_it_held(
    vllm_sampler: Any, asked, nano_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for sleep, which vLLM's CPU build has not: what is called when, and a wake that loses weights."""
    plain = in_order(vllm_sampler, asked, HOW)
    llm, calls = vllm_sampler._llm, []
    monkeypatch.setattr(vllm_sampler, "_sleeps", True)
    monkeypatch.setattr(llm, "sleep", lambda level: calls.append(f"sleep {level}"))
    monkeypatch.setattr(llm, "wake_up", lambda: calls.append("wake"))
    forget = llm.reset_mm_cache
    monkeypatch.setattr(llm, "reset_mm_cache", lambda: (calls.append("forget"), forget())[1])
    ask = llm.enqueue
    monkeypatch.setattr(llm, "enqueue", lambda *args, **named: (calls.append("ask"), ask(*args, **named))[1])
    weights = lambda: named_weights(load_model(nano_dir, dtype="float32"))
    assert written(in_order(vllm_sampler, asked, HOW)) == written(plain)
    assert calls == [*["ask"] * len(asked), "sleep 1"]
    vllm_sampler.load(weights(), 1)
    vllm_sampler.load(weights(), 2)
    given_up = vllm_sampler.sample(asked, HOW)
    next(given_up)
    given_up.close()
    loads = ["wake", "forget", "forget", "forget"]  # what it keeps: once as it wakes, once for each load
    assert calls[len(asked) :] == ["sleep 1", *loads, *["ask"] * len(asked), "sleep 1"]

    def wake_hurt() -> None:
        llm.collective_rpc(lambda worker: next(worker.model_runner.model.parameters()).data.mul_(2))

    monkeypatch.setattr(llm, "wake_up", wake_hurt)
    with pytest.raises(RuntimeError, match="woke with other weights"):
        list(vllm_sampler.sample(asked, HOW))
    vllm_sampler.load(weights(), 0)


def test_an_engine_sleeps_until_it_is_asked_and_only_on_a_gpu(
    nano_dir: Path, prompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on in the middle of a round of pairs learns before it samples."""
    engine = pytest.importorskip("ocr_rl.rollout.sampler.vllm.engine", reason="vLLM is not installed")
    settings = engine.EngineSettings(sleep=True)
    with pytest.raises(UserError, match=r"sampling\.sleep gives a GPU's memory back, and torch sees no GPU here"):
        engine.VllmSampler(nano_dir, prompter, settings)
    calls = []

    class StandIn:
        def __init__(self, **options: Any) -> None:
            calls.append(f"open {options['enable_sleep_mode']}")

        def collective_rpc(self, *_: Any, **__: Any) -> list[dict[str, int]]:
            return [{}]

        def sleep(self, level: int) -> None:
            calls.append(f"sleep {level}")

    monkeypatch.setattr(engine, "LLM", StandIn)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    sampler = engine.VllmSampler(nano_dir, prompter, settings)
    assert calls == ["open True", "sleep 1"] and sampler._asleep == [{}]
    engine.VllmSampler(nano_dir, prompter, engine.EngineSettings())
    assert calls[2:] == ["open False"]


def test_trap_8_an_engine_that_lacks_a_weight_is_found_out(vllm_sampler: Any, model) -> None:
    """Also where nobody can compare it: packed away is not gone."""
    named = dict(weights_of(model))
    layer, norm = "model.language_model.layers.0.mlp.down_proj.weight", "model.language_model.norm.weight"
    vllm_sampler._require_base(
        {layer: 1, norm: mark(named[norm], torch.float32)},
        torch.float32,
        "weights",
    )
    with pytest.raises(UserError, match=r"does not hold the weights .*nobody\.weight differs \(1 of"):
        vllm_sampler._require_base({layer.replace("down_proj", "nobody"): 1}, torch.float32, "weights")


def test_trap_7_after_a_sleep_vllm_writes_with_the_weights_that_it_was_given_last(
    vllm_sampler: Any, asked, model, prompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tests/cuda asks of a sleep, asked of the stand-in."""
    calls = []
    monkeypatch.setattr(vllm_sampler, "_sleeps", True)
    monkeypatch.setattr(vllm_sampler._llm, "sleep", lambda level: calls.append("sleep"))
    monkeypatch.setattr(vllm_sampler._llm, "wake_up", lambda: calls.append("wake"))
    bodies.an_engine_wakes_right(vllm_sampler, asked, model, prompter, most=1e-4)
    assert calls == ["sleep", "wake"] * 5 + ["sleep"]
    vllm_sampler.load(weights_of(model), 0)


def test_vllm_refuses_what_does_not_fit(vllm_sampler: Sampler, asked) -> None:
    with pytest.raises(UserError, match="max_model_len of 10"):
        list(vllm_sampler.sample(asked, replace(HOW, max_tokens=1000)))


def test_trap_1_vllm_names_a_prompt_that_the_learner_would_see_differently(vllm_sampler: Sampler, asked) -> None:
    page, prompt = asked[0]
    wrong = replace(prompt, expanded_ids=prompt.expanded_ids[:-1])
    with pytest.raises(RuntimeError, match=f"{page.id}.*{len(prompt.expanded_ids)} tokens"):
        list(vllm_sampler.sample([(page, wrong)], HOW))
    assert len(list(vllm_sampler.sample(asked, HOW))) == len(asked)


def test_vllm_reads_more_pages_than_fit_into_one_forward_pass(nano_dir: Path, vllm_sampler, prompter, tiny_pages):
    """Too many images at once: the text before them is read alone, and what it draws is thrown away."""
    scheduler = vllm_sampler._llm.llm_engine.engine_core.engine_core.scheduler
    budget = scheduler.max_num_encoder_input_tokens
    large = load_prompter(nano_dir, 2 * LONGEST_PX, instruction="Read.")
    asked = [(page, large.prompt(page)) for page in tiny_pages]
    scheduler.max_num_encoder_input_tokens = max(prompt.expanded_ids.count(large.image_id) for _, prompt in asked)
    try:
        groups = in_order(vllm_sampler, asked, HOW)
    finally:
        scheduler.max_num_encoder_input_tokens = budget
    assert [group.page for group in groups] == tiny_pages


def test_trap_8_weights_that_are_not_given_are_named(hf_sampler: HfSampler, model) -> None:
    with pytest.raises(RuntimeError, match=r"weights were not given, model\.visual"):
        hf_sampler.load([(name, weight) for name, weight in weights_of(model) if "visual" not in name], 1)
    hf_sampler.load(weights_of(model), 0)


def test_weights_of_one_state_are_read_once_and_what_was_seen_is_forgotten_each_time(
    real: Sampler, model: torch.nn.Module, asked
) -> None:
    other, reads = changed(model, "visual", 0.3), list[int]()

    def gather() -> Iterator[tuple[str, torch.Tensor]]:
        reads.append(1)
        return iter(other)

    texts = []
    for policy in (1, 2):
        real.load(Named(state="other", gather=gather), policy)
        groups = in_order(real, asked, HOW)
        assert {sample.policy for group in groups for sample in group.samples} == {policy}
        texts.append(written(groups))
    assert len(reads) == 1 and texts[0] == texts[1]
    real.load(weights_of(model), 3)
    assert written(in_order(real, asked, HOW)) != texts[0]
    real.load(Named(state="other", gather=gather), 4)
    assert len(reads) == 2 and written(in_order(real, asked, HOW)) == texts[0]


def test_a_closed_sampler_says_so_and_closes_twice(nano_dir: Path, prompter: Prompter, asked) -> None:
    sampler = HfSampler(nano_dir, prompter)
    sampler.close()
    sampler.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(sampler.sample(asked, HOW))


def test_a_folder_without_a_model_is_a_user_error(tmp_path: Path, prompter: Prompter) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        HfSampler(tmp_path, prompter)


@pytest.fixture
def served(nano_dir: Path, prompter: Prompter, tmp_path: Path) -> Iterator[Sampler]:
    """vLLM's own server on a free port of this machine, with the policy of random weights."""
    with serving(nano_dir, tmp_path) as url:
        sampler = VllmServerSampler(
            nano_dir, prompter, ServerSettings(url=url, max_model_len=256, deadline_s=120, wait_s=300)
        )
        yield sampler
        sampler.close()


@pytest.mark.slow
def test_vllms_own_server_writes_what_the_engine_in_this_process_writes(
    served: Sampler, vllm_sampler: Sampler, model: torch.nn.Module, nano_dir: Path, prompter: Prompter, asked
) -> None:
    """The embedded policy, then other weights of its vision tower alone: what the old one saw must be forgotten."""
    from transformers import AutoModelForImageTextToText

    embedded = AutoModelForImageTextToText.from_pretrained(model_folder("nano"), dtype=torch.float32).eval()
    greedy = Sampling(temperature=0, max_tokens=40)
    seen = []
    try:
        for policy, weights in enumerate((weights_of(embedded), changed(embedded, "visual", 0.1)), 1):
            for sampler in (served, vllm_sampler):
                sampler.load(weights, policy)
            for how in (greedy, HOW):
                theirs, ours = in_order(served, asked, how), in_order(vllm_sampler, asked, how)
                assert written(theirs) == written(ours)
                for one, other in zip(theirs, ours, strict=True):
                    for a, b in zip(one.samples, other.samples, strict=True):
                        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
                        assert (a.finish, a.text, a.policy) == (b.finish, b.text, b.policy)
                assert gap(theirs, weights, embedded, prompter) < 1e-4
                seen.append(written(theirs))
        sent = adapter_over(nano_dir, rank=3)
        for sampler in (served, vllm_sampler):
            sampler.load(sent, 3)  # over other weights than those that it holds
        assert gap(in_order(served, asked, HOW), adapted(model, sent), model, prompter) < 1e-4
        assert written(in_order(served, asked, HOW)) == written(in_order(vllm_sampler, asked, HOW))
    finally:
        vllm_sampler.load(weights_of(model), 0)
    assert seen[0] != seen[2] and seen[1] != seen[3], "the change is too small to prove anything"
