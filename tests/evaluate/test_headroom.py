"""Headroom by hand, and `pages rank` from groups of samples to a dataset that a recipe trains on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ocr_rl import outputs
from ocr_rl.cli import main
from ocr_rl.config import load_recipe
from ocr_rl.evaluate import ranking
from ocr_rl.evaluate.headroom import Headroom, chosen, headroom_of, ranked
from ocr_rl.pages.dataset import check_dataset, load_dataset
from ocr_rl.pages.source import open_pages
from ocr_rl.pages.synth.make import make_dataset
from ocr_rl.rollout.reward_pool import PageGroup, RewardPool
from ocr_rl.rollout.scoring import GroupScores, RewardFault, score_or_fault
from tests.evaluate.scripted import make_pdf


def test_headroom_and_disagreement_by_hand() -> None:
    row = headroom_of("a", [0.25, 1.0, 0.25, 0.5], {"x": [False, True, False, True], "y": [True] * 4})
    assert (row.mean, row.best, row.headroom) == (0.5, 1.0, 0.5)
    assert (row.shares, row.contested) == ({"x": 0.5, "y": 1.0}, 1)
    assert row.disagreement == 0.125  # (0.5 * 0.5 + 0) / 2
    assert row.rests == ""


@pytest.mark.parametrize(
    ("rewards", "passed", "rests"),
    [
        ([0.9, 1.0], {"x": [True, True]}, "always"),
        ([0.1, 0.2], {"x": [False, False]}, "never"),
        ([0.1, 0.2], {"x": [False, False], "header": [True, True]}, "never"),  # an empty transcript passes it too
        ([0.5, 0.5], {"x": [True, False]}, "flat"),
        ([0.5, 0.5], {}, "flat"),
        ([0.5, 0.6], {}, ""),
    ],
)
def test_pages_that_always_or_never_pass_rest(rewards: list[float], passed: dict[str, list[bool]], rests: str) -> None:
    assert headroom_of("a", rewards, passed, {"x": True, "header": False}).rests == rests


def page(name: str, headroom: float, rests: str = "", share: float = 1.0) -> Headroom:
    return Headroom(page=name, samples=2, mean=0.0, best=headroom, shares={"x": share}, rests=rests)  # type: ignore[arg-type]


def test_most_headroom_first_then_disagreement_and_rest_last() -> None:
    rows = [page("a", 0.1), page("b", 0.9, "never"), page("c", 0.3, share=0.1), page("d", 0.3, share=0.5)]
    assert [row.page for row in ranked(rows)] == ["d", "c", "a", "b"]


@pytest.mark.parametrize(("top", "names"), [(None, "dca"), (2.0, "dc"), (9.0, "dca"), (0.5, "dc"), (0.01, "d")])
def test_the_first_are_chosen_by_number_or_by_share(top: float | None, names: str) -> None:
    rows = [page("a", 0.1), page("b", 0.9, "never"), page("c", 0.3, share=0.1), page("d", 0.3, share=0.5)]
    assert "".join(row.page for row in chosen(rows, top)) == names


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rank") / "data"
    list(make_dataset("notice", n=8, seed=0, out=folder, pages_per_document=4))
    return folder


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards without worker processes, whose start takes most of a small ranking."""

    class Pool(RewardPool):
        def score_all(self, pages: Sequence[PageGroup]) -> Iterator[GroupScores | RewardFault]:
            return (score_or_fault(page, group, self.rewards) for page, group in pages)

    monkeypatch.setattr(ranking, "RewardPool", Pool)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*argv: str) -> str:
        capsys.readouterr()
        assert main(argv) == 2
        return capsys.readouterr().err

    return run


