"""The files below a folder, whatever a file system does with names and links.

Links are followed once: a file with several names has one that counts, and a loop ends. Names are compared in NFC,
since one system writes "é" as one character and another as two. What macOS puts beside a file of its user's is skipped.
Knows nothing about what the files hold.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from ocr_rl.files import is_utf8

LEADS_OUT = "this link leads out of the dataset's folder, copy the file"
NOT_UTF8 = "the file's name is not UTF-8, rename it"
_LITTER = frozenset({".DS_Store", "__MACOSX", "Thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Files of some kinds below a folder, in the order of their paths."""

    files: Mapping[str, Path] = field(default_factory=dict)  # by the path below the folder, with slashes and in NFC
    same: Mapping[str, str] = field(default_factory=dict)  # names of links -> the name of the same file that counts
    left_out: tuple[tuple[Path, str], ...] = ()  # files that cannot be taken, with the reason
    not_followed: tuple[tuple[Path, str], ...] = ()  # links to folders, and folders that cannot be read

    def once(self, *suffixes: str) -> dict[str, Path]:
        """The files with one of the suffixes, each by the one name that counts."""
        return {
            name: path for name, path in self.files.items() if name not in self.same and path.suffix.lower() in suffixes
        }


def tree(root: Path, suffixes: Collection[str], inside: Path | None = None) -> Tree:
    """Every file below a folder with one of the suffixes, as ".pdf". No link leads out of `inside`, if given."""
    limit = None if inside is None else os.path.realpath(inside)
    not_followed: list[tuple[Path, str]] = []
    entries = [e for e in _entries(root, limit, not_followed) if Path(e.name).suffix.lower() in suffixes]
    links = sorted(Path(entry.path) for entry in entries if entry.is_symlink())
    own = sorted(Path(entry.path) for entry in entries if not entry.is_symlink())
    files: dict[str, Path] = {}
    places: dict[str, str] = {}  # real path -> the first name
    same: dict[str, str] = {}
    left_out: list[tuple[Path, str]] = []
    for path in (*own, *links):  # a file counts by its own name, if that is in the tree
        name, real = normalize("NFC", path.relative_to(root).as_posix()), os.path.realpath(path)
        if reason := file_fault(name, real, limit):
            left_out.append((path, reason))
        elif files.setdefault(name, path) is path:
            if places.setdefault(real, name) != name:
                same[name] = places[real]
        elif places.get(real) != name:
            other = files[name].relative_to(root).as_posix()
            left_out.append((path, f"its name and {other} differ in the encoding of accents alone, rename one of them"))
    in_order = dict(sorted(files.items(), key=lambda item: item[1]))
    return Tree(files=in_order, same=same, left_out=tuple(sorted(left_out)), not_followed=tuple(not_followed))


def _entries(root: Path, limit: str | None, not_followed: list[tuple[Path, str]]) -> Iterator[os.DirEntry[str]]:
    """What is no folder, from the folders of the tree and then from those that links lead to, each walked once."""
    walked: set[str] = set()
    own, linked = deque([root]), deque[Path]()
    while own or linked:
        folder = own.popleft() if own else linked.popleft()
        real = os.path.realpath(folder)
        if real in walked:
            continue
        walked.add(real)
        try:
            with os.scandir(folder) as entries:
                here = sorted((entry for entry in entries if not is_litter(entry.name)), key=lambda entry: entry.name)
        except OSError as error:
            not_followed.append((folder, f"the folder cannot be read ({error.strerror})"))
            continue
        for entry in here:
            if not os.path.isdir(entry.path):
                yield entry
            elif not entry.is_symlink():
                own.append(Path(entry.path))
            elif reason := _way_out(os.path.realpath(entry.path), os.path.realpath(root), limit):
                not_followed.append((Path(entry.path), reason))
            else:
                linked.append(Path(entry.path))


def _way_out(real: str, root: str, limit: str | None) -> str:
    """Why a link to a folder is not followed; empty if it is."""
    if limit is not None and not _is_below(real, limit):
        return LEADS_OUT
    return "this link leads to a folder around itself" if _is_below(root, real) else ""


def file_fault(name: str, real: str, limit: str | None) -> str:
    """Why a file cannot be taken; empty if it can. `real`: where it lies once links are followed, below `limit`."""
    if limit is not None and not _is_below(real, limit):
        return LEADS_OUT
    if not is_utf8(name):
        return NOT_UTF8
    return "" if os.path.isfile(real) else "this is not a file"  # a pipe would block for ever


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def files_in(folder: Path, suffix: str) -> list[Path]:
    """What stands in a folder itself with that suffix, also in capitals; nothing where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == suffix and not is_litter(path.name))


def own_files(folder: Path, suffix: str) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Of what stands in a folder itself, the files that lie in it once links are followed; the others with why not."""
    root = os.path.realpath(folder)
    faults = {path: file_fault(path.name, os.path.realpath(path), root) for path in files_in(folder, suffix)}
    own = [path for path, reason in faults.items() if not reason]
    return own, [(path, reason) for path, reason in faults.items() if reason]


def is_litter(name: str) -> bool:
    """Whether a file or folder is one that macOS or Windows puts beside those of its user (`._x.pdf` is no PDF)."""
    return name.startswith("._") or name in _LITTER


def name_among(path: str, names: Collection[str]) -> str | None:
    """The one of the names (of `Tree.files`) that a path in a test means; None if it means none.

    "./a.pdf" means "a.pdf", "pdfs/a.pdf" does where there is no folder pdfs below pdfs, and "sub\\\\a.pdf" is how
    Windows writes "sub/a.pdf".
    """
    for written in (path, path.replace("\\", "/")):
        name = normalize("NFC", PurePosixPath(written).as_posix())
        if name in names:
            return name
        if (name := name.removeprefix("pdfs/")) in names:
            return name
    return None
