"""`ocr-rl serve` as a whole: a policy's server, how to ask it, and the page that shows it, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from ocr_rl.contract import UserError
from ocr_rl.evaluate.readers import Asking, AtEndpoint, at_endpoint
from ocr_rl.evaluate.soup import policy_of
from ocr_rl.models.known import read_settings
from ocr_rl.transcription.serve import Served, command, curl, running


def open_served(policy: str, preset: str | None, room: Path) -> Served:
    """The policy of a run's last checkpoint, of a folder or of a hub name. UserError for what is none.

    `room`: an empty folder, for what vLLM reads in place of a folder that it does not know.
    """
    from ocr_rl.models.load import has_gpu, load_family, model_folder, use_dtype

    folder = str(policy_of(Path(policy))) if Path(policy).is_dir() else model_folder(policy)
    name = _name(policy)
    settings = read_settings(folder if Path(policy).is_dir() or policy == "nano" else policy, preset)
    family = load_family(folder)
    options = {"enable_chunked_prefill": has_gpu(), **family.engine_options(on_gpu=has_gpu())}
    return Served(
        folder=family.engine_folder(folder, room),
        name=name,
        settings=settings,
        dtype=use_dtype(folder),
        on_gpu=has_gpu(),
        in_parts=options["enable_chunked_prefill"],
        template=family.template,
    )


def _name(policy: str) -> str:
    """What the server calls it: the hub's name, or the folder's with that of its run."""
    path = Path(policy)
    if not path.is_dir():
        return policy
    parts = path.resolve().parts
    return parts[parts.index("ckpt") - 1] if "ckpt" in parts[1:] else parts[-1]


def show_policy(
    policy: str,
    *,
    preset: str | None,
    host: str,
    port: int,
    web_port: int | None,
    data: Path | None,
    deadline_s: float,
) -> None:
    """Start the server, say how it is asked, and stay until it ends or Ctrl-C comes."""
    with TemporaryDirectory(prefix="ocr-rl-served-") as room:
        served = open_served(policy, preset, Path(room))
        print(f"starting {served.name} …", flush=True)
        with running(command(served, host=host, port=port), host=host, port=port) as (url, log, process):
            print(f"{served.name} answers at {url} (its words: {log}). Ask it:\n")
            print(f"  ocr-rl transcribe FILES --endpoint {url} --out text\n")
            print(f"  {curl(url, served.name, served.settings)}\n", flush=True)
            if web_port is None:
                process.wait()
            else:
                asking = Asking(preset=preset)
                show_page(at_endpoint(url, model=served.name, asking=asking, deadline_s=deadline_s), web_port, data)
    raise UserError(f"serve: the server ended; its words are in {log}.")


def show_endpoint(
    url: str, *, preset: str | None, key_name: str, web_port: int, data: Path | None, deadline_s: float
) -> None:
    """The page for a server that is there."""
    reader = at_endpoint(url, model=None, key_name=key_name, asking=Asking(preset=preset), deadline_s=deadline_s)
    show_page(reader, web_port, data)


def show_page(reader: AtEndpoint, port: int, data: Path | None) -> None:
    from ocr_rl.transcription.web import View

    view = View(reader, port=port, data=data)
    print(f"The page: http://127.0.0.1:{view.port}/ (this machine alone; Ctrl-C ends it)", flush=True)
    view.serve()
