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
    ("chars", 1, 0, 3, None, None): ("f111546e490235ba", "12233091eee580b0", "850addf41a3ea1fb"),
    ("chars", 2002, 4, 2, None, None): ("96906a93b5372005", "d3e5ff9f29d73767", "71ba242fcfe8da18"),
    ("line", 1, 0, 3, None, None): ("55b82fb15f2b9c6b", "f904384cea2f5617", "e364ff6f7aa9ce8d"),
    ("line", 2002, 4, 2, None, None): ("253af1311bae0174", "d92dd828971b48a8", "0dfe054dd4a66085"),
    ("lines", 1, 0, 3, None, None): ("ecc8e9d283d7a8cc", "b6876c2835c86794", "6b7ff1a5bdd9d4bb"),
    ("lines", 2002, 4, 2, None, None): ("0b4e033ec0234aca", "0c079e6b9f59a68e", "71cd457854e51fad"),
    ("nano", 1, 0, 3, None, None): ("222e4e936003cb97", "fae85769f8ce0865", "39256ece12cc5a5a"),
    ("nano", 2002, 4, 2, None, None): ("f59b2b0640daabc1", "7f6818f15aecdc4b", "e9003ae9cd70cc4e"),
    ("notice", 1, 0, 3, None, None): ("389f3c0e32f99af2", "4de0e808e6c820da", "f4aaffc8804c7558"),
    ("notice", 2002, 4, 2, None, None): ("6467088269b74586", "27a2bcf9d8d35823", "8cfe7515ec7bc745"),
    ("report", 1, 0, 3, None, None): ("ef3c9f78bea905bf", "4218984251c20d8a", "2c1ca5856c9dfb97"),
    ("report", 2002, 4, 2, None, None): ("bada6ffcf58ae1a6", "1f944671830d30ef", "7496ee381a06d238"),
    ("nano", 7, 1, 2, "unseen", None): ("947201d0ecb64876", "d36c572f01d21590", "424cc3fb8df37a53"),
    ("nano", 7, 1, 2, None, 1.5): ("d0f3e4a9fa5f0833", "d36c572f01d21590", "90426e47afddfca7"),
    ("report", 3, 2, 2, "seen", None): ("9ddf6d0dee92a944", "8198e4d4292cd5d2", "b8ee17bc66c4376c"),
}

OTHER_WORDS = {
    "invented": ("6340d3cfb793e370", "21cc02d7c853dce1", "851d87aa15304c1b"),
    "latin": ("5451240d61fe221f", "cb0ef245a2220268", "d1a327d16689b657"),
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
