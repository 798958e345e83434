"""`ocr-rl plan`: parts out of runs and files, what it refuses, and the page that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.speed.scale_page import published_7b
from ocr_rl.cli import main
from ocr_rl.config import load_recipe
from ocr_rl.learn.memory import GIB, Device, memory_on, shape_of
from ocr_rl.scale.measured import least_squares, read_measured
from ocr_rl.scale.parts import given_figures
from ocr_rl.scale.plan import Question, answer
from tests.made_runs import PAGE_S, ROW_S, STEP_S, UPDATE_PAGE_S, UPDATE_TOKEN_S, small, write_run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two that differ in samples a page."""
    return [
        write_run(tmp_path / "eight", small(2, 8), lengths=[10, 12, 14, 16, 18, 20, 22, 40] * 2),
        write_run(tmp_path / "two", small(4, 2), lengths=[10, 40, 12, 14] * 2),
    ]


def test_runs_of_two_shapes_tell_pages_steps_and_tokens_apart(runs: list[Path]) -> None:
    parts = read_measured(runs, load_recipe("nano_grpo")).parts
    figures = {name: getattr(parts, name).value for name in ("prefill_page_s", "decode_step_s", "decode_row_s")}
    # Three rates from two shapes: what they give is right, how it is shared out between page and step is not known.
    assert 2 * figures["prefill_page_s"] + 40 * figures["decode_step_s"] + 304 * figures[
        "decode_row_s"
    ] == pytest.approx(2 * PAGE_S + 40 * STEP_S + 304 * ROW_S)
    assert parts.update_page_s and parts.update_page_s.value == pytest.approx(UPDATE_PAGE_S)
    assert parts.update_tokens_per_s and parts.update_tokens_per_s.value == pytest.approx(1 / UPDATE_TOKEN_S)
    assert parts.annotate_page_s and parts.annotate_page_s.value == pytest.approx(0.1)
    assert parts.score_sample_s and parts.score_sample_s.value == pytest.approx(0.2)  # two workers
    assert parts.sync_s and parts.sync_s.value == 0.25  # of all steps but the first
    assert parts.checkpoint_bytes_per_s is None


@pytest.mark.parametrize("older", [False, True])
def test_a_runs_own_step_is_foreseen_from_it_alone(tmp_path: Path, older: bool) -> None:
    settings = small(2, 8)
    run = write_run(tmp_path / "run", settings, lengths=[10, 12, 14, 16, 18, 20, 22, 40] * 2, older=older)
    recipe = load_recipe("nano_grpo", settings)
    sheet = answer(Question(name="n", recipe=recipe, gpus=1, measured=[run], given={}))
    stages, row = sheet.plans[0].stages, json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    for stage, name in (
        ("load", "sync_s"),
        ("sample", "rollout_s"),
        ("score", "score_s"),
        ("reference", "annotate_s"),
        ("update", "update_s"),
    ):
        assert stages[stage].seconds == pytest.approx(row[name]), stage
    assert sheet.load.lengths == tuple([10, 12, 14, 16, 18, 20, 22, 40] * 4)


def test_what_another_step_takes_is_foreseen_from_two_runs(runs: list[Path], tmp_path: Path) -> None:
    settings = small(3, 4)
    third = write_run(tmp_path / "third", settings, lengths=[10, 12, 14, 16, 18, 20, 22, 40, 12, 14, 16, 18])
    recipe = load_recipe("nano_grpo", settings)
    plan = answer(Question(name="n", recipe=recipe, gpus=1, measured=runs, given={})).plans[0]
    row = json.loads((third / "metrics.jsonl").read_text().splitlines()[-1])
    assert plan.stages["update"].seconds == pytest.approx(row["update_s"], rel=0.05)  # lengths are those of the runs
    assert plan.stages["sample"].seconds == pytest.approx(row["rollout_s"], rel=0.1)


def test_minibatches_are_one_rollout(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small(2, 2), lengths=[10, 10, 10, 10])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    late = {"step": 9, "update_s": 1.0, "rollout_s": 5.0, "tokens": 20}  # the second half of one that began earlier
    whole = [late]
    for row in rows:
        halves = {**row, "update_s": row["update_s"] / 2, "tokens": 20}
        whole += [halves, {name: value for name, value in halves.items() if name != "generated"}]
    config = json.loads((run / "config.json").read_text())
    config["grpo"]["minibatches"] = 2
    (run / "config.json").write_text(json.dumps(config))
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in whole))
    (measured,) = read_measured([run], load_recipe("nano_grpo")).runs
    assert len(measured.rollouts) == 2
    assert measured.rollouts[0].learnt_tokens == 40 and measured.rollouts[0].learnt_pages == 2
    assert measured.rollouts[0].load.passes == 2  # the old policy too


def test_least_squares_gives_no_negative_rates() -> None:
    assert least_squares([[1.0, 2.0], [1.0, 1.0]], [3.0, 5.0]) == pytest.approx([2.0, 1.0])
    assert min(least_squares([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], [3.0, 2.0, 1.0])) == 0.0


