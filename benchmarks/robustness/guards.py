"""Each guard against a pitfall taken out in turn: does the test that is named after the pitfall fail?

    python -m benchmarks.robustness.guards [--only 7 13]

A copy of the checkout has one guard taken out of its text, then `pytest -k trap_<N>_` runs there, which must fail. A
test that hangs without its guard has failed too. Beforehand all of these tests must pass as they are. Prints one line
a guard, a table at the end, and exits 1 where a test did not notice. Needs a checkout of the repository with git.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ocr_rl.evaluate.tables import to_markdown_table

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 240
_NOTHING_RAN = 5  # pytest's exit code


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What stands in the way of a pitfall: `text` in `file`, which becomes `without`."""

    trap: int  # its number in docs/pitfalls.md
    what: str
    file: str
    text: str
    without: str


GUARDS = (
    Guard(
        trap=1,
        what="prompt ids of a server are compared",
        file="ocr_rl/rollout/sampler/vllm_server.py",
        text="if seen != prompt.expanded_ids:",
        without="if False:",
    ),
    Guard(
        trap=1,
        what="the learner's prompt is expanded",
        file="ocr_rl/rollout/prompt.py",
        text="*[self.image_id] * num_image_tokens,",
        without="self.image_id,",
    ),
    Guard(
        trap=1,
        what="prompt ids of the engine are compared",
        file="ocr_rl/rollout/sampler/vllm.py",
        text="if seen != prompt.expanded_ids:",
        without="if False:",
    ),
    Guard(
        trap=2,
        what="another tower must change the answer",
        file="ocr_rl/learn/probe.py",
        text="if _distance(own, other) <= 10 * _distance(own, again):",
        without="if False:",
    ),
    Guard(
        trap=2,
        what="a run asks whether the engine sees",
        file="ocr_rl/train.py",
        text="            require_eyes(learner, sampler, training_pages)\n",
        without="",
    ),
    Guard(
        trap=2,
        what="the engine's caches are emptied",
        file="ocr_rl/rollout/sampler/vllm.py",
        text="        self._llm.reset_mm_cache()\n        engine.reset_encoder_cache()\n",
        without="",
    ),
    Guard(
        trap=2,
        what="a server's caches are emptied",
        file="ocr_rl/rollout/sampler/vllm_server.py",
        text='        self._call("/reset_encoder_cache")\n',
        without="",
    ),
    Guard(
        trap=3,
        what="long prompts are refused",
        file="ocr_rl/rollout/prompt.py",
        text="if self.max_prompt_tokens is not None and len(expanded_ids) > self.max_prompt_tokens:",
        without="if False:",
    ),
    Guard(
        trap=3,
        what="the blank page is shown",
        file="ocr_rl/learn/probe.py",
        text="_nll(learner, one_each, _blank(learner)) -",
        without="_nll(learner, one_each, None) -",
    ),
    Guard(
        trap=3,
        what="no gain from the page stops the run",
        file="ocr_rl/config.py",
        text='page_gain: Tripwire = Tripwire(below=0.0, steps=1, then="stop")',
        without='page_gain: Tripwire = Tripwire(below=-1e9, steps=1, then="stop")',
    ),
    Guard(
        trap=3,
        what="long pages are refused before step 0",
        file="ocr_rl/train.py",
        text="    require_short(training_pages, prompter)\n",
        without="",
    ),
    Guard(
        trap=3,
        what="a run measures what the page is worth",
        file="ocr_rl/train.py",
        text="probe = partial(page_gain, learner)",
        without="probe = None",
    ),
    Guard(
        trap=4,
        what="special tokens are banned",
        file="ocr_rl/rollout/prompt.py",
        text="{index for index, token in tokenizer.added_tokens_decoder.items() if token.special}",
        without="set()",
    ),
    Guard(
        trap=4,
        what="the sampler masks banned ids",
        file="ocr_rl/rollout/sampler/hf.py",
        text="logits_BV[:, self._banned_ids] = -torch.inf",
        without="pass",
    ),
    Guard(
        trap=4,
        what="one temperature a batch",
        file="ocr_rl/learn/learner.py",
        text="assert all((r.temperature, r.banned_ids) == (first.temperature, first.banned_ids) for r in batch.rows)",
        without="pass",
    ),
    Guard(
        trap=5,
        what="unknown settings are refused",
        file="ocr_rl/config.py",
        text='extra="forbid"',
        without='extra="ignore"',
    ),
    Guard(
        trap=5,
        what="vLLM reports what it sampled from",
        file="ocr_rl/rollout/sampler/vllm.py",
        text='logprobs_mode="processed_logprobs"',
        without='logprobs_mode="raw_logprobs"',
    ),
    Guard(
        trap=6,
        what="a sample's correction is a mean",
        file="ocr_rl/learn/losses.py",
        text='"geometric" if level == "sequence" else level',
        without="level",
    ),
    *(
        Guard(
            trap=trap,
            what="the gap to the sampler stops the run",
            file="ocr_rl/config.py",
            text='gap: Tripwire = Tripwire(above=0.2, steps=1, then="stop")',
            without='gap: Tripwire = Tripwire(above=1e9, steps=1, then="stop")',
        )
        for trap in (7, 8)
    ),
    Guard(
        trap=8,
        what="weights that are not given are named",
        file="ocr_rl/rollout/sampler/hf.py",
        text="        if left:\n",
        without="        if False:\n",
    ),
    Guard(
        trap=8,
        what="a server that was started again gets the weights",
        file="ocr_rl/rollout/sampler/vllm_server.py",
        text='if self._call("/weight_info", method="GET").get("weight_version") == self._version:',
        without="if self._loads:",
    ),
    Guard(
        trap=9,
        what="a remote call has a deadline",
        file="ocr_rl/rollout/sampler/vllm_server.py",
        text="asyncio.timeout(deadline_s)",
        without="asyncio.timeout(None)",
    ),
    Guard(
        trap=9,
        what="waiting has an end",
        file="ocr_rl/rollout/sampler/vllm_server.py",
        text="if time.monotonic() > end:",
        without="if False:",
    ),
    Guard(
        trap=10,
        what="ranks fill up with passes",
        file="ocr_rl/learn/ranks.py",
        text=" + [(idle, False)] * (max(map(len, shares)) - len(own))",
        without="",
    ),
    Guard(
        trap=11,
        what="a reward has a time limit",
        file="ocr_rl/pages/guarded.py",
        text="elif time.monotonic() >= worker.deadline_s:",
        without="elif False:",
    ),
    Guard(
        trap=11,
        what="too few scores are a fault",
        file="ocr_rl/rollout/scoring.py",
        text="if len(scores) != len(transcripts):",
        without="if False:",
    ),
    Guard(
        trap=12,
        what="rows hold no pixels",
        file="ocr_rl/rollout/prompt.py",
        text="return Prompt(page_id=page.id,",
        without="return Prompt(page_id=page.id + str(page_image(ref).tobytes()),",
    ),
    Guard(
        trap=12,
        what="images are forgotten",
        file="ocr_rl/pages/images.py",
        text="if self._bytes <= self._limit:",
        without="if True:",
    ),
    Guard(
        trap=13,
        what="logits by the chunk",
        file="ocr_rl/learn/model.py",
        text="max(1, CHUNK_LOGITS // len(weight_VD))",
        without="len(hidden_ND)",
    ),
    Guard(
        trap=13,
        what="what cannot fit is refused",
        file="ocr_rl/learn/memory.py",
        text="if plan.held > plan.available:",
        without="if False:",
    ),
    Guard(
        trap=13,
        what="a run asks for its memory",
        file="ocr_rl/train.py",
        text="    require_memory(plan)\n",
        without="",
    ),
    Guard(
        trap=14,
        what="flat groups are replaced",
        file="ocr_rl/learn/algos/grpo.py",
        text="range(1 + cfg.refills)",
        without="range(1)",
    ),
    Guard(
        trap=15,
        what="weights are of the whole step",
        file="ocr_rl/learn/learner.py",
        text="value.backward()\n            _add",
        without="(value / batch.weight_N.sum()).backward()\n            _add",
    ),
    Guard(
        trap=16,
        what="bounds are looked at",
        file="ocr_rl/rollout/tripwires.py",
        text="if wire.above is not None and",
        without="if False and",
    ),
    Guard(
        trap=16,
        what="a wire stops the run",
        file="ocr_rl/learn/fit.py",
        text='if decision.then == "stop":',
        without="if False:",
    ),
    Guard(
        trap=16,
        what="a wire sends the run back",
        file="ocr_rl/learn/fit.py",
        text='if decision.then == "roll_back":',
        without="if False:",
    ),
    Guard(
        trap=16,
        what="what is no number trips",
        file="ocr_rl/rollout/tripwires.py",
        text="if not all(map(isfinite, values[-wire.steps :])):",
        without="if False:",
    ),
    Guard(
        trap=17,
        what="the old checkpoint is kept until there is a new one",
        file="ocr_rl/run.py",
        text="os.replace(final, old)",
        without="shutil.rmtree(final)",
    ),
    Guard(
        trap=17,
        what="files are checked by their hashes",
        file="ocr_rl/run.py",
        text="if found[name] != digest:",
        without="if False:",
    ),
    Guard(
        trap=17,
        what="the optimiser's state is restored",
        file="ocr_rl/learn/learner.py",
        text="optimizer.load_state_dict(saved)",
        without="pass",
    ),
    Guard(
        trap=18,
        what="the lock is within the ranges",
        file="requirements.lock",
        text="\ntransformers==",
        without="\ntransformers==0.",
    ),
    Guard(
        trap=19,
        what="one reading for both",
        file="rewards/pass_rate.py",
        text='reading: Reading = "strict"',
        without='reading: Reading = "compatible"',
    ),
    Guard(
        trap=20,
        what="a page stands once for its samples",
        file="ocr_rl/learn/rows.py",
        text="by_group.setdefault(row.group_id, [])",
        without="by_group.setdefault(id(row), [])",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=int, nargs="+", help="numbers of pitfalls")
    args = parser.parse_args()
    chosen = [guard for guard in GUARDS if not args.only or guard.trap in args.only]
    with tempfile.TemporaryDirectory() as folder:
        if said := tests_fail(copied(Path(folder) / "whole"), sorted({guard.trap for guard in chosen})):
            sys.exit(f"The tests fail as they are, before anything is taken out: {said}")
        rows, unnoticed = [], 0
        for number, guard in enumerate(tqdm(chosen, unit="guard")):
            root = copied(Path(folder) / str(number))
            take_out(guard, root)
            said = tests_fail(root, [guard.trap])
            unnoticed += not said
            rows.append([str(guard.trap), guard.what, guard.file, said or "NOTICED NOTHING"])
            tqdm.write("  ".join(rows[-1]))
            shutil.rmtree(root)
    print(to_markdown_table(["pitfall", "guard taken out", "of", "its tests"], rows))
    sys.exit(bool(unnoticed))


def copied(folder: Path) -> Path:
    """A copy of the checkout's own files, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def take_out(guard: Guard, root: Path) -> None:
    path = root / guard.file
    text = path.read_text(encoding="utf-8")
    if text.count(guard.text) != 1:
        sys.exit(
            f"{guard.file}: {guard.text!r} stands there {text.count(guard.text)} times; mend benchmarks/guards.py."
        )
    path.write_text(text.replace(guard.text, guard.without), encoding="utf-8")


def tests_fail(root: Path, traps: list[int]) -> str:
    """What became of the tests named after those pitfalls; "" where all passed."""
    names = " or ".join(f"trap_{trap}_" for trap in traps)
    files = sorted({str(path) for path in (root / "tests").rglob("test_*.py") for trap in traps if _has(path, trap)})
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", names, *files],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=TIMEOUT_S * (1 if len(traps) == 1 else 4))
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)  # its own session: what the tests started ends too
        run.wait()
        return f"hang for {TIMEOUT_S} s"
    if run.returncode == _NOTHING_RAN or (run.returncode and b"error" in said.splitlines()[-1]):
        sys.exit(f"{names}: the tests could not be run:\n{said.decode(errors='replace')[-2000:]}")
    failed = [line.split("::")[-1].split(" - ")[0] for line in said.decode().splitlines() if line.startswith("FAILED")]
    return f"fail: {failed[0]}" if run.returncode else ""


def _has(path: Path, trap: int) -> bool:
    return f"test_trap_{trap}_" in path.read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
