"""How long a page's samples may be: from references and text layers, once, and the same when a run goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.pages import layer_texts as layer_module
from ocr_rl.pages.layer_texts import layer_texts
from ocr_rl.pages.source import open_pages
from ocr_rl.pages.workers import Refusal
from ocr_rl.rollout import page_limits as module
from ocr_rl.rollout.page_limits import ALLOWANCE, page_lengths, page_limits
from ocr_rl.rollout.prompt import Prompter


@pytest.fixture(scope="module")
def typeset(tmp_path_factory: pytest.TempPathFactory) -> list[Page]:
    """Three pages with a text layer, and references that say the same."""
    return open_pages(config.Typeset(synth="notice", n=3, seed=5, scan=0), tmp_path_factory.mktemp("typeset"))


def sampling(factor: float | None, max_tokens: int = 200) -> config.Sampling:
    return config.Sampling(page_limit=factor, max_tokens=max_tokens)


def test_a_count_is_that_of_a_sample_that_says_it(prompter: Prompter) -> None:
    for text in ("", "Page 1", "a <|im_end|> b", "nothing\x00"):
        assert prompter.count(text) == len(prompter.encode(text)) + 1
    assert prompter.count("half a letter \ud800") == prompter.count("half a letter ?")


def test_limits_are_of_the_reference_of_the_layer_and_of_neither(
    typeset: list[Page], tiny_pages: list[Page], prompter: Prompter
) -> None:
    bare = replace(typeset[1], reference=None)
    picture = replace(tiny_pages[0], reference=None)
    lengths = page_lengths([typeset[0], bare, picture, tiny_pages[1]], prompter, workers=1)
    assert lengths.references == {
        typeset[0].id: prompter.count(typeset[0].reference or ""),
        tiny_pages[1].id: len("Page 2") + 1,
    }
    assert list(lengths.layers) == [bare.id] and lengths.unknown == 1
    assert lengths.layers[bare.id] == pytest.approx(
        prompter.count(bare.reference or typeset[1].reference or ""), rel=0.2
    )
    limits = lengths.limits(1.5, 10**6)
    assert limits[tiny_pages[1].id] == math.ceil(1.5 * 7) + ALLOWANCE
    assert set(limits) == {typeset[0].id, bare.id, tiny_pages[1].id}
    assert lengths.limits(1.5, 76) == {tiny_pages[1].id: 75}  # one that is no lower says nothing
    assert lengths.limits(1.5, 75) == {}


def test_an_empty_reference_is_a_reference(tiny_pages: list[Page], prompter: Prompter) -> None:
    lengths = page_lengths([replace(tiny_pages[0], reference="")], prompter, workers=1)
    assert lengths.limits(2.0, 999) == {tiny_pages[0].id: 2 + ALLOWANCE}


def test_a_layer_that_cannot_be_trusted_or_read_gives_no_text(typeset, tiny_pages, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.4 nothing")
    places = [(tiny_pages[0].pdf, 1), (broken, 1), (tmp_path / "gone.pdf", 1), (typeset[0].pdf, 1), (typeset[0].pdf, 9)]
    assert [text is not None for text in layer_texts(places, workers=1)] == [False, False, False, True, False]


def test_without_the_key_nothing_is_read_or_written(tiny_pages, prompter, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "page_lengths", lambda *args, **how: pytest.fail("read"))
    assert page_limits(sampling(None), tmp_path, tiny_pages, prompter, begun=False, workers=1) == {}
    assert not list(tmp_path.iterdir())


def test_a_run_gone_on_with_has_the_limits_that_it_began_with(
    tiny_pages, prompter, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_: Callable[..., dict[str, int]] = lambda begun: page_limits(
        sampling(2.0), tmp_path, tiny_pages, prompter, begun=begun, workers=1
    )
    limits = open_(False)
    assert limits == {page.id: 2 * 7 + ALLOWANCE for page in tiny_pages}
    assert capsys.readouterr().out == (
        "sampling.page_limit: of 4 pages 4 by their reference, 0 by their text layer have a limit of their own, below "
        "max_tokens (200) for 4 of them, 78 tokens in the middle.\n"
    )
    assert json.loads((tmp_path / "page_limits.json").read_text()) == limits
    monkeypatch.setattr(module, "page_lengths", lambda *args, **how: pytest.fail("read again"))
    assert open_(True) == limits and capsys.readouterr().out == ""
    monkeypatch.undo()
    page = tiny_pages[0].id
    for odd in ({page: "12"}, {page: None}, {page: 0}, {page: 99.5}, {page: True}, {"another": 12}):
        (tmp_path / "page_limits.json").write_text(json.dumps(odd))
        with pytest.raises(UserError, match=r"page_limits\.json: .* is no page of this run with a number of tokens"):
            open_(True)
    (tmp_path / "page_limits.json").write_text("{}")  # of a run that did not begin
    assert open_(False) == limits


def test_a_page_that_is_half_a_picture_has_no_limit(monkeypatch: pytest.MonkeyPatch, typeset) -> None:
    """White letters on a dark ground look like paper, so a picture may say what no layer does."""
    whole = layer_module.layer_of
    for pictured, known in ((0.0, True), (0.02, True), (0.1, False)):
        monkeypatch.setattr(layer_module, "layer_of", lambda *place, p=pictured: replace(whole(*place), pictured=p))
        if known:
            assert layer_module.layer_text((typeset[0].pdf, 1))
        else:
            with pytest.raises(Refusal, match="pictures cover 10% of the page"):
                layer_module.layer_text((typeset[0].pdf, 1))


def test_the_text_of_a_layer_is_read_by_a_worker(typeset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def guarded(function, jobs, **how):
        seen.append((function.__name__, how["workers"]))
        return ((job, Refusal("it hung")) for job in jobs)

    monkeypatch.setattr("ocr_rl.pages.layer_texts.guarded", guarded)
    assert list(layer_texts([(typeset[0].pdf, 1)], workers=2)) == [None]
    assert seen == [("layer_text", 2)]
