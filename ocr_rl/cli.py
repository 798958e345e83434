"""`ocr-rl`: thin verbs. Imports stand inside functions, so that --help is quick and needs no torch.

Wrong input from outside is one sentence on stderr and exit code 2, never a traceback.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import select
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

from ocr_rl.contract import UserError
from ocr_rl.extras import way_out

MAX_PX = 8192  # as in ocr_rl.pages.raster
MAX_SCAN = 4.0  # as in a recipe's page sources
_NEW_FOLDER = "what it wrote is not whole: delete it, or give a new folder with --out"  # these verbs write over nothing


def main(argv: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a transcript may hold what the terminal cannot show
    try:
        try:
            return _main(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would fail once more when it ends
        return 141  # as of a program that SIGPIPE ended


def _reader_is_gone() -> bool:
    """Whether stdout goes to a pipe that nobody reads any more, as after `| head -1`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are told unasked
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _main(argv: Sequence[str] | None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and args.run is not _train:
            raise UserError("torchrun starts several processes, and only train shares its work: start this verb alone.")
        return args.run(args) or 0
    except UserError as error:
        print(f"ocr-rl: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (missing := way_out(error)) is None:
            raise
        print(f"ocr-rl: {missing}.", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None or error.strerror is None:  # no file of the user's
            raise
        print(f"ocr-rl: {error.filename}: cannot be read or written ({error.strerror}).", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"ocr-rl: interrupted; {args.again}", file=sys.stderr)
        return 130


def _train(args: argparse.Namespace) -> None:
    from ocr_rl.config import load_recipe
    from ocr_rl.learn import ranks
    from ocr_rl.train import follow, train

    recipe = load_recipe(args.recipe, args.set)
    out = args.out or Path("runs") / Path(args.recipe).stem
    with ranks.group() as first:
        if not first:
            return follow(recipe)
        trained = train(recipe, out, go_on=args.resume, until=args.until)
    print(f"policy: {trained}")
    _show(_reports(out))


def _reports(run: Path) -> list[Path]:
    return sorted((run / "report").glob("*/report.md"))


def _show(reports: Sequence[Path]) -> None:
    for report in reports:
        print(report.read_text(encoding="utf-8"))
        print(f"with pages side by side: {report.with_suffix('.html')}\n")


def _study(args: argparse.Namespace) -> None:
    from ocr_rl.study.plan import load_study
    from ocr_rl.study.report import write_study
    from ocr_rl.study.results import read_results
    from ocr_rl.study.run import longest_px_of, read_environment, run_study

    study = load_study(args.study)
    run_study(study, args.out)
    out = args.out / "report"
    written = write_study(
        read_results(study, args.out), out, env=read_environment(args.out), longest_px=longest_px_of(study)
    )
    print(written.read_text(encoding="utf-8"))
    print(f"with pages side by side: {out / 'report.html'}")


def _report(args: argparse.Namespace) -> None:
    from ocr_rl.evaluate.run_report import report_runs

    _show(report_runs(args.runs, args.out))


def _soup(args: argparse.Namespace) -> int:
    from ocr_rl.evaluate.soup import soup

    whole, parts = soup(args.runs, args.out, args.data, engine=args.engine)
    for folder, rate in parts.items():
        print(f"{rate:.2%}  {folder}")
    best = max(parts.values())
    better = whole > best
    said = f"written to {args.out}" if better else "nothing is written"
    print(f"the average passes {whole:.2%} of the tests, the best of its parts {best:.2%}: {said}")
    return 0 if better else 1


def _sample(args: argparse.Namespace) -> None:
    from ocr_rl.evaluate.samples import sample_pages

    pages = sample_pages(
        args.data,
        args.out,
        model=args.model,
        engine=args.engine,
        pages=args.pages,
        n=args.n,
        temperature=args.temperature,
        seed=args.seed,
    )
    print(f"{args.n} samples of each of {pages} pages in {args.out}")


def _demo(args: argparse.Namespace) -> None:
    from ocr_rl.config import load_recipe
    from ocr_rl.train import train

    trained = train(load_recipe("nano_grpo", [f"seed={args.seed}", *(args.set or [])]), args.out, go_on=args.resume)
    _show(_reports(args.out))
    print(f"the trained policy: {trained}")


def _transcribe(args: argparse.Namespace) -> int:
    from ocr_rl.evaluate.transcribe_files import transcribe_files

    refused = transcribe_files(
        args.pdfs, model=args.model, engine=args.engine, out=args.out, longest_px=args.longest_px
    )
    for error in refused:
        print(f"refused: {error}", file=sys.stderr)
    # Of many files the good ones are read; files of which none can be opened are wrong input.
    unread = {error.pdf for error in refused if error.number is None}
    return 2 if unread >= set(args.pdfs) else 1 if refused else 0


def _pages_synth(args: argparse.Namespace) -> None:
    from ocr_rl.pages.synth.make import Looks, write_dataset

    rate = write_dataset(
        args.kind,
        n=args.n,
        seed=args.seed,
        out=args.out,
        pages_per_document=args.pages_per_document,
        look=Looks(fonts=args.fonts, words=args.words, scan=args.scan),
        front_matter=args.front_matter,
        workers=args.workers,
    )
    print(f"{args.n} pages in {args.out}, {60 * rate:,.0f} a minute")


def _pages_check(args: argparse.Namespace) -> int:
    from ocr_rl.pages.dataset import check_dataset, load_dataset

    faults = check_dataset(args.dir)
    for fault in faults:
        print(fault)
    if faults:
        print(f"{len(faults)} faults", file=sys.stderr)
        return 2
    pages = load_dataset(args.dir)
    print(f"{len(pages)} pages, {sum(len(page.checks) for page in pages)} tests, no fault")
    return 0


def _pages_mine(args: argparse.Namespace) -> None:
    from ocr_rl.pages.mined import import_folder, mine_folder

    harvest = (import_folder if args.take_over else mine_folder)(args.dir, args.out, args.seed)
    for line in harvest.left_out:
        print(f"left out: {line}", file=sys.stderr)
    print(
        f"{harvest.pages} pages, {harvest.tests} tests in {args.out}; left out {len(harvest.left_out)} (left_out.txt)"
    )


def _pages_overlap(args: argparse.Namespace) -> int:
    from ocr_rl.pages.dataset import load_dataset
    from ocr_rl.pages.overlap import overlaps

    sets = [(folder, load_dataset(folder)) for folder in (args.dir, *args.others)]
    leaks = False
    for (name, pages), (other, others) in combinations(sets, 2):
        found = overlaps(pages, others)
        for overlap in found:
            print(overlap)
        print(f"{len({overlap.page.id for overlap in found})} of {len(pages)} pages of {name} stand in {other} too")
        leaks = leaks or bool(found)
    return 1 if leaks else 0


def _pages_split(args: argparse.Namespace) -> None:
    from ocr_rl.pages.split import write_split

    for name, pages in write_split(args.dir, dict(args.part), args.seed, args.out).items():
        print(f"{pages} pages in {args.out / name}")


def _part(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    if not re.fullmatch(r"[\w-]+", name):
        raise argparse.ArgumentTypeError("say NAME=SHARE, as in train=0.9")
    try:
        found = float(share)
    except ValueError:
        raise argparse.ArgumentTypeError("say NAME=SHARE, as in train=0.9") from None
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError("a share lies between 0 and 1")
    return name, found


def _pages_show(args: argparse.Namespace) -> int:
    from random import Random

    from ocr_rl.pages.dataset import load_dataset
    from ocr_rl.pages.export import contact_sheet

    pages = load_dataset(args.dir)
    chosen = Random(args.seed).sample(pages, min(args.n, len(pages)))
    refused = contact_sheet(chosen, args.out, args.cell_px)
    for error in refused:
        print(f"refused: {error}", file=sys.stderr)
    print(f"{len(chosen) - len(refused)} of {len(pages)} pages on {args.out}")
    return 1 if refused else 0


def _pages_render(args: argparse.Namespace) -> int:
    from ocr_rl.pages.export import render_folder

    written, refused = render_folder(args.pdfs, args.out, args.longest_px, args.workers)
    for error in refused:
        print(f"refused: {error}", file=sys.stderr)
    print(f"{len(written)} pages written to {args.out}, {len(refused)} refused")
    unread = {error.pdf for error in refused if error.number is None}
    return 2 if unread >= set(args.pdfs) else 1 if refused else 0  # as _transcribe does


def _score(args: argparse.Namespace) -> None:
    from ocr_rl.evaluate.score import score_file

    for line in score_file(args.file, args.data, args.reward, page=args.page):
        print(line)


def _rewards_audit(args: argparse.Namespace) -> int:
    from ocr_rl.config import load_recipe
    from ocr_rl.evaluate.audit_report import audit_recipe

    recipe = load_recipe(args.recipe, args.set)
    text, beaten = audit_recipe(recipe, args.data, args.samples, args.out, n=args.pages, seed=args.seed)
    print(text)
    return 1 if beaten else 0


def _rewards_new(args: argparse.Namespace) -> None:
    from ocr_rl.evaluate.reward_template import new_reward

    print(new_reward(args.name, args.out))


def _bench(args: argparse.Namespace) -> None:
    from ocr_rl.evaluate.bench import bench

    report = bench(
        args.data,
        out=args.out,
        candidates=args.candidate,
        engines=args.engine,
        models=args.model,
        reading=args.reading,
        repeats=args.repeats,
        temperature=args.temperature,
        sampler=args.sampler,
        missing=args.missing,
        cluster=args.cluster,
        workers=args.workers,
    )
    print(report)


def _plugins(args: argparse.Namespace) -> None:
    from functools import partial

    from ocr_rl.pages.workers import Refusal, guarded
    from ocr_rl.plugins import described, names

    for group in ("ocr_rl.rewards", "ocr_rl.engines"):
        known = list(dict.fromkeys(names(group)))
        if known:
            print(group)
        # Describing one means to load it: in a worker, so that one that hangs or leaves does not take the others along.
        for name, found in guarded(partial(described, group), known, workers=1, timeout_s=60):
            if isinstance(found, Refusal):
                print(f"  {name} (?)  cannot be loaded: {found}")
                continue
            for plugin in found:
                options = ", ".join(f"{name}={default}" for name, default in plugin.options.items())
                print(f"  {plugin.name} ({plugin.version})  {plugin.help}" + (f"  [{options}]" if options else ""))


def _doctor(args: argparse.Namespace) -> int:
    from ocr_rl.doctor import GAP_LIMIT, examine, parity

    findings = examine()
    for finding in findings:
        print(f"{'!!' if finding.remedy else 'ok'}  {finding.name}: {finding.value}")
        if finding.remedy:
            print(f"      -> {finding.remedy}")
    if args.parity is None:
        return 1 if any(finding.remedy for finding in findings) else 0
    gap = parity(args.parity)
    good = gap.largest <= GAP_LIMIT
    print(
        f"{'ok' if good else '!!'}  parity: largest gap between sampler and learner {gap.largest:.1e} nats "
        f"(mean {gap.mean:.1e}) over {gap.tokens} tokens, limit {GAP_LIMIT:.0e}"
    )
    return 0 if good else 1


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """The type of an argument: a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if number < low or (high is not None and number > high):
            span = f"of at least {low}" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"must be a whole number {span}, got {text[:80]!r}")
        return number

    return parse


def _scan(text: str) -> float:
    try:
        strength = float(text)
    except ValueError:
        strength = -1.0
    if not 0 <= strength <= MAX_SCAN:  # also not a number
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {MAX_SCAN:g}, got {text[:80]!r}")
    return strength


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ocr-rl", description="Teach vision-language models to read documents.")
    parser.set_defaults(again="the same command begins from the start")  # what to do after Ctrl-C
    verbs = parser.add_subparsers(required=True, metavar="verb")

    train = verbs.add_parser("train", help="train as a recipe says (SFT, GRPO, DPO or best-of-N)")
    train.add_argument("recipe", help="a TOML file, or the name of a shipped recipe")
    train.add_argument("--set", action="append", metavar="KEY=VALUE", help="override a setting, e.g. optim.lr=1e-6")
    train.add_argument("--out", type=Path, help="run directory (default runs/<recipe>)")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train.add_argument("--until", type=int, metavar="STEP", help="stop there as if cut off: leaves a weaker policy")
    train.set_defaults(run=_train, again="the same command with --resume goes on")

    demo = verbs.add_parser("demo", help="GRPO on a new kind of page, before and after (minutes on two cores)")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"))
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--set", action="append", metavar="KEY=VALUE", help="override a setting of recipe nano_grpo")
    demo.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    demo.set_defaults(run=_demo, again="the same command with --resume goes on")

    study = verbs.add_parser("study", help="compare ways of learning on equal terms: arms, seeds, claims, one report")
    study.add_argument("study", help="a study file, or a shipped one: small, full")
    study.add_argument("--out", type=Path, default=Path("runs/study"), help="a rerun goes on with what lies there")
    study.set_defaults(run=_study)

    report = verbs.add_parser("report", help="one report over finished runs, from their evaluations")
    report.add_argument("runs", type=Path, nargs="+")
    report.add_argument("--out", type=Path, required=True, help="folder for report.html, .md and .json of each set")
    report.set_defaults(run=_report)
    soup = verbs.add_parser("soup", help="average policies; kept only if it reads better than the best of them")
    soup.add_argument("runs", type=Path, nargs="+", help="run directories (their last checkpoint) or model folders")
    soup.add_argument("--data", type=Path, required=True, help="dataset folder of validation pages")
    soup.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    soup.add_argument("--out", type=Path, required=True, help="folder for the averaged policy")
    soup.set_defaults(run=_soup)
    sample = verbs.add_parser("sample", help="a policy's samples of some pages, for score and rewards audit")
    sample.add_argument("data", type=Path)
    sample.add_argument("--model", default="nano", help="a folder or hub name (default: the embedded policy)")
    sample.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    sample.add_argument("--pages", type=_whole(1, 100_000), default=8)
    sample.add_argument("--n", type=_whole(1, 1024), default=8, help="samples of each page")
    sample.add_argument("--temperature", type=float, default=1.0)
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--out", type=Path, required=True, help="a JSONL file")
    sample.set_defaults(run=_sample)
    transcribe = verbs.add_parser("transcribe", help="PDFs to Markdown")
    transcribe.add_argument("pdfs", type=Path, nargs="+")
    transcribe.add_argument("--model", default="nano", help="a folder or hub name (default: the embedded policy)")
    transcribe.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    transcribe.add_argument("--out", type=Path, help="folder for <stem>.md files (default: print)")
    transcribe.add_argument("--longest-px", type=_whole(1, MAX_PX), help="longest side of the page image")
    transcribe.set_defaults(run=_transcribe)

    pages = verbs.add_parser("pages", help="make, check and draw pages").add_subparsers(required=True, metavar="what")
    synth = pages.add_parser("synth", help="typeset pages with references and unit tests")
    synth.add_argument("--n", type=_whole(1), default=100)
    synth.add_argument("--seed", type=int, default=0)
    synth.add_argument("--kind", default="report")
    synth.add_argument("--pages-per-document", type=_whole(1), default=1)
    synth.add_argument("--fonts", choices=("seen", "unseen"), help="typefaces that data/nano learnt from, or did not")
    synth.add_argument("--words", choices=("invented", "latin"), help="other words than the kind's own")
    synth.add_argument("--scan", type=_scan, help="how bad a scanner the pages went through; 0: none")
    synth.add_argument("--front-matter", action="store_true", help="references begin with olmOCR's YAML block")
    synth.add_argument("--workers", type=_whole(1), default=2)
    synth.add_argument("--out", type=Path, required=True)
    synth.set_defaults(run=_pages_synth, again=_NEW_FOLDER)
    check = pages.add_parser("check", help="validate a dataset folder, one line per fault")
    check.add_argument("dir", type=Path)
    check.set_defaults(run=_pages_check)
    for name, told in (("mine", "from text layers and transcripts"), ("import", "from olmOCR's public layouts")):
        mine = pages.add_parser(name, help=f"people's own PDFs as pages with tests, {told}")
        mine.add_argument("dir", type=Path)
        mine.add_argument("--out", type=Path, required=True)
        mine.add_argument("--seed", type=int, default=0)
        mine.set_defaults(run=_pages_mine, take_over=name == "import", again=_NEW_FOLDER)
    split = pages.add_parser("split", help="a dataset for each part, dealt out by document")
    split.add_argument("dir", type=Path)
    split.add_argument("--part", type=_part, action="append", required=True, metavar="NAME=SHARE")
    split.add_argument("--seed", type=int, default=0)
    split.add_argument("--out", type=Path, required=True)
    split.set_defaults(run=_pages_split, again=_NEW_FOLDER)
    overlap = pages.add_parser("overlap", help="documents and text that page sets share: training, test, benchmark")
    overlap.add_argument("dir", type=Path)
    overlap.add_argument("others", type=Path, nargs="+")
    overlap.set_defaults(run=_pages_overlap)
    show = pages.add_parser("show", help="a contact sheet of some pages of a dataset")
    show.add_argument("dir", type=Path)
    show.add_argument("--n", type=_whole(1, 96), default=24)
    show.add_argument("--seed", type=int, default=0)
    show.add_argument("--cell-px", type=_whole(64, 1024), default=420, help="side of the square of a page")
    show.add_argument("--out", type=Path, default=Path("pages.png"))
    show.set_defaults(run=_pages_show)
    render = pages.add_parser("render", help="pages as PNG images")
    render.add_argument("pdfs", type=Path, nargs="+")
    render.add_argument("--out", type=Path, required=True)
    render.add_argument("--longest-px", type=_whole(1, MAX_PX), default=1288)
    render.add_argument("--workers", type=_whole(1), default=2)
    render.set_defaults(run=_pages_render)

    score = verbs.add_parser("score", help="score a Markdown transcript of a page, or saved groups")
    score.add_argument("file", type=Path, help="name_pg2.md, or a run's groups/*.jsonl or faults/*.jsonl")
    score.add_argument("--data", type=Path, required=True, help="dataset folder the page is in")
    score.add_argument("--page", help="PDF and page, as in invoice.pdf:2 (default: by the file's name)")
    score.add_argument("--reward", action="append", help="a plug-in or my_file.py:MyReward (default: all that apply)")
    score.set_defaults(run=_score)

    rewards = verbs.add_parser("rewards", help="write a reward, try to cheat rewards").add_subparsers(
        required=True, metavar="what"
    )
    audit = rewards.add_parser("audit", help="attack a recipe's rewards; exit code 1 if a cheat beats honest reading")
    audit.add_argument("recipe", help="a TOML file, or the name of a shipped recipe")
    audit.add_argument("--data", type=Path, required=True, help="dataset folder; its references make the attacks")
    audit.add_argument("--samples", type=Path, help="a run directory or groups/*.jsonl file: real transcripts")
    audit.add_argument("--set", action="append", metavar="KEY=VALUE", help="override a setting of the recipe")
    audit.add_argument("--pages", type=_whole(1), default=40)
    audit.add_argument("--seed", type=int, default=0)
    audit.add_argument("--out", type=Path, help="folder for audit.md and audit.json")
    audit.set_defaults(run=_rewards_audit)
    new = rewards.add_parser("new", help="write a small package with a reward and a test that passes")
    new.add_argument("name", help="as in my_reward")
    new.add_argument("--out", type=Path, default=Path(), help="folder to write it in (default: here)")
    new.set_defaults(run=_rewards_new, again=_NEW_FOLDER)

    bench = verbs.add_parser("bench", help="unit tests of folders, engines and policies, with a report")
    bench.add_argument("data", type=Path, help="an olmOCR-Bench folder: pdfs/ and *.jsonl")
    several = {"action": "extend", "nargs": "+", "default": []}
    bench.add_argument("--candidate", **several, metavar="FOLDER", help="Markdown files, <pdf>_pg<N>_repeat<M>.md")
    bench.add_argument("--engine", **several, metavar="NAME", help="an OCR engine, as in tesseract,languages=eng+deu")
    bench.add_argument("--model", **several, metavar="MODEL", help="a policy: nano, a folder or hub name; NAME=FOLDER")
    bench.add_argument("--reading", choices=("compatible", "strict"), default="compatible")
    bench.add_argument("--repeats", type=int, default=1, help="how often a policy is asked (engines: once)")
    bench.add_argument("--temperature", type=float, help="of a policy's first attempt (default: 0, repeated: 0.7)")
    bench.add_argument("--sampler", choices=("vllm", "transformers"), default="vllm", help="what runs the policies")
    bench.add_argument("--missing", choices=("error", "fail"), default="error", help="pages that a folder lacks")
    bench.add_argument("--cluster", choices=("page", "document"), default="page", help="what intervals draw")
    bench.add_argument("--workers", type=_whole(1), default=2, help="processes for engines and grading")
    bench.add_argument("--out", type=Path, default=Path("runs/bench"), help="a rerun goes on with what lies there")
    bench.set_defaults(run=_bench, again="the same command goes on")

    plugins = verbs.add_parser("plugins", help="installed plug-ins with version, options and one-line help")
    plugins.set_defaults(run=_plugins)

    doctor = verbs.add_parser("doctor", help="what is installed, what will be used, what is wrong")
    doctor.add_argument("--parity", metavar="MODEL", help="measure the sampler/learner gap of a model")
    doctor.set_defaults(run=_doctor)
    return parser


if __name__ == "__main__":
    sys.exit(main())
