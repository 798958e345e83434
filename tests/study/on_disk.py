"""A study that runs in a minute: a random policy, nine test pages, updates of two pages."""

from __future__ import annotations

from pathlib import Path

STUDY = """
seeds = [0, 1]
pages = {{ synth = "notice", n = 16, seed = 11, pages_per_document = 16 }}
validation = {{ synth = "notice", n = 3, seed = 12, pages_per_document = 3 }}
test = {{ synth = "notice", n = 9, seed = 13, pages_per_document = 9 }}
samples = 10
variations = {variations}
rewards = [{{ name = "diff_ratio" }}] # a random policy passes no test

[base]
save_every = 1
keep = 1
scoring = {{ workers = 1, audit = false }}
policy = {{ path = "{policy}", longest_px = 112, instruction = "", max_tokens = 24 }}
optim = {{ lr = 1e-3 }}
sampling = {{ engine = "transformers", max_tokens = 24 }}
evaluation = {{ every = 1, max_tokens = 24 }}
tripwires = {{ page_gain = {{ then = "warn" }} }} # nor does it look at the page

[algorithms]
sft = {{ steps = 2, pages_per_step = 2 }}
best_of_n = {{ steps = 2, pages_per_round = 4, pages_per_step = 2, samples_per_page = 4 }}
dpo = {{ steps = 2, pages_per_round = 16, pages_per_step = 2, samples_per_page = 4 }}
grpo = {{ steps = 2, pages_per_step = 2, samples_per_page = 8 }}

[arms]
sft = {{ algorithm = "sft", trials = [[], ["optim.lr=1e-4"]] }}
dpo = {{ algorithm = "dpo", trials = [[], ["optim.lr=1e-4"]] }}
grpo = {{ algorithm = "grpo", trials = [[], ["optim.lr=1e-4"]] }}
"""


def write_study(path: Path, policy: Path, *, variations: bool) -> Path:
    path.write_text(STUDY.format(policy=policy, variations=str(variations).lower()), encoding="utf-8")
    return path
