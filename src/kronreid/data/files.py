"""Finding files below a folder, through links."""

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
    """Write a file whole or not at all. What a killed process left is written over by the next.

    Args:
        path: The file; its folder is made if it is missing.

    Yields:
        A file beside it to write, which takes its place when the block ends.

    Raises:
        InputError: It cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield new
        new.replace(path)


@dataclass
class _NotVisited:
    """What `_visit` passes over: links to where it has been, links to nothing, folders it may not open."""

    again: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder at or below `root`, each with the sorted names of its files.

    Links to folders are followed, and each real folder is visited once: its own place below `root` comes
    before any link to it, and a link to a folder above `root` is a loop. Hidden files and folders are left
    out. At the end, one line of the log says what was not visited.

    Args:
        root: A folder.

    Yields:
        The folder, as a path below `root`, and the names of its files.
    """
    passed = _NotVisited()
    yield from _visit(root, passed)
    reasons = (
        (passed.again, "links to folders that are read already, or above this one"),
        (passed.broken, "links to nothing"),
        (passed.closed, "folders that cannot be opened"),
    )
    said = [f"{len(paths):,} {what} ({some(paths, below=root)})" for paths, what in reasons if paths]
    if said:
        log.warning("%s: left out %s", root, "; ".join(said))


def names_below(root: Path) -> Iterator[str]:
    """The names of all files at or below `root`; none where there is no such folder.

    It is for a look at a folder that may be read later: it says nothing in the log.
    """
    return (name for _, names in _visit(root, _NotVisited()) for name in names)


def _visit(root: Path, passed: _NotVisited) -> Iterator[tuple[Path, list[str]]]:
    real_root = Path(os.path.realpath(root))
    visited: set[str] = set()
    places = [root]  # the last is visited next
    links: list[Path] = []  # visited when there are no other places
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
    """What lies directly in a folder, sorted by name, hidden names left out."""

    files: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)


def _scan(place: Path) -> _Scanned:
    found = _Scanned()
    with os.scandir(place) as scanned:
        entries = sorted((entry for entry in scanned if entry.name[0] != "."), key=lambda entry: entry.name)
    for entry in entries:  # half a million files in seconds: a stat of links alone
        if _is_folder(entry):
            (found.links if entry.is_symlink() else found.folders).append(place / entry.name)
        elif _leads_nowhere(entry) and not is_picture(entry.name):
            found.broken.append(place / entry.name)  # a broken link of a picture is named by whoever opens it
        else:
            found.files.append(entry.name)
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where one may not look
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
    """Whether a file is a picture by the ending of its name."""
    return name[name.rfind(".") :].lower() in SUFFIXES


def pictures_below(folder: Path) -> list[Path]:
    """Every picture file below `folder`, sorted by path; none where there is no such folder.

    One line of the log says which other files lie there.
    """
    if not folder.is_dir():
        return []
    files = [(place, name) for place, names in walk(folder) for name in names]
    if others := passed_over(name for _, name in files):
        log.info("%s: %s", folder, others)
    return sorted(place / name for place, name in files if is_picture(name))


def passed_over(names: Iterable[str]) -> str:
    """A sentence about files that were left out for their names; empty if there is none of them.

    Args:
        names: File names; those with an ending of `SUFFIXES` and hidden ones are not counted.

    Returns:
        For example ``12 files are no pictures by their names: .txt (10), .mp4 (2)``.
    """
    endings = Counter(
        Path(name).suffix.lower() or "no ending"
        for name in names
        if not name.startswith(".") and not is_picture(name)
    )
    if not endings:
        return ""
    commonest = sorted(endings.items(), key=lambda item: (-item[1], item[0]))[:5]
    shown = ", ".join(f"{ending} ({count:,})" for ending, count in commonest)
    more = f" and {len(endings) - 5} other endings" if len(endings) > 5 else ""
    many = endings.total()
    are = "file is no picture by its name" if many == 1 else "files are no pictures by their names"
    return f"{many:,} {are}: {shown}{more}"


def find_pictures(folder: Path) -> list[Path]:
    """Every picture file below `folder`, sorted by path; hidden files and folders are left out.

    Raises:
        InputError: There is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise InputError(folder, "no such folder")
    paths = pictures_below(folder)
    if not paths:
        raise InputError(folder, f"no pictures in it (looked for {', '.join(sorted(SUFFIXES))})")
    return paths


def matching(pattern: Path) -> list[Path]:
    """The files and folders that fit an absolute pattern such as ``/day1/*.jpg``, sorted by path.

    ``**`` stands for any folders below a place, those behind links among them (see `walk`). A pattern that
    ends in ``**`` gives the folder before it.
    """
    return sorted(_matching(Path(pattern.anchor), pattern.parts[1:]))


def _matching(start: Path, parts: tuple[str, ...]) -> set[Path]:
    if "**" not in parts:
        # Two stars within a name are one, as in any shell.
        return set(start.glob(re.sub(r"\*+", "*", str(Path(*parts))))) if parts else {start}
    at = parts.index("**")
    folders = [folder for folder in _matching(start, parts[:at]) if folder.is_dir()]
    if at + 1 == len(parts):
        return set(folders)
    return {
        path for folder in folders for place, _ in walk(folder) for path in _matching(place, parts[at + 1 :])
    }


def some(paths: Sequence[Path], count: int = 5, below: Path | None = None) -> str:
    """The first of many paths for a message: their names, or where they lie `below` a folder."""
    first = [path.relative_to(below).as_posix() if below else path.name for path in paths[:count]]
    return ", ".join(first) + (", …" if len(paths) > count else "")
