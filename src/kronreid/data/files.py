"""Finding files below a folder, following links, and writing files atomically."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kronreid.data.images import SUFFIXES
from kronreid.errors import InputError

log = logging.getLogger(__name__)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into one line.

    Raises:
        InputError: `path` cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise InputError(path, f"cannot be written ({error.strerror or error})") from None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a file atomically: completely or not at all.

    The next process overwrites what a killed process left.

    Args:
        path: The file; its folder is created if it is missing.

    Yields:
        A temporary file to write, which replaces `path` when the block ends.

    Raises:
        InputError: The file cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield new
        new.replace(path)


@dataclass
class _NotVisited:
    """What `_visit` skips: links to visited folders, broken links, and folders that cannot be opened."""

    again: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield every folder at or below `root` with the sorted names of its files.

    Links to folders are followed, and each real folder is visited once. Its own path below `root` takes
    precedence over links to it. A link to a folder above `root` is a loop and is skipped. Hidden files and
    folders are left out. At the end one log line lists what was skipped.

    Args:
        root: A folder.

    Yields:
        The folder, as a path below `root`, and the names of its files.
    """
    passed = _NotVisited()
    yield from _visit(root, passed)
    reasons = (
        (passed.again, "links to folders that were already read or lie above"),
        (passed.broken, "broken links"),
        (passed.closed, "folders that cannot be opened"),
    )
    said = [f"{len(paths):,} {what} ({some(paths, below=root)})" for paths, what in reasons if paths]
    if said:
        log.warning("%s: left out %s", root, "; ".join(said))


def names_below(root: Path) -> Iterator[str]:
    """The names of all files at or below `root`; none if there is no such folder.

    It does not log, because it only inspects a folder that may be read later.
    """
    return (name for _, names in _visit(root, _NotVisited()) for name in names)


def _visit(root: Path, passed: _NotVisited) -> Iterator[tuple[Path, list[str]]]:
    real_root = Path(os.path.realpath(root))
    visited: set[str] = set()
    places = [root]  # a stack
    links: list[Path] = []  # a queue, visited when the stack is empty
    while places or links:
        place = places.pop() if places else links.pop(0)
        real = os.path.realpath(place)
        if real in visited or (Path(real) != real_root and real_root.is_relative_to(real)):
            passed.again.append(place)
            continue
        visited.add(real)
        try:
            found = _scan(place)
        except OSError:
            passed.closed.append(place)
            continue
        places += reversed(found.folders)
        links += found.links
        passed.broken += found.broken
        yield place, found.files


@dataclass
class _Scanned:
    """The entries of a folder, sorted by name, without hidden ones."""

    files: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)


def _scan(place: Path) -> _Scanned:
    found = _Scanned()
    with os.scandir(place) as scanned:
        entries = sorted((entry for entry in scanned if entry.name[0] != "."), key=lambda entry: entry.name)
    for entry in entries:  # only links need a stat, so half a million files take seconds
        if _is_folder(entry):
            (found.links if entry.is_symlink() else found.folders).append(place / entry.name)
        elif _leads_nowhere(entry) and not is_picture(entry.name):
            found.broken.append(place / entry.name)  # opening a picture reports its broken link
        else:
            found.files.append(entry.name)
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or without permission
        return False


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return False
    try:
        entry.stat()
    except OSError:
        return True
    return False


def is_picture(name: str) -> bool:
    """Whether a file is a picture, by its suffix."""
    return name[name.rfind(".") :].lower() in SUFFIXES


def pictures_below(folder: Path) -> list[Path]:
    """All picture files below `folder`, sorted by path; none if there is no such folder.

    One log line lists the other files.
    """
    if not folder.is_dir():
        return []
    files = [(place, name) for place, names in walk(folder) for name in names]
    if others := passed_over(name for _, name in files):
        log.info("%s: %s", folder, others)
    return sorted(place / name for place, name in files if is_picture(name))


def passed_over(names: Iterable[str]) -> str:
    """A sentence about the files that are not pictures; empty if there are none.

    Args:
        names: File names. Pictures (by suffix) and hidden files are not counted.

    Returns:
        For example ``12 files are not pictures, by their suffixes: .txt (10), .mp4 (2)``.
    """
    endings = Counter(
        Path(name).suffix.lower() or "no suffix"
        for name in names
        if not name.startswith(".") and not is_picture(name)
    )
    if not endings:
        return ""
    commonest = sorted(endings.items(), key=lambda item: (-item[1], item[0]))[:5]
    shown = ", ".join(f"{ending} ({count:,})" for ending, count in commonest)
    more = f" and {len(endings) - 5} other suffixes" if len(endings) > 5 else ""
    many = endings.total()
    are = "file is not a picture, by its suffix" if many == 1 else "files are not pictures, by their suffixes"
    return f"{many:,} {are}: {shown}{more}"


def find_pictures(folder: Path) -> list[Path]:
    """All picture files below `folder`, sorted by path, without hidden files and folders.

    Raises:
        InputError: There is no such folder, or it has no pictures.
    """
    if not folder.is_dir():
        raise InputError(folder, "no such folder")
    paths = pictures_below(folder)
    if not paths:
        raise InputError(folder, f"has no pictures (looked for {', '.join(sorted(SUFFIXES))})")
    return paths


def matching(pattern: Path) -> list[Path]:
    """The files and folders that match an absolute pattern such as ``/day1/*.jpg``, sorted by path.

    ``**`` matches any folders below, including linked ones (see `walk`). A pattern that ends in ``**``
    matches the folder before it.
    """
    return sorted(_matching(Path(pattern.anchor), pattern.parts[1:]))


def _matching(start: Path, parts: tuple[str, ...]) -> set[Path]:
    if "**" not in parts:
        # Two stars within a name mean one, as in any shell.
        return set(start.glob(re.sub(r"\*+", "*", str(Path(*parts))))) if parts else {start}
    at = parts.index("**")
    folders = [folder for folder in _matching(start, parts[:at]) if folder.is_dir()]
    if at + 1 == len(parts):
        return set(folders)
    return {
        path for folder in folders for place, _ in walk(folder) for path in _matching(place, parts[at + 1 :])
    }


def some(paths: Sequence[Path], count: int = 5, below: Path | None = None) -> str:
    """The first of many paths for a message: their names, or their paths relative to `below`."""
    first = [path.relative_to(below).as_posix() if below else path.name for path in paths[:count]]
    return ", ".join(first) + (", …" if len(paths) > count else "")