def test_results_of_make_gpu_and_files_of_parts(tmp_path: Path) -> None:
    case = {"shape": "7B", "trained": "lora", "tokens_a_second": 8000.0}
    results = tmp_path / "results"
    results.mkdir()
    whole = {"part": "update", "device": "H200", "result": {"cases": [{**case, "trained": "all"}, case]}}
    (results / "update.json").write_text(json.dumps(whole))
    (results / "parity.json").write_text(json.dumps({"part": "parity", "failed": "no GPU"}))
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"parts": {"decode_step_s": 0.01, "mean_tokens": {"value": 9, "source": "a guess"}}}))
    known = read_measured([results, given], load_recipe("qwen2_5_vl_7b_grpo"))
    assert known.parts.update_tokens_per_s and known.parts.update_tokens_per_s.value == 8000
    assert "7B on H200" in known.parts.update_tokens_per_s.source
    assert known.parts.decode_step_s and known.parts.decode_step_s.source == str(given)
    assert known.about["mean_tokens"].source == "a guess"
    assert read_measured([results], load_recipe("nano_grpo")).parts.update_tokens_per_s is None


def test_a_step_as_json(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "nano_grpo", "--gpus", "2", "--json", "--set", "sample_tokens_per_s=640", *measured(runs)]
    assert main(words) == 0
    sheet = json.loads(capsys.readouterr().out)
    (split,) = sheet["splits"]
    assert (split["split"], split["learners"], split["engines"], split["fits"]) == ("1 + 1", 1, 1, None)
    assert sheet["parts"]["decode_step_s"] == {
        "value": 0.1,
        "source": "sample_tokens_per_s=640, 64 side by side",
    }
    assert split["not_measured"] == ["checkpoint_bytes_per_s"] and split["seconds"]["save"] is None
    assert split["step_s"] == pytest.approx(sum(value or 0.0 for value in split["seconds"].values()))


def test_nothing_measured_is_nothing_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "nano_grpo", "--set", "prompt_tokens=60"]) == 0
    out = capsys.readouterr().out
    assert "a sample: not measured" in out and "Not measured: transfer_bytes_per_s, mean_tokens" in out
    assert "shared     ?" in out and "a step." not in out


def measured(paths: list[Path]) -> list[str]:
    return [word for path in paths for word in ("--measured", str(path))]


