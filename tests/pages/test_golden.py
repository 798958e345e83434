"""Documents that the embedded policy was trained and is evaluated on: they must not change by a byte.

The hashes are of the PDF, the references and the tests of a document. A change of Typst or of a typeface changes the
PDFs, and then the policy's figures are no longer comparable: that is what this file is there to say.
"""

from __future__ import annotations

import hashlib
import json

import pytest

from ocr_rl.pages.synth.make import Looks, make_document

GOLDEN: dict[tuple[str, int, int, int, str | None, float | None], tuple[str, str]] = {
    ("chars", 1, 0, 3, None, None): ("3300d1fdc7252175", "17b8a8589e7bc87d"),
    ("chars", 2002, 4, 2, None, None): ("ad29e298978d1a91", "34f27d5f2d3eb32a"),
    ("line", 1, 0, 3, None, None): ("46c002d04986fdce", "4ff999251cf3f7a1"),
    ("line", 2002, 4, 2, None, None): ("ebfd1101d1cc75d3", "b14efc988bb32cc8"),
    ("lines", 1, 0, 3, None, None): ("eae58be3a6de43b3", "f231154a16d3dc4e"),
    ("lines", 2002, 4, 2, None, None): ("d84618bb889ef3d0", "d8f1396b7e12ebfa"),
    ("nano", 1, 0, 3, None, None): ("4cc183c7edcb8180", "69aa17e8c7c58121"),
    ("nano", 2002, 4, 2, None, None): ("60074a361c91c794", "45e198bb2b3d0035"),
    ("notice", 1, 0, 3, None, None): ("a9b3cd319a2e66ab", "35d2ef9fa197c655"),
    ("notice", 2002, 4, 2, None, None): ("a84e968650ee2afc", "d2b7d54f3b3071e7"),
    ("report", 1, 0, 3, None, None): ("ef3c9f78bea905bf", "b0b6b8e1d632de5d"),
    ("report", 2002, 4, 2, None, None): ("bada6ffcf58ae1a6", "d0515e853772b57d"),
    ("nano", 7, 1, 2, "unseen", None): ("7ff713af4b6d9c80", "5b3b480f639ffd04"),
    ("nano", 7, 1, 2, None, 1.5): ("894e02aefd80ab9f", "d21977d3966d0ede"),
    ("report", 3, 2, 2, "seen", None): ("9ddf6d0dee92a944", "159c25c9123eff82"),
}


def fingerprints(kind: str, seed: int, index: int, pages: int, fonts, scan) -> tuple[str, str]:
    """(of the PDF, of what is known about it)"""
    document = make_document(kind, seed, index, pages, Looks(fonts=fonts, scan=scan))
    known = json.dumps([document.name, document.references, document.tests], ensure_ascii=False)
    return hashlib.sha256(document.pdf).hexdigest()[:16], hashlib.sha256(known.encode()).hexdigest()[:16]


@pytest.mark.parametrize("job", GOLDEN, ids=str)
def test_a_document_of_an_old_kind_is_what_it_always_was(job) -> None:
    assert fingerprints(*job) == GOLDEN[job]
