"""vLLM's own weight transfer, with a backend that needs no GPU: its server, its session, its code for trainers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from ocr_rl.models.load import model_folder
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.rollout.sampler.base import Sampler, Sampling
from ocr_rl.rollout.sampler.vllm_server import ServerSettings, VllmServerSampler
from ocr_rl.rollout.sampler.wire import Wire
from tests.contracts.conftest import HOW, changed, gap, in_order, serving, weights_of, written

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_vllms_own_server_holds_what_it_is_sent(
    model: torch.nn.Module,
    vllm_sampler: Sampler,
    nano_dir: Path,
    prompter: Prompter,
    asked,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """As an engine in this process holds it, the tower's weights too; and so after transfers that went wrong."""
    from transformers import AutoModelForImageTextToText

    from tests.contracts import by_shared_memory

    by_shared_memory.open_way(monkeypatch, tmp_path / "pieces")
    for name in ("plugin", "written"):
        (tmp_path / name).mkdir()
    info = tmp_path / "plugin" / "by_shared_memory-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: by_shared_memory\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        "[vllm.general_plugins]\nby_shared_memory = tests.contracts.by_shared_memory:register\n"
    )
    fault = tmp_path / "fault"
    env = {by_shared_memory.SPOILT: str(fault), "PYTHONPATH": os.pathsep.join([str(ROOT), str(info.parent)])}
    calls: list[str] = []
    call = Wire.call

    def counted(wire: Wire, path: str, body: Any = None, **how: Any) -> dict[str, Any]:
        calls.append(path)
        return call(wire, path, body, **how)

    monkeypatch.setattr(Wire, "call", counted)
    embedded = AutoModelForImageTextToText.from_pretrained(model_folder("nano"), dtype=torch.float32).eval()
    greedy = Sampling(temperature=0, max_tokens=40)
    loads = [weights_of(embedded), *(changed(embedded, "visual", by) for by in (0.1, 0.15, 0.2, 0.25))]

    def same_as_here(sampler: Sampler, number: int) -> list[tuple[int, ...]]:
        for one in (sampler, vllm_sampler):
            one.load(loads[number], number)
        seen = [written(in_order(one, asked, how)) for how in (greedy, HOW) for one in (sampler, vllm_sampler)]
        assert seen[0] == seen[1] and seen[2] == seen[3]
        assert gap(in_order(sampler, asked, HOW), loads[number], embedded, prompter) < 1e-4
        return seen[0]

    def opened(url: str) -> VllmServerSampler:
        settings = ServerSettings(
            url=url, max_model_len=256, deadline_s=120, wait_s=300, weights_dir=tmp_path / "written"
        )
        return VllmServerSampler(nano_dir, prompter, settings)

    try:
        flags = ("--weight-transfer-config", f'{{"backend": "{by_shared_memory.NAME}"}}')
        with serving(nano_dir, tmp_path, *flags, **env) as url:
            sampler = opened(url)
            seen = [same_as_here(sampler, 0), same_as_here(sampler, 1)]
            assert calls.count("/collective_rpc") == 2, "the start, and the proof of the first transfer"
            assert calls.count("/finish_weight_update") == 2
            fault.write_text("breaks off")
            seen.append(same_as_here(sampler, 2))
            assert calls.count("/collective_rpc") == 5, "one that fails for what was left, and two that agree"
            assert (
                "gets its weights as files, not by shared_memory: it answered /update_weights"
                in capsys.readouterr().out
            )
            sampler.close()
            fault.write_text("rounds")
            sampler = opened(url)
            seen.append(same_as_here(sampler, 3))
            assert "what came was not what the file says" in capsys.readouterr().out
            sampler.close()
        assert len({tuple(texts) for texts in seen}) == len(seen), "the changes are too small to prove anything"
    finally:
        vllm_sampler.load(weights_of(model), 0)
