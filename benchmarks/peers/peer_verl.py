"""Our reward function under verl's reward managers, on made data: run by a Python that has verl and this package.

    PYTHON -m benchmarks.peers.peer_verl

verl loads `ocr_rl.interop.verl` by its own configuration, decodes responses and calls it as in training: once a sample
(its reward loop's `naive`, and the older `naive`) and once a batch (`batch`). Prints a JSON line for each manager and
exits 1 where a reward is not what our mix gives the same text (float32 in verl's tensors).
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import ocr_rl
from ocr_rl.interop.verl import compute_scores, verl_row
from ocr_rl.torchvision_shim import declare

SPEC = "nano_grpo"
PAGES = (
    {"id": "a", "tests": '[{"type": "present", "text": "Pay the total"}]', "reference": None},
    {
        "id": "b",
        "tests": '[{"type": "absent", "text": "Page 7"}, {"type": "present", "text": "Due"}]',
        "reference": "Due",
    },
)
TEXTS = ("Pay the total: 7.50", "Pay the totl", "Due", "Page 7", "Due\n" * 40, "Nothing")
OF = (0, 0, 1, 1, 1, 1)  # the page of each text
LONGEST = 256


class Characters:
    """A tokenizer of code points."""

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        return "".join(chr(int(number)) for number in ids if int(number))


def batch() -> Any:
    import torch
    from verl import DataProto  # pyright: ignore

    rows = [verl_row(PAGES[k], prompt=[{"role": "user", "content": "Read."}]) for k in OF]
    responses = torch.zeros(len(TEXTS), LONGEST, dtype=torch.long)
    mask = torch.zeros(len(TEXTS), 1 + LONGEST, dtype=torch.long)
    for k, text in enumerate(TEXTS):
        responses[k, : len(text)] = torch.tensor([ord(letter) for letter in text])
        mask[k, : 1 + len(text)] = 1
    tensors = {"prompts": torch.ones(len(TEXTS), 1, dtype=torch.long), "responses": responses, "attention_mask": mask}
    names = ("data_source", "reward_model", "extra_info")
    return DataProto.from_dict(tensors, non_tensors={name: [row[name] for row in rows] for name in names})


def managers() -> dict[str, Any]:
    """Rewards by verl's manager."""
    declare()  # CPU torch beside PyPI's torchvision
    from omegaconf import OmegaConf  # pyright: ignore
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager as LoopManager  # pyright: ignore
    from verl.trainer.ppo.reward import get_custom_reward_fn  # pyright: ignore
    from verl.workers.reward_manager.batch import BatchRewardManager  # pyright: ignore
    from verl.workers.reward_manager.naive import NaiveRewardManager  # pyright: ignore

    function = {"path": "pkg://ocr_rl.interop.verl", "name": "compute_score", "reward_kwargs": {"spec": SPEC}}
    config = OmegaConf.create({"reward": {"custom_reward_function": function}})
    score: Any = get_custom_reward_fn(config)
    lengths = [len(text) - 1 for text in TEXTS]
    old = NaiveRewardManager(Characters(), 0, compute_score=score)(batch(), return_dict=True)
    whole = BatchRewardManager(Characters(), 0, compute_score=compute_scores, spec=SPEC)(batch(), return_dict=True)

    async def singly() -> list[dict[str, Any]]:
        loop, data = LoopManager(config, Characters(), score), batch()
        return [await loop.run_single(data[k : k + 1]) for k in range(len(TEXTS))]

    single = asyncio.get_event_loop_policy().new_event_loop().run_until_complete(singly())
    return {
        "reward loop, naive": [sample["reward_score"] for sample in single],
        "naive": [float(row[end]) for row, end in zip(old["reward_tensor"], lengths, strict=True)],
        "batch": [float(row[end]) for row, end in zip(whole["reward_tensor"], lengths, strict=True)],
    }


def main() -> int:
    mix = ocr_rl.load_rewards(SPEC)
    pages = [ocr_rl.make_page(page["tests"] or (), reference=page["reference"]) for page in PAGES]
    ours = [mix.score(pages[k], [text])[0].reward for k, text in zip(OF, TEXTS, strict=True)]
    worst = 0.0
    for name, rewards in managers().items():
        difference = max(abs(a - b) for a, b in zip(ours, rewards, strict=True))
        print(json.dumps({"manager": name, "rewards": rewards, "largest difference": difference}))
        worst = max(worst, difference)
    return int(worst > 1e-6 or len(set(ours)) < 3)


if __name__ == "__main__":
    sys.exit(main())
