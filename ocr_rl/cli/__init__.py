"""`ocr-rl`: thin verbs, one file a group. Imports stand inside the verbs, so that --help is quick and needs no torch.

Wrong input from outside is one sentence on stderr and exit code 2, never a traceback.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.main import get_command

from ocr_rl.cli import bench, doctor, look, pages, plan, recipes, rewards, serve, train, transcribe
from ocr_rl.cli.options import FROM_THE_START, INTERRUPTED
from ocr_rl.contract import NoWorker, UserError
from ocr_rl.extras import way_out

NAME = "ocr-rl"
_RENAMED = {"--engine": "--backend", "--sampler": "--backend"}

app = typer.Typer(
    help="Teach vision-language models to read documents.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(train.app)
app.add_typer(look.app)
app.add_typer(plan.app)
app.add_typer(transcribe.app)
app.add_typer(serve.app)
app.add_typer(bench.app)
app.add_typer(recipes.app, name="recipes")
app.add_typer(pages.app, name="pages")
app.add_typer(rewards.score_app)
app.add_typer(rewards.app, name="rewards")
app.add_typer(doctor.app)


def main(argv: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a transcript may hold what the terminal cannot show
    try:
        try:
            return _main(list(sys.argv[1:] if argv is None else argv))
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


def _main(argv: list[str]) -> int:
    root = get_command(app)
    verb = _verb(root, argv)
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and verb.name != "train":
            raise UserError("torchrun starts several processes, and only train shares its work: start this verb alone.")
        with root.make_context(NAME, argv) as context:
            return root.invoke(context) or 0
    except typer.Exit as end:  # of --help
        return end.exit_code
    except (UserError, NoWorker) as error:
        return _refused(str(error))
    except typer.TyperException as error:
        return _refused(_usage(error))
    except ModuleNotFoundError as error:
        if (missing := way_out(error)) is None:
            raise
        return _refused(f"{missing}.")
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None or error.strerror is None:  # no file of the user's
            raise
        return _refused(f"{error.filename}: cannot be read or written ({error.strerror}).")
    except KeyboardInterrupt:
        again = (verb.epilog or FROM_THE_START).removeprefix(INTERRUPTED)
        print(f"{NAME}: interrupted; {again}", file=sys.stderr)
        return 130


def _refused(sentence: str) -> int:
    print(f"{NAME}: {sentence}", file=sys.stderr)
    return 2


def _verb(command: Any, argv: Sequence[str]) -> Any:
    """The verb that the first words name; groups have no options with values."""
    for word in argv:
        if word not in (inside := getattr(command, "commands", {})):
            break
        command = inside[word]
    return command


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the words of a command, and where to read on."""
    context: Any = getattr(error, "ctx", None)
    if context is None:
        return error.format_message()
    old = getattr(error, "option_name", "")
    here = {option for parameter in context.command.params for option in parameter.opts}
    if _RENAMED.get(old) in here - {old}:
        return f"{old} is now {_RENAMED[old]}, as in {context.command_path} {_RENAMED[old]} transformers."
    sentence = error.format_message().replace("Value error, ", "").rstrip(".?")
    return f"{sentence}; see {context.command_path} --help."
