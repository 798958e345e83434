"""Hostile plug-ins in their workers, through the scoring that training uses: counted, named, kept, never a silent 0."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocr_rl.config import RewardChoice
from ocr_rl.contract import Page, UserError
from ocr_rl.pages.raster import ImageRef
from ocr_rl.rollout.coverage import require_rewards
from ocr_rl.rollout.flow import Group, Prompt, Sample
from ocr_rl.rollout.reward_pool import RewardPool, from_json, weighted
from ocr_rl.rollout.scoring import FaultBudget, score_groups

HOSTILE = Path(__file__).with_name("hostile.py")
FAULTS = {
    "Hangs": "it took longer than 2 s",
    "EatsMemory": "GiB of memory",
    "Exits": "it crashed its process",
    "Leaves": "SystemExit: 3",
    "Raises": "KeyError: 'no such table'",
    "NotANumber": "a value that is not a number",
    "TooFew": "1 scores for 2 transcripts",
}


def page(n: int) -> Page:
    return Page(id=f"0a1b2c3d:p{n}", pdf=Path("a.pdf"), number=n)


def group(n: int, *texts: str) -> Group:
    prompt = Prompt(page_id=page(n).id, image=ImageRef(pdf=Path("a.pdf"), number=n), token_ids=(1,), expanded_ids=(1,))
    samples = tuple(Sample(token_ids=(3,), logprobs=(-1.0,), text=t, finish="stop", policy=0) for t in texts)
    return Group(page=page(n), prompt=prompt, samples=samples, temperature=1.0, banned_ids=())


def choices(*names: str) -> list[RewardChoice]:
    return [RewardChoice(name=f"{HOSTILE}:{name}") for name in names]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[RewardPool]]:
    made: list[RewardPool] = []
    yield made
    for one in made:
        one.close()


def open_pool(opened: list[RewardPool], folder: Path, *names: str, patience_s: float = 60) -> RewardPool:
    asked = choices(*names)
    opened.append(
        RewardPool(choices=asked, rewards=weighted(asked), workers=2, timeout_s=patience_s, faults=folder / "faults")
    )
    return opened[-1]


@pytest.mark.parametrize("name", FAULTS)
def test_trap_11_a_hostile_reward_costs_its_group_alone_and_is_counted_named_and_kept(
    name: str, tmp_path: Path, opened: list[RewardPool]
) -> None:
    """A step of four groups: one is dropped, three are scored; the next step is scored whole by the same workers."""
    made = open_pool(opened, tmp_path, "Fair", name, patience_s=2 if name == "Hangs" else 60)
    budget = FaultBudget()
    step = [group(1, "a", "aa"), group(2, "poison", "a"), group(3, "aaaa", "a"), group(4, "aaa", "")]
    assert [one.group.page.number for one in score_groups(step, made.score_all, budget)] == [1, 3, 4]
    assert budget.total == 1
    again = list(score_groups([group(5, "aaaaa", "a"), group(6, "a", "a")], made.score_all, budget))
    assert [one.scores.rewards for one in again] == [(0.5, 0.1), (0.1, 0.1)]
    assert budget.total == 1
    (kept,) = (tmp_path / "faults").iterdir()
    row = json.loads(kept.read_text())
    assert row["page"] == "0a1b2c3d:p2"
    assert row["fault"]["reward"] == f"{HOSTILE}:{name}"
    assert FAULTS[name] in row["fault"]["reason"]
    assert [from_json(sample).body for sample in row["samples"]] == ["poison", "a"]


def test_a_reward_that_always_fails_stops_the_run(tmp_path: Path, opened: list[RewardPool]) -> None:
    made, budget = open_pool(opened, tmp_path, "Raises"), FaultBudget()
    step = [group(n, "poison", "a") for n in range(1, 9)]
    with pytest.raises(UserError, match="5 of the last 5 groups could not be scored; .*hostile.py:Raises failed"):
        list(score_groups(step, made.score_all, budget))
    assert len(list(score_groups([group(9, "a", "aa")], made.score_all))) == 1  # the workers have outlived it


def test_before_training_a_reward_that_hangs_is_one_sentence(tmp_path: Path, opened: list[RewardPool]) -> None:
    hangs = tmp_path / "hangs.py"
    hangs.write_text(HOSTILE.read_text().replace("return any(WORD in one.body for one in group)", "return True"))
    asked = [RewardChoice(name=f"{hangs}:Hangs")]
    opened.append(RewardPool(choices=asked, rewards=weighted(asked), workers=1, timeout_s=1))
    with pytest.raises(UserError, match="Hangs failed on page 0a1b2c3d:p1: it took longer than 1 s; mend the reward"):
        require_rewards([page(1), page(2)], opened[-1].score_all)


@pytest.mark.parametrize(
    ("code", "says"), [("os._exit(0)", "crashed its process"), ("time.sleep(99)", "longer than 2 s")]
)
def test_a_reward_that_leaves_or_hangs_when_it_is_imported_is_one_sentence(
    tmp_path: Path, code: str, says: str
) -> None:
    (tmp_path / "bad.py").write_text(f"import os, time\n{code}\n")
    with pytest.raises(
        UserError, match=rf"Reward .*bad\.py:Bad cannot be made: it {'took ' if 'long' in says else ''}{says}"
    ):
        weighted([RewardChoice(name=f"{tmp_path}/bad.py:Bad")], timeout_s=2)


def test_a_saved_fault_is_never_written_over(tmp_path: Path, opened: list[RewardPool]) -> None:
    made = open_pool(opened, tmp_path, "Raises")
    for n in (1, 2, 3):
        list(score_groups([group(n, "poison", "a")], made.score_all, FaultBudget()))
    (tmp_path / "faults" / "000001.jsonl").unlink()
    list(score_groups([group(4, "poison", "a")], made.score_all, FaultBudget()))
    kept = {path.name: json.loads(path.read_text())["page"] for path in (tmp_path / "faults").iterdir()}
    assert kept == {f"00000{n}.jsonl": f"0a1b2c3d:p{n}" for n in (2, 3, 4)}


@pytest.mark.parametrize("wrong", [{"finish": "banana"}, {"finish": None}, {"tokens": float("nan")}, {"tokens": -1}])
def test_a_saved_sample_that_is_none_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        from_json({"text": "a", "finish": "stop", "tokens": 1} | wrong)


def test_rewards_run_outside_this_process(tmp_path: Path, opened: list[RewardPool]) -> None:
    where = tmp_path / "where.py"
    where.write_text(
        "import os\nfrom dataclasses import dataclass\nfrom ocr_rl.contract import Score\n\n\n@dataclass(frozen=True)\n"
        "class Where:\n    def __call__(self, page, group):\n"
        "        return [Score(value=0.5, why=str(os.getpid())) for _ in group]\n"
    )
    asked = [RewardChoice(name=f"{where}:Where")]
    opened.append(RewardPool(choices=asked, rewards=weighted(asked), workers=1, timeout_s=5))
    (one,) = score_groups([group(1, "a")], opened[-1].score_all)
    assert one.scores.by_reward[asked[0].name][0].why not in ("", str(os.getpid()))
