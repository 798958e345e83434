"""Does a policy look? Its loss on transcripts with their page, with a blank one, and with another page.

    python -m benchmarks.policy.sight MODEL MODEL --kind chars --n 128

Pages are typeset here, of a seed that no recipe trains on. `place_gain`: how much more text loses that moved on the
page than text that stayed. Prints Markdown, nats a token.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ocr_rl import config
from ocr_rl.evaluate.tables import to_markdown_table
from ocr_rl.learn.algos.sft import reference_rows
from ocr_rl.learn.learner import Learner
from ocr_rl.learn.probe import looks
from ocr_rl.models.load import model_folder
from ocr_rl.pages.source import open_pages
from ocr_rl.policy import open_origin

NAMES = ("nll_page", "nll_blank", "nll_other", "place_gain")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--kind", default="chars")
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1000)
    args = parser.parse_args()
    source = config.Typeset(synth=args.kind, n=args.n, seed=args.seed)
    with TemporaryDirectory() as folder:
        rows = [[model, *(f"{loss:.2f}" for loss in sight(model, source, Path(folder)))] for model in args.models]
    print(to_markdown_table(["policy", *NAMES], rows))


def sight(model: str, source: config.Typeset, folder: Path) -> Sequence[float]:
    """The three losses and the gain, as in NAMES."""
    path = model_folder(model)
    policy = config.Policy(path=path)
    origin = open_origin(policy, path)
    learner = Learner(origin, policy, config.Optim(), steps=1, reference=False)
    prompted = [(page, origin.prompter.prompt(page)) for page in open_pages(source, folder)]
    losses = looks(learner, reference_rows(prompted, origin.prompter, front_matter=False))
    return [losses[name] for name in NAMES]


if __name__ == "__main__":
    main()