def test_another_engine_and_a_lower_limit_are_said(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    low = write_run(runs[0].parent / "low", [*small(2, 2), "sampling.max_tokens=10"], lengths=[10, 10, 5, 10])
    assert main(["plan", "nano_grpo", "--set", "sampling.engine=transformers", *measured([low])]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "75% of the runs' samples ended at a lower max_tokens than this recipe's." in out
    assert "The runs sampled with vllm, the recipe says transformers" in out


@pytest.mark.parametrize(
    ("of_run", "of_recipe", "says"),
    [
        (None, None, ""),
        (2, 2, ""),
        (None, 2, "This recipe has sampling.page_limit = 2, runs had none: its longest samples"),
        (3, 1.5, "This recipe has sampling.page_limit = 1.5, runs had 3: its longest samples"),
        (2, None, "ended at 2 times what their page says, and this recipe has no sampling.page_limit: its samples may"),
        (1.5, 3, "ended at 1.5 times what their page says, and this recipe has sampling.page_limit = 3: its samples"),
    ],
)
def test_other_limits_by_page_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], of_run: float | None, of_recipe: float | None, says: str
) -> None:
    set_to = lambda limit: [] if limit is None else [f"sampling.page_limit={limit}"]
    run = write_run(tmp_path / "run", [*small(2, 2), *set_to(of_run)], lengths=[10, 9, 5, 8])
    words = [word for setting in set_to(of_recipe) for word in ("--set", setting)]
    assert main(["plan", "nano_grpo", *words, *measured([run])]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert says in out and ("what their page says" in out or "runs had" in out) is bool(says)
    assert main(["plan", "nano_grpo", *words, *measured([run]), "--set", "mean_tokens=99"]) == 0
    assert "runs had" not in capsys.readouterr().out, "lengths that somebody says are his own"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nano_sft"], "[sft] does not sample between its updates"),
        (["nano_grpo", "--set", "grpo.pages_per_step=1000000"], "lower grpo.pages_per_step"),
        (["nano_grpo", "--gpus", "0"], "must be a whole number from 1 to 1024, got '0'"),
        (["nano_grpo", "--gpus", "8", "--split", "6"], "as in 6+2"),
        (["nano_grpo", "--gpus", "8", "--split", "6+3"], "shares out 9 cards, and there are 8 in a node"),
        (["nano_grpo", "--gpus", "8", "--nodes", "2", "--split", "9+9"], "there are 8 in a node (16 in all)"),
        (["nano_grpo", "--gpus", "1", "--split", "0+1"], "as in 6+2"),
        (["nano_grpo", "--measured", "nothing_here"], "nothing_here: there is no such run or file"),
        (["nano_grpo", "--measured", "{empty}"], "is neither a run nor a folder of results"),
        (["nano_grpo", "--measured", "{list}"], "is no file of a run any more"),
        (["nano_grpo", "--measured", "{odd}"], "is no result of make gpu and no file of parts"),
        (["nano_grpo", "--measured", "{unknown}"], "is no result of make gpu and no file of parts"),
        (["nano_grpo", "--measured", "{two}", "--set", "policy.dtype=bfloat16"], "policy.dtype = 'float32'"),
        (["nano_grpo", "--set", "decode_step_s=fast"], "decode_step_s must be a number above 0"),
        (["nano_grpo", "--set", "update_tokens_per_s=0"], "update_tokens_per_s must be a number above 0"),
        (["nano_grpo", "--set", "decode_rows=nan"], "decode_rows must be a number above 0"),
        (["nano_grpo", "--set", "decode_stop_s=1"], "decode_stop_s"),
        (["nano_grpo", "--set", "longest_tokens=9"], "say mean_tokens too"),
        (["nano_grpo", "--card-memory", "0"], "Input should be greater than or equal to 1"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"empty": tmp_path / "empty", "two": tmp_path / "two"}
    places["empty"].mkdir()
    if "{two}" in words:
        write_run(places["two"], small(2, 2), lengths=[1, 2, 3, 4])
    for name, text in {
        "list": "[]",
        "odd": '{"part": "update", "result": 3}',
        "unknown": '{"parts": {"x": 1}}',
    }.items():
        places[name] = tmp_path / f"{name}.json"
        places[name].write_text(text)
    assert main(["plan", *(word.format(**places) for word in words)]) == 2
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ({"metrics.jsonl": '{"step": 1}\n'}, "has no step yet that sampled and learnt"),
        ({"metrics.jsonl": "{\n"}, "run/metrics.jsonl, line 1: not JSON"),
        ({"groups/000002.jsonl": "{\n"}, "run/groups/000002.jsonl, line 1: not JSON"),
        ({"groups/000002.jsonl": '{"samples": 3}\n'}, "the groups of step 2 are damaged"),
        ({"config.json": '{"policy": {"path": "nano"}}'}, "is of another version"),
    ],
)
def test_a_damaged_run_is_one_sentence(
    damage: dict[str, str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", small(2, 2), lengths=[1, 2, 3, 4])
    for name, text in damage.items():
        (run / name).write_text(text)
    assert main(["plan", "nano_grpo", "--measured", str(run)]) == 2
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1


def test_settings_of_the_recipe_stay_settings() -> None:
    figures, others = given_figures(["decode_step_s=0.5", "optim.lr=1e-6", "seed=3"])
    assert figures["decode_step_s"].value == 0.5 and others == ["optim.lr=1e-6", "seed=3"]


@pytest.mark.parametrize(("slower", "code"), [(1.0, 0), (1.5, 1)])
def test_the_benchmark_fails_where_a_step_is_not_foreseen(
    slower: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.speed import cost_model

    def made(out: Path, name: str, settings: dict) -> Path:
        pages, samples = settings["grpo.pages_per_step"], settings["grpo.samples_per_page"]
        longest = settings.get("sampling.max_tokens", 256)
        lengths = [min(longest, 20 + 7 * (i % 11)) for i in range(pages * samples)]
        return write_run(
            out / name,
            [f"{key}={value}" for key, value in settings.items()],
            lengths=lengths,
            slower=slower if name in cost_model.FORESEEN else 1.0,
        )

    monkeypatch.setattr(cost_model, "run", made)
    assert cost_model.main(["--out", str(tmp_path)]) == code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["configuration"] for line in lines] == list(cost_model.FORESEEN)


def test_the_page_shows_what_its_commands_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.speed.scale_page import PAGE, commands, filled, printer

    monkeypatch.chdir(ROOT)
    text = PAGE.read_text(encoding="utf-8")
    assert len(commands(text)) == 4
    assert filled(text, printer(tmp_path)) == text, "stale: run python -m benchmarks.speed.scale_page"


def test_the_memory_table_of_large_models_is_the_plans(tmp_path: Path) -> None:
    columns = ("weights", "masters", "gradients", "optimizer", "reference", "sampler", "activations", "casts", "peak")
    policy, card = published_7b(tmp_path), Device(gpu=True, ranks=1, free=80 * GIB, total=80 * GIB, host=200 * GIB)
    text = (ROOT / "docs/large_models.md").read_text(encoding="utf-8")
    head, _, *rows = [
        [cell.strip() for cell in line.strip("| \n").split("|")]
        for line in text[text.index("| GiB |") :].split("\n\n")[0].splitlines()
    ]
    names = ("weights", "masters", "gradients", "optimiser", "reference", "vLLM", "activations", "casts", "sum")
    assert tuple(head) == ("GiB", *names) and len(rows) == 4
    assert f"about {rows[0][-1]} GiB of 80.0 GiB" in text
    for label, *cells in rows:
        recipe = load_recipe("qwen2_5_vl_7b_grpo", [f"policy.path={policy}", *label.split("`")[1::2]])
        plan = memory_on(card, recipe, shape_of(recipe.policy, policy))
        told = [f"{getattr(plan, name) / GIB:.1f}" if getattr(plan, name) else "" for name in columns]
        assert cells == told, label
