"""Known models are asked as their published figures were taken, by name, by folder, by preset; a recipe overrides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ocr_rl import config
from ocr_rl.cli import main
from ocr_rl.contract import UserError
from ocr_rl.models.known import ASK_FRONT_MATTER, KNOWN, NAMES, instruction_to_learn, known, read_settings
from ocr_rl.models.settings import INSTRUCTION, PromptSettings, write_settings
from ocr_rl.policy import open_learning_origin, open_origin

OLMOCR = "allenai/olmOCR-2-7B-1025"


def test_the_rows_are_sound_and_each_model_stands_once() -> None:
    assert len(set(map(str.lower, NAMES))) == len(NAMES)
    for row in KNOWN:
        assert row.source and row.settings.longest_px < row.settings.max_prompt_tokens * 28
        # a model that writes front matter was asked for it, in the order of its fields
        fields = "primary_language, is_rotation_valid, rotation_correction, is_table, and is_diagram"
        assert row.front_matter == (fields in row.settings.instruction)


def test_the_documents_table_says_what_is_asked() -> None:
    rows = (Path(__file__).parents[1] / "docs" / "models.md").read_text().splitlines()
    for row in KNOWN:
        first = ", ".join(f"`{name}`" for name in row.names)
        shown = next(line for line in rows if line.startswith(f"| {first} |")).split("|")
        sizes = [str(row.settings.longest_px), str(row.settings.max_tokens), "yes" if row.front_matter else "no"]
        assert [cell.strip() for cell in shown[3:6]] == sizes


@pytest.mark.parametrize("name", [OLMOCR, OLMOCR.lower(), f"{OLMOCR}-FP8"])
def test_a_hub_name_is_known(name: str) -> None:
    settings = read_settings(name)
    assert (settings.longest_px, settings.max_tokens, settings.image_first) == (1288, 8000, False)
    assert "tables to HTML" in settings.instruction and settings.instruction.count("\n") == 2


@pytest.mark.parametrize("name", ["olmOCR-2-7B-1025", "somebody/olmOCR-2-7B-1025-tuned", "a/b", "", "."])
def test_another_name_is_not_known(name: str) -> None:
    assert known(name) is None
    assert read_settings(name) == PromptSettings()


@pytest.mark.parametrize(
    "place", ["olmOCR-2-7B-1025", "models--allenai--olmOCR-2-7B-1025/snapshots/0123abc", "allenai/olmOCR-2-7B-1025"]
)
def test_a_folder_of_that_name_is_known(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    assert read_settings(str(folder)) == read_settings(OLMOCR)


def test_a_folders_own_settings_stand_over_its_name_and_a_preset_over_both(tmp_path: Path) -> None:
    folder = tmp_path / "olmOCR-2-7B-1025"
    folder.mkdir()
    write_settings(folder, PromptSettings(longest_px=280, instruction="Read."))
    assert read_settings(str(folder)).instruction == "Read."
    assert read_settings(str(folder), "reducto/RolmOCR") == read_settings("reducto/RolmOCR")
    (folder / "ocr_rl.json").write_text(json.dumps({"preset": "reducto/rolmocr", "longest_px": 896}))
    settings = read_settings(str(folder))
    assert (settings.longest_px, settings.image_first) == (896, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"preset": "allenai/olmOCR-2-7B-102"}', "did you mean"),
        ('{"preset": 7}', "is not a settings file"),
        ('{"image_first": "yes"}', "image_first true or false"),
        ('{"longest_px": true}', "sizes are whole numbers"),
        ("[]", "is not a settings file"),
        ('{"colour": 1}', "unknown key colour"),
    ],
)
def test_a_wrong_settings_file_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "ocr_rl.json").write_text(text)
    with pytest.raises(UserError, match=reason):
        read_settings(str(tmp_path))


def _recipe(nano: Path, *, front_matter: bool, **policy: object) -> config.Recipe:
    names = ["pass_degree", *(["front_matter"] if front_matter else [])]
    return config.Recipe.model_validate(
        {
            "policy": {"path": str(nano), "longest_px": 280, **policy},
            "grpo": {"steps": 1, "pages": {"dir": "pages"}},
            "rewards": [{"name": name} for name in names],
        }
    )


@pytest.fixture
def bare(nano_dir: Path, tmp_path: Path) -> Path:
    """The embedded policy's shape without settings of its own, as a hub model comes."""
    shutil.copytree(nano_dir, tmp_path / "bare")
    (tmp_path / "bare" / "ocr_rl.json").unlink()
    return tmp_path / "bare"


def test_a_model_without_a_format_is_asked_for_front_matter_where_it_is_rewarded(bare: Path) -> None:
    for wanted in (True, False):
        recipe = _recipe(bare, front_matter=wanted)
        assert recipe.wants_front_matter == wanted
        origin = open_learning_origin(recipe, str(bare))
        assert origin.settings.instruction == INSTRUCTION + (ASK_FRONT_MATTER if wanted else "")
        text = origin.prompter.processor.tokenizer.decode(origin.prompter.token_ids)
        assert origin.settings.instruction in text  # it is what is asked, and what is saved with the policy
    own = open_learning_origin(_recipe(bare, front_matter=True, instruction="Read."), str(bare))
    assert own.settings.instruction == "Read."


def test_a_model_with_a_format_keeps_its_prompt_when_it_learns(bare: Path, nano_dir: Path) -> None:
    assert instruction_to_learn(OLMOCR, None, front_matter=True) is None
    assert instruction_to_learn("Qwen/Qwen2.5-VL-7B-Instruct", None, front_matter=False) == INSTRUCTION
    assert instruction_to_learn(str(nano_dir), None, front_matter=True) is None
    recipe = _recipe(bare, front_matter=True, preset=OLMOCR)
    assert open_learning_origin(recipe, str(bare)).settings.instruction == read_settings(OLMOCR).instruction


@pytest.mark.parametrize("image_first", [False, True])
def test_the_image_stands_before_or_after_the_text(bare: Path, image_first: bool) -> None:
    origin = open_origin(config.Policy(path=str(bare), instruction="Read it.", image_first=image_first), str(bare))
    text = origin.prompter.processor.tokenizer.decode(origin.prompter.token_ids)
    assert (text.index("<|image_pad|>") < text.index("Read it.")) == image_first


@pytest.mark.parametrize("verb", [["transcribe", "x.pdf"], ["sample", "x", "--out", "o.jsonl"], ["bench", "x"]])
def test_an_unknown_preset_is_named_before_any_model_is_loaded(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x" / "pdfs").mkdir(parents=True)
    wrong = ["--preset", "allenai/olmOCR-2-7B-1026", "--model", "nano", "--backend", "transformers"]
    assert main([*verb, *wrong]) == 2
    said = capsys.readouterr().err
    assert "--preset" in said and f"did you mean '{OLMOCR}'" in said.replace('"', "'")


def test_a_folders_settings_are_a_text_like_any_other(tmp_path: Path) -> None:
    text = json.dumps({"longest_px": 896, "instruction": "Lies das."})
    for data in (b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), text.encode()):
        (tmp_path / "ocr_rl.json").write_bytes(data)
        assert read_settings(str(tmp_path)).longest_px == 896
    (tmp_path / "ocr_rl.json").write_bytes('{"instruction": "Prüfe"}'.encode("latin-1"))
    with pytest.raises(UserError, match=r"ocr_rl.json: the text is not UTF-8 \(byte 20, perhaps it is Latin-1\)"):
        read_settings(str(tmp_path))
