"""The page of a run: what its files hold, that they are brought up to date, and that a text is nothing but a text."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.look import post_mortem
from ocr_rl.look.html import data_file, index_html
from ocr_rl.look.post_mortem import PostMortem
from tests.look.conftest import Write, add_step

TAKE = re.compile(r'take\("([a-z0-9_]+)","([A-Za-z0-9+/=]+)"\);\n')


@pytest.fixture
def page(write_run: Write) -> Iterator[PostMortem]:
    run = write_run()
    page = PostMortem(run, run / "look")
    yield page
    page.close()


def taken(page: PostMortem, name: str) -> Any:
    """What the page gets from a data file."""
    call = TAKE.fullmatch((page.out / "data" / f"{name}.js").read_text(encoding="utf-8"))
    assert call is not None and call[1] == name
    return json.loads(zlib.decompress(base64.b64decode(call[2])))


def overview_of(page: PostMortem) -> dict[str, Any]:
    index = (page.out / "index.html").read_text(encoding="utf-8")
    held = re.search(r'<script type="application/json" id="run">(.*?)</script>', index, re.DOTALL)
    assert held is not None
    return json.loads(held[1])


def test_samples_with_verdicts_degrees_and_reasons(page: PostMortem) -> None:
    page.refresh()
    (group,) = taken(page, "s000001")["groups"]
    assert group["page"] == 0
    assert [sample["bits"] for sample in group["samples"]] == ["11", "00", "01"]
    assert [len(sample["degrees"]) for sample in group["samples"]] == [0, 2, 1]
    second = group["samples"][1]
    assert second["degrees"][0] > 50 > second["degrees"][1]  # 'Total dew' is near, and nonsense is there
    assert "Total due" in group["reasons"][second["why"][0]]
    assert group["scores"]["repetition"] == [1.0, 1.0, 0.5]
    assert "trace" in group["samples"][0] and "trace" not in second


def test_a_page_has_its_image_its_tests_and_its_steps(page: PostMortem) -> None:
    page.refresh()
    record = taken(page, "p00000")
    assert record["image"]["uri"].startswith("data:image/png;base64,")
    assert record["tests"] == [["t1", "present", "text 'Total due'"], ["t2", "absent", "text 'nonsense'"]]
    assert [(of["step"], of["set"], of["passes"]) for of in record["history"]] == [
        (1, 0, [1, 2]),
        (2, 0, [1, 2]),
        (0, 1, [0, None]),
        (2, 1, [1, None]),
    ]


def test_the_run_as_a_whole(page: PostMortem, page_id: str) -> None:
    page.refresh()
    view = overview_of(page)
    assert view["pages"] == [page_id] and view["sets"] == ["", "new"]
    assert view["state"] == "finished, 2 of 2 steps"
    step, number, name, samples, reward, truth, best, _, split, against, pairs = view["visits"][0]
    assert (step, number, name, samples, reward, truth, best, split) == (1, 0, 0, 3, 0.5, 0.5, 1.0, 1.0)
    assert (against, pairs) == (1, 3)  # the gate holds back a sample that passes more than its sibling
    assert view["curves"]["tests passed"] == [[1, 0.5], [2, 0.5]]
    assert view["curves"]["held out: new"] == [[0, 0.0], [2, 1.0]]
    assert [row[2] for row in view["findings"]["tests_learnt"]["rows"]] == ["t1"]


def test_only_what_is_new_is_rendered_again(page: PostMortem, page_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert page.refresh() and not page.refresh()
    read: list[str] = []
    step = post_mortem.read_step
    monkeypatch.setattr(post_mortem, "read_step", lambda path: (read.append(path.name), step(path))[1])
    add_step(page.run.folder, 3, page_id)
    assert page.refresh()
    assert read == ["000003.jsonl"]
    assert [of["step"] for of in taken(page, "p00000")["history"] if of["set"] == 0] == [1, 2, 3]


def test_a_page_of_nobody_is_shown_without_image_and_tests(page: PostMortem) -> None:
    add_step(page.run.folder, 3, "dead:p9")
    page.refresh()
    (group,) = taken(page, "s000003")["groups"]
    assert group["samples"][0]["bits"] == ""
    record = taken(page, f"p{group['page']:05d}")
    assert record["image"] == {"why": "the page is not there"} and record["tests"] == []


def test_a_page_that_cannot_be_drawn_costs_itself_alone(page: PostMortem, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(page: Any, longest_px: int) -> Any:
        raise UserError("page 1 cannot be drawn")

    monkeypatch.setattr(post_mortem, "image_of", refuse)
    page.refresh()
    assert taken(page, "p00000")["image"] == {"why": "page 1 cannot be drawn"}


def test_somebodys_page_is_not_written_over(write_run: Write, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run()
    (run / "look").mkdir()
    (run / "look" / "index.html").write_text("mine", encoding="utf-8")
    assert main(["look", str(run)]) == 2
    assert "is not, or no longer, what ocr-rl wrote there" in capsys.readouterr().err


def test_the_verb_says_what_to_open_and_refuses_what_is_no_run(
    write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run()
    assert main(["look", str(run), "--out", str(tmp_path / "out")]) == 0
    assert f"open {tmp_path / 'out' / 'index.html'}" in capsys.readouterr().out
    assert main(["look", str(tmp_path)]) == 2
    assert "holds no config.json of a run" in capsys.readouterr().err


def test_sft_and_pairs_are_said_in_a_sentence(write_run: Write) -> None:
    for recipe, sentence in (
        ({"sft": {"stages": [{"steps": 2}]}}, "SFT learns from references"),
        ({"dpo": {"steps": 2}}, "by round: 2 (rewards 0.50 apart)"),
    ):
        run = write_run(recipe=recipe)
        for path in (run / "groups").iterdir():
            path.unlink()
        if "dpo" in recipe:
            (run / "pairs").mkdir()
            pairs = [{"chosen_reward": 0.9, "rejected_reward": 0.4}] * 2
            (run / "pairs" / "round_000.json").write_text(json.dumps({"pairs": pairs}), encoding="utf-8")
        page = PostMortem(run, run / "look")
        page.refresh()
        assert sentence in overview_of(page)["holds"]
        page.close()
        run.rename(run.with_name(sentence[:3]))


# ---- texts are texts


def test_no_text_leaves_its_place_in_the_page() -> None:
    evil = "</script><script>alert(1)</script><!--\u2028\ud800"
    view = {"run": evil, "curves": {evil: []}, "notes": [evil]}
    page = index_html(view)
    assert page.count("<script") == 2 and page.count("</script>") == 2 and "<!--" not in page
    data = data_file("s000001", {"text": evil})
    assert TAKE.fullmatch(data)


def test_the_policy_admits_the_pages_own_script_and_what_it_loads() -> None:
    page = index_html({"run": "r"})
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1] and "unsafe" not in policy[1] and "'self'" not in policy[1]
    assert "require-trusted-types-for 'script'" in policy[1]
    assert "innerHTML" not in page and "insertAdjacentHTML" not in page and "document.write" not in page
