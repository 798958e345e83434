"""Mutated text files through every verb that reads them: no traceback, right exit codes, one sentence everywhere.

    python -m benchmarks.robustness.texts

Tests, references, transcripts, recipes, study plans, groups and pairs are mutated as editors, programs and disks do it.
Each verb must take the file or refuse it with exit code 2 and one sentence, and all verbs must say the same of it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from random import Random

from ocr_rl.cli import main as ocr_rl
from ocr_rl.config import shipped_recipes
from ocr_rl.contract import UserError
from ocr_rl.pages.dataset import load_dataset
from ocr_rl.pages.preferences import read_preferences
from ocr_rl.pages.synth.make import write_dataset

Mutation = Callable[[bytes, Random], bytes]
BOM = b"\xef\xbb\xbf"


def _text(change: Callable[[str], str | bytes]) -> Mutation:
    def mutated(data: bytes, rng: Random) -> bytes:
        changed = change(data.decode())
        return changed if isinstance(changed, bytes) else changed.encode()

    return mutated


def _inserted(piece: bytes) -> Mutation:
    def mutated(data: bytes, rng: Random) -> bytes:
        at = rng.randrange(len(data))
        return data[:at] + piece + data[at:]

    return mutated


def _flipped(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(8):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


MUTATIONS: Mapping[str, Mutation] = {
    "as it is": lambda data, rng: data,
    "BOM": lambda data, rng: BOM + data,
    "joined with BOMs": lambda data, rng: BOM + data + b"\n" + BOM + data,
    "UTF-16 LE": _text(lambda text: text.encode("utf-16")),
    "UTF-16 BE": _text(lambda text: b"\xfe\xff" + text.encode("utf-16-be")),
    "UTF-16 without BOM": _text(lambda text: text.encode("utf-16-le")),
    "UTF-16, odd": _text(lambda text: text.encode("utf-16")[:-1]),
    "UTF-32": _text(lambda text: text.encode("utf-32")),
    "Latin-1": _text(lambda text: text.replace("e", "é", 3).encode("latin-1", "replace")),
    "CRLF": _text(lambda text: text.replace("\n", "\r\n")),
    "CR": _text(lambda text: text.replace("\n", "\r")),
    "blank lines": _text(lambda text: "\n\n \t\n" + text.replace("\n", "\n \n") + "\n\n"),
    "NUL": _inserted(b"\0"),
    "half a character": _inserted(b"\xed\xa0\x80"),
    "half a character, escaped": _inserted(b"\\ud83d"),
    "cut off": lambda data, rng: data[: rng.randrange(1, len(data))],
    "bytes flipped": _flipped,
    "brackets": lambda data, rng: data + b"\n" + b"[" * 100_000,
    "a long number": lambda data, rng: data + b"\n" + b"1" * 5_000,
    "a long line": lambda data, rng: data + b"\n" + b"x" * 5_000_000,
    "empty": lambda data, rng: b"",
    "zeros": lambda data, rng: bytes(len(data)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of text file: its name in the working folder, and the verbs that read it."""

    file: str
    verbs: Sequence[Sequence[str]]


_DATA = (
    "pages check data",
    "pages split data --part a=0.5 --part b=0.5 --out parts",
    "pages import data --out imported",
    "pages overlap data good",
    "pages show data --n 1 --out sheet.png",
    "bench data --candidate answers --out bench --workers 1 --missing fail",
    "score one.md --data data --page PDF:1 --reward pass_rate",
)


def kinds(pdf: str) -> dict[str, Kind]:
    """By name; `pdf` is the name of the PDF whose tests and texts are mutated."""
    stem = pdf.removesuffix(".pdf")
    verbs = {
        "tests": ("data/nano.jsonl", _DATA),
        "reference": (f"data/pdfs/{stem}.md", (*_DATA, "pages mine data/pdfs --out mined")),
        "transcript": (
            f"answers/{stem}_pg1_repeat1.md",
            (
                "bench good --candidate answers --out bench --workers 1 --missing fail",
                f"score answers/{stem}_pg1_repeat1.md --data good --reward cer",
            ),
        ),
        "recipe": (
            "mine.toml",
            (
                "train mine.toml --set policy.path=./nothere",
                "recipes show mine.toml",
                "recipes new --from mine.toml --pages good --out new.toml",
                "rewards audit mine.toml --data nothere",
            ),
        ),
        "study": ("plan.toml", ("study plan.toml --out one.md/below",)),
        "groups": ("groups.jsonl", ("score groups.jsonl --data good --reward cer",)),
        "pairs": ("pairs.jsonl", ("pairs",)),
    }
    return {
        name: Kind(file=file, verbs=[verb.replace("PDF", pdf).split() for verb in of_kind])
        for name, (file, of_kind) in verbs.items()
    }


