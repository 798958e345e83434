"""People's own PDFs become a dataset: tests from text layers, and from Markdown transcripts that lie beside PDFs.

    mine_folder(folder, out, seed)     `ocr-rl pages mine FOLDER --out DIR`

`mined_tests` and `layer_tests` make the tests. A page that cannot be trusted is left out and named with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random

from ocr_rl.pages.harvest import (
    Crop,
    Harvest,
    Place,
    counted,
    flat_names,
    require_empty,
    shown_name,
    sources,
    texts,
    transcripts,
    undrawable,
    write_harvest,
)
from ocr_rl.pages.layer_tests import layer_tests
from ocr_rl.pages.mined_tests import markdown_tests
from ocr_rl.pages.references import reference_name, references
from ocr_rl.pages.text_layer import read_layers


def mine_folder(folder: Path, out: Path, seed: int) -> Harvest:
    """Write a dataset from the PDFs and pictures below a folder.

    A Markdown file beside a PDF is the reference of its page: `<stem>.md` for a PDF of one page, `<stem>_pg<N>.md` for
    page N. Pages of other PDFs get tests from their text layer; a picture has none. `left_out.txt` lists what was left
    out. Where no page is kept, nothing is written. Raises UserError if the folder holds no PDF and no picture or `out`
    is not empty.
    """
    crop = Crop()
    require_empty(out)
    below, documents = sources(folder, crop.left_out)
    names = flat_names(documents, out, crop.left_out)
    documents = {name: documents[name] for name in names}
    beside = references(below, documents)
    paired = {file.document for file in beside}
    _mine_layers({name: path for name, path in documents.items() if name not in paired}, names, crop, seed)
    num_pages = counted({name: path for name, path in documents.items() if name in paired}, crop.left_out)
    files = transcripts(beside, num_pages, crop.left_out)
    crop.left_out += [
        f"{documents[name]}, page {number}: has no transcript"
        for name in dict.fromkeys(name for name, _ in files)
        for number in range(1, num_pages[name] + 1)
        if (name, number) not in files
    ]
    mine_pairs(files, documents, num_pages, names, "mined", crop, seed)
    return write_harvest(crop, out, {"verb": "mine", "source": shown_name(folder), "seed": seed})


def mine_pairs(
    files: Mapping[Place, Path],
    documents: Mapping[str, Path],
    num_pages: Mapping[str, int],
    names: Mapping[str, str],
    stem: str,
    crop: Crop,
    seed: int,
) -> None:
    """Keep the pages whose transcripts give tests. `names`: those of the new dataset; `stem`: of the tests' file."""
    refused = undrawable(documents, files, crop.left_out)
    for (name, number), (path, text) in texts(files, refused, crop.left_out).items():
        new = names[name]
        if crop.keep(stem, markdown_tests(text, new, number, Random(f"{seed}/{new}/{number}"))):
            crop.copies[new] = documents[name]
            crop.copies[reference_name(new, number, num_pages[name], names.values())] = path
        else:
            crop.left_out.append(f"{documents[name]}, page {number}: nothing in its transcript can be tested")


def _mine_layers(documents: Mapping[str, Path], names: Mapping[str, str], crop: Crop, seed: int) -> None:
    """Keep the pages whose text layer gives tests."""
    new_of = {path: names[name] for name, path in documents.items()}
    for path, layers in read_layers(documents.values(), workers=1):
        if isinstance(layers, str):
            crop.left_out.append(f"{path}: {layers}")
            continue
        for layer in layers:
            rng = Random(f"{seed}/{new_of[path]}/{layer.number}")
            if crop.keep("mined", [] if layer.reason else layer_tests(layer, new_of[path], rng)):
                crop.copies[new_of[path]] = path
            else:
                reason = layer.reason or "nothing on it stands once and can be tested"
                crop.left_out.append(f"{path}, page {layer.number}: {reason}")
