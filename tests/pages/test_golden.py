"""Documents that the embedded policy was trained and is evaluated on: they must not change by a byte.

The hashes are of the PDF, the references and the tests of a document. A change of Typst or of a typeface changes the
PDFs, and then the policy's figures are no longer comparable: that is what this file is there to say.
"""

from __future__ import annotations

import hashlib
import json

import pytest

from ocr_rl.pages.synth.make import Looks, make_document

GOLDEN: dict[tuple[str, int, int, int, str | None, float | None], tuple[str, ...]] = {
    ("chars", 1, 0, 3, None, None): ("3300d1fdc7252175", "12233091eee580b0", "8e2386fe8476b65b"),
    ("chars", 2002, 4, 2, None, None): ("ad29e298978d1a91", "d3e5ff9f29d73767", "c95824ee3a2c3f13"),
    ("line", 1, 0, 3, None, None): ("46c002d04986fdce", "5ddefad3b168d237", "bd10e3c86cc38fc5"),
    ("line", 2002, 4, 2, None, None): ("ebfd1101d1cc75d3", "d92dd828971b48a8", "0a9c9b61590607e2"),
    ("lines", 1, 0, 3, None, None): ("eae58be3a6de43b3", "d30cc5b2664e16d9", "b9f8e05084658faf"),
    ("lines", 2002, 4, 2, None, None): ("d84618bb889ef3d0", "5cb3c8999041bc87", "0c0dc2a3c31d7019"),
    ("nano", 1, 0, 3, None, None): ("4cc183c7edcb8180", "9617bb795ed737f8", "f7c4cd170eb34bde"),
    ("nano", 2002, 4, 2, None, None): ("60074a361c91c794", "e477a7de53eda608", "d8822e5f397c306b"),
    ("notice", 1, 0, 3, None, None): ("a9b3cd319a2e66ab", "e15a26c5d4c7551e", "c10eaa90396b7c65"),
    ("notice", 2002, 4, 2, None, None): ("a84e968650ee2afc", "27a2bcf9d8d35823", "da751dc71a1b1631"),
    ("report", 1, 0, 3, None, None): ("ef3c9f78bea905bf", "4218984251c20d8a", "bb0dd61d4f7724fb"),
    ("report", 2002, 4, 2, None, None): ("bada6ffcf58ae1a6", "1f944671830d30ef", "ca08e7ad6ec0b6e1"),
    ("nano", 7, 1, 2, "unseen", None): ("7ff713af4b6d9c80", "966f8e54e152dad8", "7300128ff2c17d21"),
    ("nano", 7, 1, 2, None, 1.5): ("894e02aefd80ab9f", "966f8e54e152dad8", "bb472d18d2da14a9"),
    ("report", 3, 2, 2, "seen", None): ("9ddf6d0dee92a944", "8198e4d4292cd5d2", "805b0ba8b4eb74fa"),
}


def fingerprints(kind: str, seed: int, index: int, pages: int, fonts, scan) -> tuple[str, ...]:
    """(of the PDF, of its name and references, of its tests)"""
    document = make_document(kind, seed, index, pages, Looks(fonts=fonts, scan=scan))
    known = ([document.name, document.references], document.tests)
    texts = (json.dumps(each, ensure_ascii=False).encode() for each in known)
    return tuple(hashlib.sha256(data).hexdigest()[:16] for data in (document.pdf, *texts))


@pytest.mark.parametrize("job", GOLDEN, ids=str)
def test_a_document_of_an_old_kind_is_what_it_always_was(job) -> None:
    assert fingerprints(*job) == GOLDEN[job]