def prepare(folder: Path) -> str:
    """What the verbs work on, in `folder`; returns the name of a PDF."""
    write_dataset("nano", n=6, seed=1, out=folder / "good", pages_per_document=1)
    page = load_dataset(folder / "good")[0]
    pdf = page.pdf.name
    shutil.copytree(folder / "good", folder / "data")
    (folder / "answers").mkdir()
    for name in ("one.md", f"answers/{page.pdf.stem}_pg1_repeat1.md"):
        (folder / name).write_text(page.reference or "", encoding="utf-8")
    shutil.copyfile(shipped_recipes()["nano_grpo"], folder / "mine.toml")
    study = Path(shipped_recipes()["nano_grpo"]).parents[1] / "study" / "small.toml"
    shutil.copyfile(study, folder / "plan.toml")
    samples = [{"text": text, "finish": "stop", "tokens": 2} for text in ("one", "two")]
    group = {"page": page.id, "samples": samples}
    pair = {"pdf": pdf, "page": 1, "chosen": "one", "rejected": "two"}
    for name, row in (("groups", group), ("pairs", pair)):
        (folder / f"{name}.jsonl").write_text(3 * (json.dumps(row) + "\n"), encoding="utf-8")
    return pdf


def call(argv: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a verb; code 70 with the name of an exception that came through."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if argv == ["pairs"]:
                return _read_pairs()
            code = ocr_rl(list(argv))
        except BaseException as fault:  # noqa: BLE001 what is looked for
            return 70, out.getvalue(), f"{type(fault).__name__}: {fault}"
    return code, out.getvalue(), err.getvalue()


def _read_pairs() -> tuple[int, str, str]:
    """What `train` does first with dpo.preferences."""
    try:
        read_preferences(Path("pairs.jsonl"), load_dataset(Path("good")))
    except UserError as refusal:
        return 2, "", f"ocr-rl: {refusal}"
    return 0, "", ""


def reasons(file: str, out: str, err: str) -> list[str]:
    """What is said of a file or of its lines, as far as all verbs may be expected to say the same."""
    pattern = rf"{re.escape(Path(file).name)}((?::\d+)?: .*)"
    lines = [re.sub(r"( \(and \d+ more\))?; `ocr-rl pages check`.*|\.$", "", line) for line in (out + err).splitlines()]
    return [hit[1] for line in lines if (hit := re.search(pattern, line))]


def faults_of(kind: Kind) -> tuple[list[str], int]:
    """What is wrong with how the verbs took a file, and how many of them refused it."""
    faults: list[str] = []
    first: dict[str, str] = {}
    refused = 0
    for argv in kind.verbs:
        code, out, err = call(argv)
        verb = " ".join(argv[:2])
        if code not in (0, 1, 2) or "Traceback" in err:
            faults.append(f"{verb}: exit code {code}: {err.strip().splitlines()[-1:]}")
        sentences = [line for line in err.splitlines() if line.startswith("ocr-rl: ")]
        if code == 2 and len(sentences) != 1 and verb != "pages check":
            faults.append(f"{verb}: {len(sentences)} sentences")
        refused += code == 2
        own = [why for why in reasons(kind.file, out, err) if "own reference fails" not in why]
        if verb in ("pages import", "pages mine"):  # they leave out what others refuse
            if first and not set(own) & set(first.values()):
                faults.append(f"{verb}: not {set(first.values())}, but {own}")
        elif own:
            first[verb] = own[0]
    if len(set(first.values())) > 1:
        faults.append(f"not one sentence: {first}")
    return faults, refused


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, help="mutated files (default: each kind with each mutation, 154)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, bad, counts = Random(args.seed), 0, Counter[str]()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        of_name = kinds(prepare(Path()))
        originals = {kind: Path(of_name[kind].file).read_bytes() for kind in of_name}
        trials = list(islice(product(MUTATIONS, of_name), args.n))
        for change, kind in trials:
            path = Path(of_name[kind].file)
            path.write_bytes(MUTATIONS[change](originals[kind], rng))
            faults, refused = faults_of(of_name[kind])
            path.write_bytes(originals[kind])
            for folder in ("parts", "imported", "mined", "bench"):
                shutil.rmtree(folder, ignore_errors=True)
            for file in ("new.toml", "sheet.png"):
                Path(file).unlink(missing_ok=True)
            counts[f"{kind}: {'refused' if refused else 'read'}"] += 1
            bad += bool(faults)
            for fault in faults:
                print(f"{kind}, {change}: {fault}")
    print(f"{len(trials)} mutated texts: {dict(sorted(counts.items()))}; with a fault: {bad}")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
