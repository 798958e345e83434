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
    ("chars", 1, 0, 3, None, None): ("f111546e490235ba", "12233091eee580b0", "0e5acd020b526fe2"),
    ("chars", 2002, 4, 2, None, None): ("96906a93b5372005", "d3e5ff9f29d73767", "a9f089f4a2346d76"),
    ("line", 1, 0, 3, None, None): ("55b82fb15f2b9c6b", "f904384cea2f5617", "18f1995d5983ba79"),
    ("line", 2002, 4, 2, None, None): ("253af1311bae0174", "d92dd828971b48a8", "c3aea0c9e72324a7"),
    ("lines", 1, 0, 3, None, None): ("ecc8e9d283d7a8cc", "b6876c2835c86794", "acccd09c521b717c"),
    ("lines", 2002, 4, 2, None, None): ("0b4e033ec0234aca", "0c079e6b9f59a68e", "4b23fa7ada7de753"),
    ("nano", 1, 0, 3, None, None): ("222e4e936003cb97", "fae85769f8ce0865", "1685c397d35d5d98"),
    ("nano", 2002, 4, 2, None, None): ("f59b2b0640daabc1", "7f6818f15aecdc4b", "25b6b554118e6c28"),
    ("notice", 1, 0, 3, None, None): ("389f3c0e32f99af2", "4de0e808e6c820da", "a59bff5641c95fb5"),
    ("notice", 2002, 4, 2, None, None): ("6467088269b74586", "27a2bcf9d8d35823", "88f6e9cfac6d0391"),
    ("report", 1, 0, 3, None, None): ("ef3c9f78bea905bf", "4218984251c20d8a", "237257451f46f883"),
    ("report", 2002, 4, 2, None, None): ("bada6ffcf58ae1a6", "1f944671830d30ef", "cbdf467a4a8a1bb6"),
    ("nano", 7, 1, 2, "unseen", None): ("947201d0ecb64876", "d36c572f01d21590", "2397873f0a760047"),
    ("nano", 7, 1, 2, None, 1.5): ("d0f3e4a9fa5f0833", "d36c572f01d21590", "6818d9f96e1a84b0"),
    ("report", 3, 2, 2, "seen", None): ("9ddf6d0dee92a944", "8198e4d4292cd5d2", "2191dbf3355e201d"),
}

OTHER_WORDS = {
    "invented": ("6340d3cfb793e370", "21cc02d7c853dce1", "320874b780498d81"),
    "latin": ("5451240d61fe221f", "cb0ef245a2220268", "ff100faa7e1ac9c5"),
}


def fingerprints(kind: str, seed: int, index: int, pages: int, fonts, scan, words=None) -> tuple[str, ...]:
    """(of the PDF, of its name and references, of its tests)"""
    document = make_document(kind, seed, index, pages, Looks(fonts=fonts, words=words, scan=scan))
    parts = ([document.name, document.references], document.tests)
    texts = (json.dumps(part, ensure_ascii=False).encode() for part in parts)
    return tuple(hashlib.sha256(data).hexdigest()[:16] for data in (document.pdf, *texts))


@pytest.mark.parametrize("words", OTHER_WORDS)
def test_a_document_in_other_words_is_what_it_was(words: str) -> None:
    assert fingerprints("nano", 5, 1, 2, None, None, words) == OTHER_WORDS[words]


@pytest.mark.parametrize("job", GOLDEN, ids=str)
def test_a_document_of_an_old_kind_is_what_it_always_was(job) -> None:
    assert fingerprints(*job) == GOLDEN[job]
