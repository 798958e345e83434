"""Options that several verbs share, each said once, and what a verb says when it is interrupted.

An option of one verb alone stands in that verb's signature.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, BadParameter, Option

Backend = Literal["vllm", "transformers"]  # what writes a policy's samples
BACKEND_HELP = "what runs the policy: vllm, or transformers where vLLM is not installed"
MAX_PX = 8192  # as in ocr_rl.pages.raster
MAX_SCAN = 4.0  # as in a recipe's page sources


def whole(help: str, low: int, high: int | None = None, *names: str, metavar: str = "N") -> Any:
    """An option whose value is a whole number from `low` to `high`."""
    span = f"of at least {low}" if high is None else f"from {low} to {high}"

    def parse(text: str | int) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if number < low or (high is not None and number > high):
            raise BadParameter(f"must be a whole number {span}, got {str(text)[:80]!r}")
        return number

    return Option(*names, parser=parse, metavar=metavar, help=f"{help}, {span.removeprefix('of ')}")


RecipeName = Annotated[
    str, Argument(metavar="RECIPE", help="a TOML file, or the name of a shipped recipe (`ocr-rl recipes`)")
]
Settings = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="override a setting of the recipe, as in optim.lr=1e-6")
]
Resume = Annotated[bool, Option("--resume", help="go on from the last checkpoint")]
Seed = Annotated[int, Option(help="a number; the same one gives the same result")]
Model = Annotated[str, Option(help="a model's folder or hub name; nano is the embedded policy")]
Preset = Annotated[
    str | None,
    Option(metavar="NAME", help="ask as this known model is asked, as in allenai/olmOCR-2-7B-1025 (docs/models.md)"),
]
Instruction = Annotated[
    str | None, Option(metavar="TEXT", help="what the policy is asked (default: what the model's folder or name says)")
]
BackendChoice = Annotated[Backend, Option("--backend", help=BACKEND_HELP)]
EndpointUrl = Annotated[
    str | None, Option("--endpoint", metavar="URL", help="an OpenAI-compatible server, as http://127.0.0.1:8000/v1")
]
KeyName = Annotated[
    str,
    Option("--key-env", metavar="NAME", help="the environment variable that holds the server's key"),
]
InFlight = Annotated[int, whole("pages on the way to the server at once", 1, 4096)]
Deadline = Annotated[
    float, Option(min=1.0, max=86_400.0, metavar="SECONDS", help="for one page at the server, with all it is asked")
]
Extra = Annotated[
    list[str] | None, Option("--extra", metavar="NAME=VALUE", help="a further field of every question, as top_k=1")
]
Dataset = Annotated[Path, Argument(metavar="DATA", help="a dataset folder: pdfs/ and *.jsonl")]
Documents = Annotated[
    list[Path],
    Argument(
        metavar="FILE",
        help="PDF, PNG, JPEG, WebP and TIFF files, folders of them, lists of them (@list or .txt)",
    ),
]
Workers = Annotated[int, whole("processes side by side", 1)]
NewDataset = Annotated[Path, Option("--out", help="folder of the new dataset; nothing is written over")]

# After Ctrl-C: the end of a verb's help, and what it says then.
INTERRUPTED = "If interrupted: "
FROM_THE_START = "the same command begins from the start"
RESUMES = f"{INTERRUPTED}the same command with --resume goes on"
GOES_ON = f"{INTERRUPTED}the same command goes on"
NEW_FOLDER = f"{INTERRUPTED}what it wrote is not whole: delete it, or give a new folder with --out"
