"""`import ocr_rl`: the public names, what they cost to import, and what they do with wrong input."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import ocr_rl
from ocr_rl.config import load_recipe
from ocr_rl.rollout.reward_pool import weighted
from ocr_rl.rollout.scoring import score_page

TESTS = [{"type": "present", "text": "Pay the total"}, {"type": "absent", "text": "Page 7"}]
REFERENCE = "Pay the total: 7.50"


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_examples_of_the_docstring() -> None:
    results = doctest.testmod(ocr_rl, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    assert results.attempted >= 8 and not results.failed


def test_every_name_is_listed_and_can_be_had() -> None:
    assert dir(ocr_rl) == sorted(ocr_rl.__all__)
    assert all(getattr(ocr_rl, name).__doc__ for name in ocr_rl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ocr_rl.nothing


def test_the_import_is_quick_and_needs_no_torch() -> None:
    """Nothing but the standard library is imported until a name is asked for."""
    code = (
        "import sys; before = set(sys.modules); import ocr_rl\n"
        "rooms = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "page = ocr_rl.make_page(reference='a'); ocr_rl.load_rewards(['cer']).score(page, ['a'])\n"
        "print(*rooms - set(sys.stdlib_module_names), 'torch' in sys.modules)"
    )
    assert python(code).split() == ["ocr_rl", "False"]


def test_a_recipes_mix_scores_as_training_does() -> None:
    page = ocr_rl.make_page(TESTS, reference=REFERENCE)
    texts = [
        ocr_rl.Transcript(raw=text, body=text, finish="stop", num_tokens=0)
        for text in (REFERENCE, "Pay the total", "Page 7", REFERENCE * 50)
    ]
    recipe = load_recipe("nano_grpo")
    results = ocr_rl.load_rewards("nano_grpo").score(page, texts)
    assert [result.reward for result in results] == list(score_page(page, texts, weighted(recipe.mix)).rewards)
    assert results[0].reward == 1.0 and "pass_degree: 1.000" in results[0].why
    assert results[3].reward == 0.0 and results[3].why.startswith("a gate holds it back; ")
    assert results[3].parts["budget"] < 1.0 and results[3].scores["budget"].why


def test_front_matter_is_taken_off_a_string_and_seen_by_rewards_for_it() -> None:
    front = "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\nis_table: False\n"
    front += "is_diagram: False\n---\n"
    page = ocr_rl.make_page(TESTS, reference=front + REFERENCE)
    assert page.reference == REFERENCE and "primary_language=en" in page.tags
    mix = ocr_rl.load_rewards(["front_matter", "cer"])
    whole, bare = mix.score(page, [front + REFERENCE, REFERENCE])
    assert whole.parts == {"front_matter": 1.0, "cer": 1.0}
    assert bare.parts["front_matter"] < 1.0 == bare.parts["cer"]
    assert all(verdict.passed for verdict in ocr_rl.judge(page, front + REFERENCE))


def test_tests_come_as_mappings_as_a_json_list_or_as_json_lines() -> None:
    lists = '[{"type": "present", "text": "Pay the total"}, {"type": "absent", "text": "Page 7"}]'
    lines = '{"type": "present", "text": "Pay the total"}\n{"type": "absent", "text": "Page 7"}\n'
    pages = [ocr_rl.make_page(tests) for tests in (TESTS, lists, lines)]
    assert pages[0] == pages[1] == pages[2]
    assert [verdict.passed for verdict in ocr_rl.judge(pages[0], "Page 7")] == [False, False]
    assert "Pay the total" in ocr_rl.judge(pages[0], "")[0].why


def test_the_reading_is_strict_unless_asked_otherwise() -> None:
    page = ocr_rl.make_page([{"type": "present", "text": "abcdefghijkl", "max_diffs": 1}])
    near = "-- abcdeXghijkl --"
    strict, compatible = ocr_rl.judge(page, near), ocr_rl.judge(page, near, reading="compatible")
    assert (strict[0].passed, compatible[0].passed) == (True, False)


def test_a_reward_of_ones_own_is_loaded_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(
        "from dataclasses import dataclass\n"
        "from ocr_rl import Page, Score, Transcript, per_transcript\n\n\n"
        "@dataclass(frozen=True)\n"
        "class Mine:\n"
        "    @per_transcript\n"
        "    def __call__(self, page: Page, transcript: Transcript) -> Score:\n"
        "        if 'break' in transcript.body:\n"
        "            raise ValueError('as it must')\n"
        "        return Score(value=float('7' in transcript.body), why='sevens')\n"
    )
    name = f"{tmp_path / 'my.py'}:Mine"
    mix = ocr_rl.load_rewards([name])
    page = ocr_rl.make_page()
    assert [result.reward for result in mix.score(page, ["7", "8"])] == [1.0, 0.0]
    assert mix.score(page, []) == []
    with pytest.raises(ocr_rl.UserError, match="failed on page page: ValueError: as it must"):
        mix.score(page, ["break"])
    with pytest.raises(ocr_rl.UserError, match="is a reward, not a recipe; give a list"):
        ocr_rl.load_rewards(name)


def test_wrong_input_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ocr_rl.UserError, match=r"make_page: test 2: type 'presen' is unknown"):
        ocr_rl.make_page([TESTS[0], {"type": "presen", "text": "x"}])
    with pytest.raises(ocr_rl.UserError, match="neither a JSON list nor JSON lines"):
        ocr_rl.make_page("[{")
    with pytest.raises(ocr_rl.UserError, match="make_page: test 1:"):
        ocr_rl.make_page("3")
    with pytest.raises(ocr_rl.UserError, match="give a list of texts"):
        ocr_rl.load_rewards(["cer"]).score(ocr_rl.make_page(reference="a"), "a")
    with pytest.raises(ocr_rl.UserError, match="none of the rewards with a weight applies"):
        ocr_rl.load_rewards(["cer"]).score(ocr_rl.make_page(), ["a"])
    with pytest.raises(ocr_rl.UserError, match="is a reward, not a recipe"):
        ocr_rl.load_rewards("cer")
    with pytest.raises(ocr_rl.UserError, match="the recipe nano_sft has no rewards"):
        ocr_rl.load_rewards("nano_sft")
    with pytest.raises(ocr_rl.UserError, match="there is no such folder"):
        ocr_rl.load_pages(tmp_path / "none")


@pytest.mark.slow
def test_pages_are_mined_loaded_transcribed_and_benched(tmp_path: Path) -> None:
    from ocr_rl.pages.synth.make import make_dataset

    assert list(make_dataset("nano", n=2, seed=3, out=tmp_path / "made", pages_per_document=1))
    harvest = ocr_rl.mine(tmp_path / "made" / "pdfs", tmp_path / "data")
    pages = ocr_rl.load_pages(tmp_path / "data")
    assert harvest.pages == len(pages) == 2
    results = ocr_rl.transcribe([pages[0].pdf, pages[1], pages[0]], backend="transformers")
    assert [page.id for page, _ in results] == [page.id for page in pages]
    transcripts = tmp_path / "out"
    transcripts.mkdir()
    for page, transcript in results:
        assert isinstance(transcript, ocr_rl.Transcript)
        (transcripts / f"{page.pdf.stem}_pg1_repeat1.md").write_text(transcript.raw)
    by_name = ocr_rl.bench(tmp_path / "data", tmp_path / "bench", candidates=[f"nano={transcripts}"], workers=1)
    assert [row.page for row in by_name["nano"]] == [page.id for page in pages]
    assert (tmp_path / "bench" / "report.html").exists()
    with pytest.raises(ocr_rl.UserError, match=r"none\.pdf"):
        ocr_rl.transcribe([tmp_path / "none.pdf"])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda page: ocr_rl.judge(page, "text", reading="loose"), "reading is 'loose'; give one of"),
        (lambda page: ocr_rl.judge(page, 3), "a text is a string or a Transcript, not int"),
        (lambda page: ocr_rl.load_rewards(["bleu"]).score(page, [3]), "a text is a string or a Transcript, not int"),
        (lambda page: ocr_rl.load_rewards([]), "name at least one reward"),
        (lambda page: ocr_rl.load_rewards(["bleu", "bleu"]), "each of them once"),
        (lambda page: ocr_rl.make_page(5), "make_page: tests are a list, JSON or JSON lines, not int"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(call, sentence: str) -> None:
    with pytest.raises(ocr_rl.UserError, match=sentence):
        call(ocr_rl.make_page(TESTS, reference=REFERENCE))
