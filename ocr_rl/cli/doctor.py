"""Verbs about the installation: plugins, doctor."""

from __future__ import annotations

from typing import Annotated, Literal

from typer import Option, Typer

from ocr_rl.cli.refusals import require_model
from ocr_rl.contract import UserError

app = Typer()


@app.command()
def plugins() -> None:
    """Installed plug-ins with version, options and one-line help."""
    from functools import partial

    from ocr_rl.pages.workers import Refusal, guarded
    from ocr_rl.plugins import described, names

    for group in ("ocr_rl.rewards", "ocr_rl.engines"):
        installed = list(dict.fromkeys(names(group)))
        if installed:
            print(group)
        # Describing one means to load it: in a worker, so that one that hangs or leaves does not take the others along.
        for name, infos in guarded(partial(described, group), installed, workers=1, timeout_s=60):
            if isinstance(infos, Refusal):
                print(f"  {name} (?)  cannot be loaded: {infos}")
                continue
            for plugin in infos:
                options = ", ".join(f"{name}={default}" for name, default in plugin.options.items())
                print(f"  {plugin.name} ({plugin.version})  {plugin.help}" + (f"  [{options}]" if options else ""))


@app.command()
def doctor(
    parity: Annotated[
        str | None, Option(metavar="MODEL", help="measure the sampler/learner gap of a model too (folder or hub name)")
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "autocast"] | None,
        Option(help="of the parity: as the policy is to train; by default the dtype in which the model is used"),
    ] = None,
    engine: Annotated[
        Literal["vllm", "transformers"], Option(help="the sampler of the parity; vLLM runs in this process")
    ] = "vllm",
) -> int:
    """What is installed, what will be used, what is wrong."""
    if parity is not None:
        require_model(parity, "--parity ")
    elif dtype is not None:
        raise UserError("--dtype is of the parity: name a model (--parity MODEL), or leave it out.")

    from ocr_rl.doctor import examine
    from ocr_rl.doctor import parity as measured_gap

    findings = examine()
    for finding in findings:
        print(f"{'!!' if finding.remedy else 'ok'}  {finding.name}: {finding.value}")
        if finding.remedy:
            print(f"      -> {finding.remedy}")
    if parity is None:
        return 1 if any(finding.remedy for finding in findings) else 0
    gap = measured_gap(parity, dtype=dtype, engine=engine)
    print(f"{'ok' if gap.holds else '!!'}  {gap.to_text()}")
    print(f"    {gap.sight()}")
    return 0 if gap.holds else 1