def write_groups(file: Path, groups: Sequence[tuple[str, Sequence[str]]]) -> Path:
    samples = [[{"text": text, "finish": "stop", "tokens": 9} for text in texts] for _, texts in groups]
    rows = [{"page": name, "samples": texts} for (name, _), texts in zip(groups, samples, strict=True)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.usefixtures("in_process")
def test_rank_writes_the_pages_that_have_headroom(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = load_dataset(data)
    truth = {p.id: p.reference or "" for p in pages}
    learns, also, always, never = (p.id for p in pages[2:6])
    half = {name: truth[name][: len(truth[name]) // 2] for name in (learns, also)}
    groups = [
        (learns, ["x"]),  # of an earlier step: the last group of a page counts
        (always, [truth[always]] * 3),
        (also, [truth[also], half[also], truth[also]]),
        (learns, [truth[learns], half[learns], half[learns]]),
        (never, ["", "x", "y"]),
    ]
    samples = write_groups(tmp_path / "groups.jsonl", groups)
    out, to = tmp_path / "rank.jsonl", tmp_path / "mined"
    assert main(["pages", "rank", str(data), str(samples), "--out", str(out), "--to", str(to)]) == 0
    said = capsys.readouterr().out
    assert "4 pages: 2 have headroom; at rest: 1 always pass, 1 never do, 0 flat; 2 chosen" in said
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["page"] for row in rows[:2]] == [learns, also]
    assert {row["page"]: row["rests"] for row in rows[2:]} == {always: "always", never: "never"}
    assert [row["chosen"] for row in rows] == [True, True, False, False]
    recipe = load_recipe("nano_grpo", [f"grpo.pages.dir={to}"])
    mined = open_pages(recipe.algorithm.pages, tmp_path)  # type: ignore[union-attr]
    assert [p.id for p in mined] == [learns, also] and not check_dataset(to)
    by_id = {p.id: p for p in pages}
    for p in mined:
        assert (p.number, p.checks, p.reference) == (by_id[p.id].number, by_id[p.id].checks, by_id[p.id].reference)


@pytest.mark.usefixtures("in_process")
def test_the_recipes_gates_and_weights_count(data: Path, tmp_path: Path) -> None:
    page = load_dataset(data)[0]
    loop = (page.reference or "") + " and so on" * 60
    samples = write_groups(tmp_path / "groups.jsonl", [(page.id, [page.reference or "", loop])])
    out = tmp_path / "rank.jsonl"
    argv = ["pages", "rank", str(data), str(samples), "--rewards", "nano_grpo", "--out", str(out)]
    assert main(argv) == 0
    row = json.loads(out.read_text())
    assert (row["best"], row["mean"]) == (1.0, 0.5)  # a gate holds the loop back


@pytest.mark.usefixtures("in_process")
def test_samples_are_not_written_over(data: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    samples = write_groups(tmp_path / "groups.jsonl", [(load_dataset(data)[0].id, ["a", "b"])])
    outputs.write(tmp_path / "ours.jsonl", samples.read_text())  # as `ocr-rl sample` does, which may write it over
    ours = str(tmp_path / "ours.jsonl")
    for by in ("headroom", "suspect"):
        assert "is an input of this command" in refused("pages", "rank", str(data), ours, "--by", by, "--out", ours)
    assert (tmp_path / "ours.jsonl").read_text() == samples.read_text()


def test_a_page_without_tests_asks_for_rewards(tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = tmp_path / "references"
    make_pdf(folder / "pdfs" / "a.pdf", 1, 100)
    (folder / "pdfs" / "a.md").write_text("hello")
    samples = write_groups(tmp_path / "groups.jsonl", [(load_dataset(folder)[0].id, ["a", "b"])])
    assert "a.pdf, page 1: has no tests; name a recipe" in refused("pages", "rank", str(folder), str(samples))


def test_samples_of_other_pages_and_no_headroom_are_refused(
    data: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    stranger = write_groups(tmp_path / "a.jsonl", [("00000000:p1", ["a"])])
    assert "has no page 00000000:p1" in refused("pages", "rank", str(data), str(stranger))
    flat = write_groups(tmp_path / "b.jsonl", [(load_dataset(data)[0].id, ["a", "a"])])
    to = tmp_path / "mined"
    assert "no page has headroom" in refused("pages", "rank", str(data), str(flat), "--to", str(to))
    assert not to.exists()
