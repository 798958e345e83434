"""What torchrun starts: refused where it cannot be shared, and otherwise trained as one process does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from ocr_rl import config
from ocr_rl.cli import main
from ocr_rl.config import load_recipe
from ocr_rl.contract import Page, UserError
from ocr_rl.learn import ranks
from ocr_rl.run import Run
from ocr_rl.train import train
from ocr_rl.train.checks import require_ranks
from tests.conftest import LONGEST_PX
from tests.learn.test_ranks import same_metrics


def test_what_cannot_be_shared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    grpo = {"pages": {"synth": "nano"}, "steps": 1}
    recipe = config.Recipe.model_validate({"policy": {"path": "nano"}, "grpo": grpo, "rewards": [{"name": "eos"}]})
    require_ranks(recipe)
    monkeypatch.setattr(ranks, "world", lambda: 2)
    with pytest.raises(UserError, match=r'sampling\.engine: "vllm"'):
        require_ranks(recipe)
    require_ranks(recipe.model_copy(update={"sampling": config.Sampling(engine="transformers")}))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["plugins"]) == 2
    assert "only train" in capsys.readouterr().err


@pytest.mark.slow
def test_torchrun_trains_as_one_process_does(nano_dir: Path, tiny_pages: list[Page], tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "pdfs").mkdir(parents=True)
    shutil.copy(tiny_pages[0].pdf, data / "pdfs")
    for page in tiny_pages:
        (data / "pdfs" / f"tiny_pg{page.number}.md").write_text(f"Page {'and so on ' * page.number}", encoding="utf-8")
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""
save_every = 1
keep = 3
policy = {{ path = "{nano_dir}", longest_px = {LONGEST_PX}, instruction = "" }}
optim = {{ lr = 1e-3, micro_tokens = 128 }}
evaluation = {{ every = 1, sets.new = {{ dir = "{data}" }} }}
[[sft.stages]]
steps = 2
pages_per_step = 3
pages = {{ dir = "{data}" }}
""",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "ocr_rl.cli", "train", str(path), "--out", str(tmp_path / "two")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CUDA")}
    ended = subprocess.run(
        command, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("policy: ") == 1  # the first rank's alone
    train(load_recipe(str(path)), tmp_path / "one")
    shutil.rmtree(tmp_path / "two" / "ckpt" / "000002")
    rows = Run(tmp_path / "two").metrics()
    train(load_recipe(str(path)), tmp_path / "two", go_on=True)  # one process goes on where two were
    for metrics in (rows, Run(tmp_path / "two").metrics()):
        assert len(metrics) == 2
        same_metrics(metrics, Run(tmp_path / "one").metrics(), rel=1e-4)
