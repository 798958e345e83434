"""`ocr-rl sample`: samples of a policy in a file of groups, to look at, to score and to audit rewards with."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Literal

from ocr_rl import outputs
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.rollout.reward_pool import as_json
from ocr_rl.rollout.sampler.base import Sampling


def sample_pages(
    data: Path,
    out: Path,
    *,
    model: str,
    engine: Literal["vllm", "transformers"],
    pages: int,
    n: int,
    temperature: float,
    seed: int,
    preset: str | None = None,
    instruction: str | None = None,
) -> int:
    """Write groups of n samples for some pages of a dataset, drawn by `seed`, as a run keeps its groups.

    `ocr-rl score` and `ocr-rl rewards audit` read the file. Returns the number of pages. Raises UserError for a page
    that cannot be drawn, and where `out` is a file that ocr-rl did not write.
    """
    from ocr_rl.policy import open_policy

    outputs.refuse_taken([out])
    all_pages = load_dataset(data)
    chosen = Random(seed).sample(all_pages, min(pages, len(all_pages)))
    rows = []
    with open_policy(model, engine=engine, preset=preset, instruction=instruction) as policy:
        prompts = [(page, policy.prompter.prompt(page)) for page in chosen]
        how = Sampling(n=n, temperature=temperature, max_tokens=policy.settings.max_tokens, seed=seed)
        for group in policy.sampler.sample(prompts, how):
            samples = [as_json(sample.transcript()) for sample in group.samples]
            rows.append(json.dumps({"page": group.page.id, "samples": samples}))
    outputs.write(out, "".join(f"{row}\n" for row in rows))
    return len(rows)
