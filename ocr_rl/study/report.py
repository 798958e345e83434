"""A study's results -> study.md with its plots, one self-contained report.html, and the raw rows as JSONL.

    OUT/report/ study.md · study.png · study_<claim>.png · report.html · rows.jsonl · curves.jsonl · study_rows.tar.xz

Everything shown is computed from the rows; no figure is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ocr_rl import outputs
from ocr_rl.evaluate import floors
from ocr_rl.evaluate.report import Section, write_report
from ocr_rl.evaluate.results import PageResult, to_json
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.pages.images import image_of
from ocr_rl.study.claims import CLAIMS
from ocr_rl.study.critic import CRITIC
from ocr_rl.study.findings import MATTERS, PART, Finding
from ocr_rl.study.folder import Folder, choose, longest_px_of, read_environment
from ocr_rl.study.jobs import main_jobs
from ocr_rl.study.plan import START, Study
from ocr_rl.study.plots import claim_plot, main_plot
from ocr_rl.study.results import Results, read_results
from ocr_rl.study.rlhf import LEARNED_REWARD
from ocr_rl.study.rows import NAME as ROWS
from ocr_rl.study.rows import bind_rows, pack
from ocr_rl.study.shortfalls import shortfalls
from ocr_rl.study.tables import sections_of
from ocr_rl.study.weak_spots import WEAK_SPOTS

FILES = (ROWS, "study.md", "study.png", "rows.jsonl", "curves.jsonl", "report.json", "report.md", "report.html")


def report_study(study: Study, root: Path, out: Path) -> Path | None:
    """`write_study` of what has ended in the study's folder `root`; before an arm has, the rows alone, and None."""
    folder = Folder(root.resolve())
    packed = pack(folder)
    arms = main_jobs(study, choose(study, folder))
    if not (folder.test(START).exists() and any(folder.test(job.name).exists() for job in arms)):
        outputs.write(out / ROWS, packed)
        return None
    bind_rows(study, folder)
    env, longest_px = read_environment(folder.root), longest_px_of(study)
    return write_study(read_results(study, folder.root), out, packed=packed, env=env, longest_px=longest_px)


def write_study(results: Results, out: Path, *, packed: bytes, env: Mapping[str, Any], longest_px: int) -> Path:
    """All files below `out`, the rows (`pack`) among them; returns study.md.

    UserError for one that stands there and that ocr-rl did not write.
    """
    out.mkdir(parents=True, exist_ok=True)
    claims = (*CLAIMS, *WEAK_SPOTS, *LEARNED_REWARD, *CRITIC)
    seen = sorted(
        (finding for claim in claims if (finding := claim(results)) is not None), key=lambda finding: finding.claim
    )
    plots = {"study": main_plot(results)} | {f"study_{f.key}": claim_plot(f) for f in seen if f.series}
    for name, png in plots.items():
        outputs.write(out / f"{name}.png", png)
    level = floors.judged_here(list(results.pages.values()), results.start, "strict")
    of_claims = [_section(finding, plots.get(f"study_{finding.key}")) for finding in seen]
    sections = [*sections_of(results, plots["study"], level), *of_claims, *shortfalls(results)]
    notes = {
        "device": f"{env['cores']} cores, {env['platform']}",
        "began": str(env["date"]),
        "runs": f"{results.ended} of {results.planned} have ended",
        "seeds": f"arms {_listed(results.study.seeds)}; claims {_listed(results.study.claim_seeds)}",
        "versions": ", ".join(f"{name} {version}" for name, version in env["packages"].items()),
        **{f"not run: {name}": reason for name, reason in results.failed.items()},
    }
    outputs.write(out / "study.md", _markdown(sections, plots, notes, seen))
    first = results.study.seeds[0]
    arms = {arm: rows for arm in results.study.arms if (rows := results.rows.get(f"{arm}-seed{first}"))}
    write_report(
        out,
        title="Study: preference training against rewards",
        candidates={"start": results.start, **{f"{arm}, seed {first}": rows for arm, rows in arms.items()}},
        pages=results.pages,
        images=partial(image_of, longest_px=longest_px),
        curves={arm: results.metrics[f"{arm}-seed{first}"] for arm in arms},
        notes=notes,
        sections=sections,
        floors=level,
    )
    outputs.write(out / ROWS, packed)
    outputs.write(out / "rows.jsonl", "".join(_row(name, rows) for name, rows in _all_rows(results).items()))
    lines = [
        json.dumps({"run": name, **asdict(point)}) + "\n" for name, curve in results.curves.items() for point in curve
    ]
    outputs.write(out / "curves.jsonl", "".join(lines))
    return out / "study.md"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _all_rows(results: Results) -> dict[str, Sequence[PageResult]]:
    return {"start": results.start, "start-samples": results.samples, **results.rows}


def _row(name: str, rows: Sequence[PageResult]) -> str:
    return "".join(json.dumps({"run": name, **to_json(row)}, ensure_ascii=False) + "\n" for row in rows)


def _section(finding: Finding, png: bytes | None) -> Section:
    return Section(
        title=f"{finding.claim}: {finding.verdict}",
        text=finding.seen,
        header=finding.header,
        rows=finding.table,
        png=png,
    )


def _markdown(
    sections: Sequence[Section], plots: Mapping[str, bytes], notes: Mapping[str, str], seen: Sequence[Finding]
) -> str:
    names = {png: name for name, png in plots.items()}
    parts = ["# Study: preference training against rewards\n"]
    rows = [(finding.claim, finding.size, finding.verdict) for finding in seen]
    parts.append(to_markdown_table(("claim", "effect", "verdict"), rows))
    parts.append(
        "The effect is the claim's own difference, in points, above 0 where the claim is right. A verdict is read off "
        "its interval of 95 %: supported where it lies above 0; otherwise not supported where it lies below "
        f"{100 * MATTERS:.0f} points ({100 * PART:.0f} per cent of a gain, a ratio of 1.5), so that an effect that "
        "matters is excluded; otherwise undecided. RLHF 6 is read off two figures, the learned "
        "and the true one. Over all the claims nothing is corrected.\n"
    )
    for section in sections:
        parts.append(f"## {section.title}\n\n{section.text}\n")
        if section.png:
            parts.append(f"![{section.title}]({names[section.png]}.png)\n")
        if section.rows:
            parts.append(to_markdown_table(section.header, section.rows))
    parts.append("## How it was run\n\n" + "\n".join(f"- {name}: {value}" for name, value in notes.items()) + "\n")
    return "\n".join(parts)
