"""A verb refuses before torch is imported, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ocr_rl.cli import bench
from ocr_rl.cli.document import verbs

# By verb: words that are refused, and a piece of the sentence. There are `data`, `file`, `empty`, `run` and `model`.
REFUSALS: dict[str, list[tuple[str, str]]] = {
    "train": [
        ("train nano_grop", "did you mean nano_grpo"),
        ("train nothere.toml", "there is no such file"),
        ("train nano_grpo --set grpo.step=3", "unknown key grpo.step"),
        ("train nano_grpo --set grpo.pages.dir=nothere", "grpo.pages.dir: nothere: there is no such folder"),
        ("train nano_grpo --set grpo.pages.dir=empty", "is no dataset"),
        (
            "train nano_grpo --set grpo.pages.synth=notise",
            "grpo.pages.synth: there is no kind 'notise'",
        ),
        ("train nano_grpo --set policy.path=./nothere", "policy.path: ./nothere: there is no such folder"),
        ("train nano_grpo --set policy.path=./empty", "holds no config.json"),
        ("train nano_grpo --set rewards.0.name=pass_rat", "did you mean 'pass_rate'"),
        ("train nano_grpo --until 0", "--until must be a step before the last one (1 to 99), got 0"),
        ("train nano_grpo --until 100", "--until must be a step before the last one (1 to 99), got 100"),
        ("train nano_grpo --out run", "already holds a run"),
        ("train nano_grpo --out run --resume", "the run began with another recipe"),
        ("train nano_grpo --out file", "file: is a file"),
    ],
    "demo": [
        ("demo --set grpo.step=3", "unknown key grpo.step"),
        ("demo --out run", "already holds a run"),
        ("demo --out file/below", "file is a file"),
    ],
    "study": [
        ("study smal", "shipped are again, full, second, small"),
        ("study nothere.toml", "there is no such file"),
        ("study small --out file", "file: is a file"),
    ],
    "report": [("report run nothere --out r", "nothere: holds no config.json of a run")],
    "look": [
        ("look nothere", "nothere: holds no config.json of a run"),
        ("look run --out file", "file: is a file"),
    ],
    "watch": [
        ("watch nothere", "nothere: holds no config.json of a run"),
        ("watch empty --once", "empty: holds no config.json of a run"),
        ("watch nothere --web", "nothere: holds no config.json of a run"),
    ],
    "card": [
        ("card nothere", "nothere: holds no config.json of a run"),
    ],
    "soup": [
        ("soup run --data data --out new", "an average is of two policies at least"),
        ("soup model model --data data --out run", "run: is there already"),
        ("soup model nothere --data data --out new", "nothere: is neither a run nor a model's folder"),
        ("soup model model --data nothere --out new", "nothere: there is no such folder"),
    ],
    "transcribe": [
        ("transcribe nothere.pdf", "nothere.pdf: there is no such file"),
        ("transcribe file", "file"),
        ("transcribe nothere.pdf --model ./nothere", "./nothere: there is no such folder"),
        ("transcribe nothere.pdf --model empty", "empty: is no model's folder"),
        ("transcribe nothere.pdf --out file", "file: is a file"),
        ("transcribe nothere.pdf --engine transformers", "--engine is now --backend"),
        ("transcribe nothere.pdf --extra top_k=1", "--extra is for --endpoint"),
        ("transcribe nothere.pdf --format docx --out new", "--format docx: is not one of markdown, pages, dolma, pdf"),
        ("transcribe nothere*.pdf", "nothere*.pdf: no file fits this pattern"),
        ("transcribe @nothere", "nothere: is no list of documents"),
        ("transcribe nothere.pdf --backend vlm", "'vlm' is not one of 'vllm', 'transformers'"),
    ],
    "serve": [
        ("serve", "name a run or a model, or with --endpoint"),
        ("serve ./nothere", "./nothere: there is no such folder"),
        ("serve nano --preset olm", "'olm' is no known model"),
        ("serve nano --web --data nothere", "--data nothere: there is no such folder"),
        ("serve --endpoint http://127.0.0.1:9", "--endpoint is for --web"),
    ],
    "sample": [
        ("sample nothere --out s.jsonl", "nothere: there is no such folder"),
        ("sample data --out s.jsonl --model ./nothere", "./nothere: there is no such folder"),
        ("sample data --out s.jsonl --temperature nan", "--temperature must be 0 (greedy) or from 0.01 to 10, got nan"),
        ("sample data --out empty", "empty: is a folder"),
        ("sample data --out s.jsonl --pairs nano_grpo", "add --format parquet"),
        ("sample data --out s.jsonl --format parquet", "s.jsonl: a table is a .parquet file"),
        ("sample data --out s.jsonl --engine vllm", "--engine is now --backend"),
    ],
    "bench": [
        ("bench data", "name at least one --candidate FOLDER"),
        ("bench nothere --candidate empty", "nothere: there is no such folder"),
        ("bench data --candidate a=nothere", "--candidate nothere: there is no such folder"),
        ("bench data --engine tesseract text_laye", "did you mean 'text_layer'"),
        ("bench data --engine nothere.py:Mine", "nothere.py: there is no such file"),
        ("bench data --model mine=./nothere", "--model ./nothere: there is no such folder"),
        ("bench data --candidate empty --out file", "file: is a file"),
        ("bench data --endpoint h:1", "h:1: is no address"),
        ("bench data --engine", "'--engine' requires an argument"),
        ("bench data --candidate empty --suite parsbench", "did you mean 'parsebench'"),
        ("bench data --candidate empty --suite dp-bench dp-bench", "--suite: dp-bench stands there twice"),
        ("bench data --candidate empty --suite dp-bench parsebench", "a folder holds one folder for each"),
        ("bench data --candidate x=", "--candidate x=: names no folder; write one, as in x=FOLDER"),
        ("bench data --model x=", "--model x=: names no folder"),
        ("bench data --candidate x= --suite dp-bench", "--candidate x=: names no folder"),
        ("bench data --candidate / --suite dp-bench", "--candidate /: has no name; give one, as in NAME=/"),
        ("bench data --sampler vllm", "--sampler is now --backend"),
    ],
    "recipes show": [("recipes show nano_grop", "did you mean nano_grpo")],
    "recipes new": [
        ("recipes new --from nano_grop --pages data", "did you mean nano_grpo"),
        ("recipes new --from nano_grpo --pages nothere", "--pages nothere: there is no such folder"),
        ("recipes new --from nano_grpo --pages empty", "--pages empty: is no dataset"),
        ("recipes new --from nano_grpo --pages data --held-out empty", "--held-out empty: is no dataset"),
        ("recipes new --from nano_grpo --pages data --held-out data", "are the pages that are trained on"),
        ("recipes new --from nano_grpo --pages data --out file", "file: is there already"),
    ],
    "pages synth": [
        ("pages synth --kind reprot --out new", "There is no kind 'reprot'"),
        ("pages synth --kind nano --out data", "already holds a dataset"),
        ("pages synth --out file", "file: is a file"),
    ],
    "pages check": [("pages check nothere", "nothere: there is no such folder")],
    "pages mine": [
        ("pages mine nothere --out new", "nothere"),
        ("pages mine data --out data", "data"),
    ],
    "pages import": [
        ("pages import nothere --out new", "nothere: there is no such file or folder; name a parquet file"),
        ("pages import nothere.parquet --out new", "nothere.parquet: there is no such file"),
        ("pages import file --out new", "file: is no .parquet file; name one, or a folder"),
        ("pages import empty --out new", "(nor parquet) in this folder"),
    ],
    "pages export": [
        ("pages export nothere --out new.parquet", "nothere: there is no such folder"),
        ("pages export data --out empty", "empty: is a folder"),
        ("pages export data --out new.csv", "new.csv: a table is a .parquet file"),
        ("pages export data --out new", "new: a table is a .parquet file"),
        ("pages export data --out new.parquet --preferences nothere", "--preferences nothere: there is no such file"),
        ("pages export data --out new.parquet --preferences file --layout verl", "leave --layout out"),
        ("pages export data --out new.parquet --layout openrlhf", "'openrlhf' is not one of 'trl', 'verl'"),
    ],
    "pages split": [
        ("pages split nothere --part a=0.5 --part b=0.5 --out new", "nothere: there is no such folder"),
        ("pages split data --part a --out new", "say NAME=SHARE"),
        ("pages split data --part a=2 --out new", "a share lies between 0 and 1"),
        ("pages split data --part run=0.5 --part b=0.5 --out .", "run: is there already"),
    ],
    "pages overlap": [("pages overlap data nothere", "nothere: there is no such folder")],
    "pages rank": [
        ("pages rank nothere file", "nothere: there is no such folder"),
        ("pages rank data nothere", "nothere: there is no such file"),
        ("pages rank data empty", "empty: has no groups"),
        ("pages rank data file --top 1.5", "a whole number of at least 1 or a share between 0 and 1, got '1.5'"),
        ("pages rank data file --top 0", "a whole number of at least 1 or a share between 0 and 1, got '0'"),
        ("pages rank data file --by suspect --rewards nano_grpo", "--by suspect lists tests: leave --rewards out"),
        ("pages rank data file --by suspect --to new", "--by suspect lists tests: leave --to out"),
        ("pages rank data file --rewards nano_grop", "did you mean nano_grpo"),
        ("pages rank data file --rewards nano_sft", "the recipe nano_sft has no rewards"),
        ("pages rank data file --to empty", "empty: is there already; give another --to"),
        ("pages rank data file --to data/pdfs/new", "data/pdfs/new: would be part of data"),
        ("pages rank data file --out data/new.jsonl", "data/new.jsonl: would be read as tests of data"),
        ("pages rank data file --out empty", "empty: is a folder"),
    ],
    "pages review": [
        ("pages review nothere", "nothere: there is no such folder"),
        ("pages review data nothere", "nothere: there is no such file"),
        ("pages review data --out new --in-place", "give one of them"),
        ("pages review data --out empty", "empty: is there already"),
        ("pages review data --out data/pdfs/a/b", "data/pdfs/a/b: would be part of data"),
        ("pages review data --apply", "review.journal: there is no such file"),
        ("pages review data --journal file --apply", "file:1: is no decision of a review; give another --journal"),
        ("pages review data --journal data/new.jsonl", "would be read as tests of data, as every *.jsonl there"),
        ("pages review data --port 70000", "must be a whole number from 0 to 65535"),
    ],
    "pages show": [
        ("pages show nothere", "nothere: there is no such folder"),
        ("pages show data --out empty", "empty: is a folder"),
    ],
    "pages render": [
        ("pages render nothere.pdf --out empty", "nothere.pdf: there is no such file"),
        ("pages render nothere.pdf --out file", "file: is a file"),
    ],
    "score": [
        ("score nothere.md --data data", "nothere.md: there is no such file"),
        ("score file --data nothere", "nothere: there is no such folder"),
        ("score file --data data --reward pas_rate", "did you mean 'pass_rate'"),
    ],
    "rewards audit": [
        ("rewards audit nano_grop --data data", "did you mean nano_grpo"),
        ("rewards audit nano_grpo --data nothere", "nothere: there is no such folder"),
        ("rewards audit nano_grpo --data data --samples nothere", "nothere: there is no such file"),
        ("rewards audit nano_grpo --data data --out file", "file: is a file"),
    ],
    "rewards new": [("rewards new 1x", "is no module name"), ("rewards new json", "has another meaning already")],
    "plan": [
        ("plan nano_grop", "did you mean nano_grpo"),
        ("plan nano_sft", "[sft] does not sample between its updates"),
        ("plan nano_grpo --set policy.path=./nothere", "policy.path: ./nothere: there is no such folder"),
        ("plan nano_grpo --measured nothere", "--measured nothere: there is no such run or file"),
        ("plan nano_grpo --measured empty", "is neither a run nor a folder of results of make gpu"),
        ("plan nano_grpo --gpus 8 --split 6+3", "shares out 9 cards"),
        ("plan nano_grpo --set decode_step_s=fast", "decode_step_s must be a number"),
    ],
    "doctor": [("doctor --parity ./nothere", "--parity ./nothere: there is no such folder")],
}
SCRIPT = """
import contextlib, io, json, sys
from ocr_rl.cli import main

