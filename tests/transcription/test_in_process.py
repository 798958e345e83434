"""`transcribe` from files to files: nothing is lost where names or contents are equal, and done files stay."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocr_rl.contract import Page, Transcript, UserError
from ocr_rl.evaluate.readers import Ask, Asking, InProcess
from ocr_rl.evaluate.transcribe import Attempt
from ocr_rl.models.settings import PromptSettings
from ocr_rl.policy import OpenPolicy
from ocr_rl.rollout.prompt import Prompter
from ocr_rl.transcription.job import transcribe_files
from tests.fakes import FakeSampler


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, prompter: Prompter) -> Callable[..., list[str]]:
    """Transcribes with a scripted policy; returns what was refused."""

    def write(pdfs: list[Path], out: Path, script: Callable[[Page, int], str] = lambda page, k: page.id) -> list[str]:
        @contextmanager
        def open_policy(model: str, **_: object) -> Iterator[OpenPolicy]:
            settings = PromptSettings(max_tokens=64)
            yield OpenPolicy(sampler=FakeSampler(prompter, script), prompter=prompter, settings=settings)

        monkeypatch.setattr("ocr_rl.policy.open_policy", open_policy)
        reader = InProcess(model="nano", backend="transformers", asking=Asking())
        refused = transcribe_files(pdfs, reader, out)
        return [str(error) for error in refused]

    return write


@pytest.fixture
def folders(tmp_path: Path, tiny_pages: list[Page]) -> list[Path]:
    """a/x.pdf and b/x.pdf, of one content and four pages each."""
    pdfs = [tmp_path / name / "x.pdf" for name in "ab"]
    for pdf in pdfs:
        pdf.parent.mkdir()
        shutil.copy(tiny_pages[0].pdf, pdf)
    return pdfs


def test_copies_with_one_name_are_all_written(write, folders: list[Path], tmp_path: Path) -> None:
    assert write([*folders, folders[0]], tmp_path / "out") == []
    first, second = (tmp_path / "out" / name for name in ("x.md", "x-2.md"))
    assert sorted((tmp_path / "out").glob("*.md")) == sorted([first, second])
    ids = first.read_text().split()
    assert [page_id.split(":")[1] for page_id in ids] == ["p1", "p2", "p3", "p4"]
    assert second.read_text().split() == [page_id.replace(":", "-2:") for page_id in ids]


def test_what_is_done_is_written_before_the_next_document_ends(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def opened(self: InProcess) -> Iterator[Ask]:
        yield lambda pages: cut_off(list(pages))

    def cut_off(pages: list[Page]) -> Iterator[tuple[Page, list[Attempt]]]:
        for page in pages[:6]:
            transcript = Transcript(raw=page.id, body=page.id, finish="stop", num_tokens=1)
            yield page, [Attempt(transcript=transcript, temperature=0.0, rotation=0)]
        raise KeyboardInterrupt

    monkeypatch.setattr(InProcess, "opened", opened)
    with pytest.raises(KeyboardInterrupt):
        transcribe_files(folders, InProcess(model="nano", backend="vllm", asking=Asking()), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*.md")] == ["x.md"]
    assert len((tmp_path / "out/pages.jsonl").read_text().splitlines()) == 6


def test_a_folder_that_cannot_be_written_is_named_before_the_policy_is_loaded(folders: list[Path]) -> None:
    with pytest.raises(UserError, match=r"x\.pdf: cannot be written"):
        transcribe_files(folders[:1], InProcess(model="nano", backend="vllm", asking=Asking()), folders[1])


def test_a_file_that_cannot_be_read_is_refused_and_the_others_go_on(write, folders: list[Path], tmp_path: Path) -> None:
    folders[0].write_text("no PDF")
    assert "a/x.pdf: the file is not a PDF" in write(folders, tmp_path / "out")[0]
    assert [path.name for path in (tmp_path / "out").glob("*.md")] == ["x-2.md"]
