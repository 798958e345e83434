"""The verb serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from ocr_rl.cli.options import FROM_THE_START, Deadline, EndpointUrl, KeyName, Preset, whole
from ocr_rl.cli.refusals import require_backend, require_dataset, require_model, require_preset
from ocr_rl.contract import UserError

app = Typer()


@app.command(epilog=FROM_THE_START)
def serve(
    policy: Annotated[
        str | None, Argument(metavar="RUN_OR_MODEL", help="a run's folder, a model's folder or hub name, or nano")
    ] = None,
    port: Annotated[int, whole("of vLLM's server", 1, 65535)] = 8000,
    host: Annotated[str, Option(help="the address that it listens at; others than 127.0.0.1 let other machines in")] = (
        "127.0.0.1"
    ),
    preset: Preset = None,
    web: Annotated[bool, Option("--web", help="a page beside it: drop a PDF, see page and transcript")] = False,
    web_port: Annotated[int, whole("of that page, on this machine alone", 1, 65535)] = 8080,
    data: Annotated[
        Path | None, Option(metavar="DATA", help="a dataset whose tests are shown beside pages of its PDFs")
    ] = None,
    endpoint: EndpointUrl = None,
    key_env: KeyName = "OPENAI_API_KEY",
    deadline: Deadline = 120.0,
) -> None:
    """vLLM's server for a policy, and a page to show it."""
    if (policy is None) == (endpoint is None):
        raise UserError("serve: name a run or a model, or with --endpoint a server that is there.")
    if endpoint is not None and not web:
        raise UserError("serve: --endpoint is for --web, the page that shows what the server reads.")
    require_preset(preset)
    if data is not None:
        require_dataset(data, "--data ")

    from ocr_rl.transcription.show import show_endpoint, show_policy

    if policy is None:
        assert endpoint is not None
        show_endpoint(endpoint, preset=preset, key_name=key_env, web_port=web_port, data=data, deadline_s=deadline)
        return
    if not (Path(policy) / "ckpt").is_dir():
        require_model(policy)
    require_backend("vllm")
    show_policy(
        policy,
        preset=preset,
        host=host,
        port=port,
        web_port=web_port if web else None,
        data=data,
        deadline_s=deadline,
    )