ends = []
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words.split())
    ends.append((words, code, out.getvalue() + err.getvalue(), "torch" in sys.modules))
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def ends(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, bool]]:
    """Exit code, words and whether torch was there, by command; all of them in one fresh process."""
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "data").symlink_to(dataset)
    for name in ("empty", "run", "model"):
        (folder / name).mkdir()
    (folder / "file").write_text("no PDF")
    for name in ("run", "model"):
        (folder / name / "config.json").write_text("{}")
    asked = json.dumps([words for refusals in REFUSALS.values() for words, _ in refusals])
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder, input=asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["data", "empty", "file", "model", "run"]
    return {words: (code, text, torch) for words, code, text, torch in json.loads(done.stdout)}


@pytest.mark.parametrize("verb", REFUSALS)
def test_a_verb_refuses_before_torch_is_imported(verb: str, ends: dict[str, tuple[int, str, bool]]) -> None:
    for words, sentence in REFUSALS[verb]:
        code, text, torch = ends[words]
        assert code == 2, (words, text)
        assert sentence in text, (words, text)
        assert "Traceback" not in text
        assert not torch, words


def test_every_verb_is_refused_something() -> None:
    alone = {name.removeprefix("ocr-rl ") for name, command in verbs() if not getattr(command, "commands", {})}
    assert alone - {"plugins"} == set(REFUSALS)  # plugins takes nothing that could be wrong


def test_an_option_that_has_another_name_now_is_told_only_where_it_was(refused: Callable[..., str]) -> None:
    assert "--engine is now --backend" in refused("soup", "a", "b", "--engine", "vllm")
    assert refused("train", "nano_grpo", "--engine", "vllm").startswith("ocr-rl: No such option: --engine")
    assert refused("doctor", "--sampler", "vllm").startswith("ocr-rl: No such option: --sampler")


@pytest.mark.parametrize(
    ("words", "spaced"),
    [
        ("data --engine a b --model c", "data --engine a --engine b --model c"),
        ("data --engine a --engine b --out x", "data --engine a --engine b --out x"),
        ("data --candidate a --workers 2 b", "data --candidate a --workers 2 b"),
        ("data --engine", "data --engine"),
        ("data --engine=a", "data --engine=a"),
    ],
)
def test_an_option_of_bench_takes_all_words_up_to_the_next_one(words: str, spaced: str) -> None:
    assert bench.spread(words.split(), bench.SEVERAL) == spaced.split()
