"""The average of policies: its weights by hand, parts that do not go together, and what is kept of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.evaluate import soup as kitchen
from ocr_rl.learn.network import save_model
from ocr_rl.learn.soup import average
from ocr_rl.models.known import read_settings
from ocr_rl.models.load import load_model
from ocr_rl.models.settings import PromptSettings, write_settings
from ocr_rl.run import Run


@pytest.fixture
def parts(nano_dir: Path, tmp_path: Path) -> list[str]:
    """Three policies: the random one once, twice and six times."""
    folders = []
    for scale in (1.0, 2.0, 6.0):
        folder = tmp_path / f"part{scale:.0f}"
        model = load_model(str(nano_dir))
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(scale)
        save_model(model, folder, source=str(nano_dir))
        write_settings(folder, PromptSettings(longest_px=112))
        folders.append(str(folder))
    return folders


def test_the_average_is_the_mean_of_every_weight_and_an_ordinary_folder(
    parts: list[str], nano_dir: Path, tmp_path: Path
) -> None:
    average(parts, tmp_path / "soup")
    mean, start = load_model(str(tmp_path / "soup")), load_model(str(nano_dir))
    for (name, weight), once in zip(mean.state_dict().items(), start.state_dict().values(), strict=True):
        torch.testing.assert_close(weight, 3 * once, rtol=1e-6, atol=1e-7, msg=name)
    assert read_settings(str(tmp_path / "soup")) == PromptSettings(longest_px=112)


def test_the_average_is_taken_in_float32_of_parts_in_bfloat16(parts: list[str], tmp_path: Path) -> None:
    folders = []
    for part in parts:
        folder = tmp_path / (Path(part).name + "-16")
        save_model(load_model(part), folder, source=part, dtype="bfloat16")
        folders.append(str(folder))
    average(folders, tmp_path / "soup")
    exact = [load_model(folder, dtype="float32").state_dict() for folder in folders]
    for name, weight in load_model(str(tmp_path / "soup"), dtype="float32").state_dict().items():
        mean = sum(part[name] for part in exact) / 3
        torch.testing.assert_close(weight, mean.to(torch.bfloat16).float(), rtol=2**-8, atol=0, msg=name)


def test_parts_that_do_not_go_together_are_named(parts: list[str], tmp_path: Path) -> None:
    write_settings(Path(parts[1]), PromptSettings(longest_px=224))
    with pytest.raises(UserError, match=r"part2: its ocr_rl\.json .* is not that of .*part1"):
        average(parts, tmp_path / "soup")
    write_settings(Path(parts[1]), PromptSettings(longest_px=112))
    path = Path(parts[2]) / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocab = tokenizer["model"]["vocab"]
    *_, first, second = vocab  # the last two: no special tokens
    vocab[first], vocab[second] = vocab[second], vocab[first]
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(UserError, match=r"part6: its tokenizer is not that of"):
        average(parts, tmp_path / "soup")
    assert not (tmp_path / "soup").exists()


def test_shapes_that_differ_are_named(parts: list[str], tmp_path: Path) -> None:
    from ocr_rl.learn import soup

    flat, tall = {"a": torch.zeros(2, 3)}, {"a": torch.zeros(3, 2)}
    with pytest.raises(UserError, match=r"two: a has the shape \(3, 2\), in one it is \(2, 3\)"):
        soup._require_shapes(flat, tall, "one", "two")


@pytest.mark.parametrize(("whole", "code"), [(0.5, 0), (0.4, 1), (0.3, 1)])
def test_the_average_is_kept_only_where_it_is_better_than_its_best_part(
    parts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_pages,
    whole: float,
    code: int,
) -> None:
    run = Run(tmp_path / "run")
    for step in (1, 2):
        with run.checkpoint(step) as folder:
            shutil.copytree(parts[step], folder / "model")
    models: list[str] = []

    def pass_rate(model: str, pages, engine: str) -> float:
        models.append(model)
        return {0: 0.4, 1: 0.2}.get(len(models) - 1, whole)

    monkeypatch.setattr(kitchen, "pass_rate", pass_rate)
    data = tmp_path / "data"
    (data / "pdfs").mkdir(parents=True)
    shutil.copy(tiny_pages[0].pdf, data / "pdfs" / "tiny.pdf")
    test = {"pdf": "tiny.pdf", "page": 1, "id": "a", "type": "present", "text": "Page 1"}
    (data / "tests.jsonl").write_text(json.dumps(test) + "\n", encoding="utf-8")
    out = tmp_path / "soup"
    argv = ["soup", parts[0], str(run.folder), "--data", str(data), "--out", str(out)]
    assert main(argv) == code
    assert models[:2] == [parts[0], str(run.folder / "ckpt" / "000002" / "model")]
    assert Path(models[2]).parent == tmp_path and models[2] != str(out)  # judged beside, before it has its place
    assert out.exists() == (code == 0)
    assert not Path(f"{out}.part").exists()
    assert f"the average passes {whole:.2%} of the tests, the best of its parts 40.00%" in capsys.readouterr().out
    if code == 0:
        load_model(str(out))
        assert main(argv) == 2  # it is there already


def test_what_is_no_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a run nor a model"):
        kitchen.policy_of(tmp_path)
    (tmp_path / "ckpt").mkdir()
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        kitchen.policy_of(tmp_path)
    with Run(tmp_path).checkpoint(1) as folder:
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_text("whole")
        (folder / "optim.pt").write_text("momenta")
    assert kitchen.policy_of(tmp_path) == tmp_path / "ckpt" / "000001" / "model"
    (tmp_path / "ckpt" / "000001" / "optim.pt").unlink()  # as a study does when a run is done
    assert kitchen.policy_of(tmp_path) == tmp_path / "ckpt" / "000001" / "model"
    (tmp_path / "ckpt" / "000001" / "model" / "weights").write_text("half")
    with pytest.raises(UserError, match="000001: is damaged"):
        kitchen.policy_of(tmp_path)
