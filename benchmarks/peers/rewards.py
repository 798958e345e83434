"""Our mix inside TRL's GRPOTrainer: are its rewards those of our own training on the same texts?

    python -m benchmarks.peers.rewards --peer-python PATH [--recipe nano_grpo --steps 2]

The embedded policy takes steps in TRL, with `ocr_rl.interop.trl.reward_funcs` and rows of tests and references; every
text that it sampled is then scored as training here does it, by the recipe's rewards in worker processes, on pages
loaded from the dataset folder. PATH is a Python that has TRL 1.16 and this package. Prints one JSON line and exits 1
where a reward differs by more than 1e-9.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.sides import ask
from ocr_rl import config
from ocr_rl.config import load_recipe
from ocr_rl.contract import Transcript, UserError
from ocr_rl.models.load import model_folder
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.hub.rows import rows_of
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_origin
from ocr_rl.rollout.reward_pool import RewardPool, weighted
from ocr_rl.rollout.scoring import RewardFault
from ocr_rl.text.front_matter import split_front_matter

TOLERANCE = 1e-9
Answer = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", required=True, help="a Python that has TRL 1.16 and this package")
    parser.add_argument("--recipe", default="nano_grpo")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--pages", type=int, default=4, help="a step")
    parser.add_argument("--samples", type=int, default=8, help="a page")
    args = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            asked, data = work(args, Path(folder))
            theirs = ask([args.peer_python, str(Path(__file__).with_name("peer_rewards.py"))], asked)
            mine = own_rewards(args.recipe, data, theirs["calls"], asked["eos_id"])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    rewards = [reward for call in theirs["calls"] for reward in call["rewards"]]
    difference = max(abs(a - b) for a, b in zip(rewards, mine, strict=True))
    line: Answer = {"recipe": args.recipe, "steps": theirs["steps"], "texts": len(rewards)}
    line |= {"different rewards": len(set(rewards)), "largest difference": difference, **theirs["versions"]}
    print(json.dumps(line))
    return int(difference > TOLERANCE or theirs["steps"] < args.steps)


def work(args: argparse.Namespace, root: Path) -> tuple[Answer, Path]:
    """What TRL's side needs, with the page images drawn here as our sampler sees them; and the dataset's folder."""
    open_pages(config.page_source({"synth": "notice", "n": args.pages * args.steps, "seed": 5}), root)
    data = next(path for path in root.iterdir() if path.is_dir())
    model = str(model_folder("nano"))
    prompter = open_origin(config.Policy.model_validate({"path": model}), model).prompter
    rows = []
    for k, (page, row) in enumerate(rows_of(data)):
        image = root / f"{k}.png"
        prompter.image(prompter.prompt(page)).save(image)
        rows.append({**row, "image": str(image)})
    asked = {
        "model": model,
        "recipe": args.recipe,
        "rows": rows,
        "samples": args.samples,
        "pages_per_step": args.pages,
        "steps": args.steps,
        "banned_ids": list(prompter.banned_ids),
        "eos_id": prompter.eos_id,
    }
    return asked, data


def own_rewards(recipe: str, data: Path, calls: Sequence[Answer], eos_id: int) -> list[float]:
    """The rewards of our training's workers for the texts of TRL's calls, in order."""
    mix = load_recipe(recipe).mix
    pages = {page.id: page for page in load_dataset(data)}
    groups = []
    for call in calls:
        for name, text, ids in zip(call["ids"], call["texts"], call["tokens"], strict=True):
            finish = "stop" if ids and ids[-1] == eos_id else "length"
            body = split_front_matter(text)[1]
            groups.append((pages[name], [Transcript(raw=text, body=body, finish=finish, num_tokens=len(ids))]))
    pool = RewardPool(choices=mix, rewards=weighted(mix), workers=1, timeout_s=60)
    try:
        return [_reward(scores) for scores in pool.score_all(groups)]
    finally:
        pool.close()


def _reward(scores: Any) -> float:
    if isinstance(scores, RewardFault):
        raise UserError(f"{scores}.")
    (reward,) = scores.rewards
    return reward


if __name__ == "__main__":
    sys.exit(main())
