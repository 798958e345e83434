"""What a verb refuses at once. A check reads names and folders alone: no torch, no PDF, no weights.

The layers below look deeper, and say the rest once they are loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocr_rl.contract import UserError
from ocr_rl.outputs import refuse_taken
from ocr_rl.text.suggest import did_you_mean

if TYPE_CHECKING:
    from ocr_rl.pages.raster import PageError


def require_dataset(folder: Path, of: str = "") -> None:
    """UserError where the folder cannot be a dataset; `of` says who names it."""
    if not folder.is_dir():
        raise UserError(f"{of}{folder}: there is no such folder; give a dataset, with its PDFs below pdfs/.")
    if not (folder / "pdfs").is_dir():
        raise UserError(f"{of}{folder}: is no dataset, there is no folder {folder / 'pdfs'} with its PDFs.")


def require_file(path: Path, of: str = "") -> None:
    if not path.exists():
        raise UserError(f"{of}{path}: there is no such file.")


def require_place(out: Path, option: str = "--out") -> None:
    """UserError where no folder `out` can be made, or written into."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file, and a folder would be written there; give another {option}.")
    _require_room(out, out, option)


def _require_room(out: Path, folder: Path, option: str = "--out") -> None:
    """UserError, which names `out`, where nothing can be written into the folder."""
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise UserError(f"{out}: cannot be written ({above} is a file); give another {option}.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{out}: cannot be written (Permission denied); give another {option}.")


def require_new(out: Path, option: str = "--out") -> None:
    if os.path.lexists(out):  # also a link that leads nowhere
        raise UserError(f"{out}: is there already; give another {option}.")
    require_place(out, option)


def require_no_tests(out: Path, data: Path, option: str) -> None:
    """UserError for a file that the dataset would take for its own tests from then on."""
    if out.suffix.lower() == ".jsonl" and out.resolve().parent == data.resolve():
        raise UserError(f"{out}: would be read as tests of {data}, as every *.jsonl there; give another {option}.")


def require_outside(out: Path, data: Path, option: str) -> None:
    """UserError for a folder whose pages the dataset would take for its own from then on."""
    if (data / "pdfs").resolve() in out.resolve().parents:
        raise UserError(f"{out}: would be part of {data}, as all below its pdfs; give another {option}.")


def require_file_place(out: Path) -> None:
    """UserError where no file `out` can be written, or where one stands that ocr-rl did not write."""
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file with --out.")
    refuse_taken([out])
    _require_room(out, out.parent)


def require_table_place(out: Path) -> None:
    """The same of a parquet file, whose name says so: nobody would load it under another."""
    require_file_place(out)
    if out.suffix.lower() != ".parquet":
        raise UserError(f"{out}: a table is a .parquet file; give it such a name with --out.")


def require_model(model: str, of: str = "") -> None:
    """UserError for what cannot be a policy. A word, or two with a slash between, may be a hub name."""
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"{of}{model}: is no model's folder, it holds no config.json.")
    elif folder.exists() or folder.is_absolute() or model.startswith((".", "~")) or len(folder.parts) > 2:
        raise UserError(f"{of}{model}: there is no such folder; name a model's folder, a hub name, or nano.")


def require_preset(preset: str | None, of: str = "--preset ") -> None:
    """UserError for a preset that is no known model."""
    from ocr_rl.models import known

    if preset is not None:
        known.require_preset(preset, of)


def require_temperature(temperature: float) -> None:
    if temperature != 0 and not 0.01 <= temperature <= 10:  # also not a number
        raise UserError(f"--temperature must be 0 (greedy) or from 0.01 to 10, got {temperature:g}.")


def require_backend(backend: str) -> None:
    """UserError where vLLM is asked for and missing. Without torch too, the missing extra is named later."""
    if backend == "vllm" and find_spec("vllm") is None and find_spec("torch") is not None:
        raise UserError(
            "--backend vllm: vLLM is not installed; install ocr-rl[vllm] (CUDA) or ocr-rl[cpu], "
            "or give --backend transformers."
        )


def require_plugin(group: str, spec: str) -> None:
    """UserError for a plug-in that is not installed, or whose file is missing; none is loaded."""
    from ocr_rl.plugins import load, names

    place, colon, _ = spec.rpartition(":")
    if colon and place.endswith(".py"):
        require_file(Path(place))
    elif not colon and spec not in names(group):
        load(group, spec)  # says which there are


def require_kind(kind: str, of: str = "") -> None:
    """UserError for a kind of page that cannot be typeset; where typesetting is not installed, that is said later."""
    try:
        from ocr_rl.pages.synth.make import ALL_KINDS
    except ModuleNotFoundError:
        return
    if kind not in ALL_KINDS:
        raise UserError(f"{of}there is no kind {kind!r} of synthetic page{did_you_mean(kind, ALL_KINDS)}.")


def require_inputs(settings: Mapping[str, Any]) -> None:
    """UserError for folders, models and rewards that a recipe (or a study) names and that are not there."""
    for key, value in leaves(settings):
        match key.split("."):
            case [*_, "dir"] if value:
                require_dataset(Path(value), f"{key}: ")
            case [*_, "preferences"] if value:
                require_file(Path(value), f"{key}: ")
            case [*_, "policy", "preset"] if value:
                require_preset(value, f"{key}: ")
            case [*_, "policy", "path" | "reference"] if value:
                require_model(value, f"{key}: ")
            case [*_, "rewards" | "gates", _, "name"]:
                require_plugin("ocr_rl.rewards", value)
            case [*_, "synth"]:
                require_kind(value, f"{key}: ")


def leaves(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """("grpo.pages.dir", value) of every value in nested mappings and lists."""
    inside = settings.items() if isinstance(settings, Mapping) else enumerate(settings)
    for name, value in inside:
        here = f"{key}.{name}" if key else str(name)
        if isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str)):
            yield from leaves(value, here)
        else:
            yield here, value


def tell_refused(pages: Sequence[PageError]) -> None:
    for error in pages:
        print(f"refused: {error}", file=sys.stderr)


def tell_left_out(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"left out: {line}", file=sys.stderr)


def exit_code(refused: Sequence[PageError], pdfs: Sequence[Path]) -> int:
    """Of many files the good ones are read; files of which none can be opened are wrong input."""
    unread = {error.pdf for error in refused if error.number is None}
    return 2 if unread >= set(pdfs) else 1 if refused else 0
