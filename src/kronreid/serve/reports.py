"""The reports that evaluations wrote: pages below one folder, and nothing else."""

import html
import os
import re
import stat
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from kronreid.serve.pictures import read_regular
from kronreid.serve.schemas import Report

#: How many levels of folders are searched, and how many pages are listed.
DEPTH = 4
MOST = 500

_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.DOTALL | re.IGNORECASE)


def listing(root: Path) -> dict[str, Path]:
    """The pages below a folder by name, newest first. Links are not followed; hidden files are left out."""
    found: list[tuple[float, str, Path]] = []
    for folder, folders, files in os.walk(root, followlinks=False):
        here = Path(folder)
        deep = len(here.relative_to(root).parts) >= DEPTH
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = here / name
            if name.startswith(".") or path.suffix.lower() != ".html":
                continue
            try:
                status = path.lstat()
            except OSError:  # it is gone by now
                continue
            if stat.S_ISREG(status.st_mode):  # neither a link nor a pipe, which might never end
                found.append((status.st_mtime, path.relative_to(root).as_posix(), path))
    return {name: path for _, name, path in sorted(found, reverse=True)[:MOST] if is_text(name)}


def describe(name: str, path: Path) -> Report:
    """A report's entry in the page's list."""
    with path.open("rb") as file:
        title = _TITLE.search(file.read(4096))
    text = html.unescape(title[1].decode("utf-8", "replace")).strip() if title else ""
    modified = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).isoformat(timespec="seconds")
    return Report(name=name, title=text or name, url=f"/reports/{quote(name)}", modified=modified)


def describe_all(root: Path) -> list[Report]:
    """Every report. A file that disappears meanwhile is left out."""
    found = []
    for name, path in listing(root).items():
        try:
            found.append(describe(name, path))
        except OSError:
            continue
    return found


def content(root: Path, name: str) -> bytes | None:
    """The page of that name; None if it is not in the listing or cannot be read."""
    path = listing(root).get(name)
    try:
        return read_regular(path) if path is not None else None
    except OSError:
        return None


def is_text(name: str) -> bool:
    """Whether a file's name is valid Unicode, so that it can be part of an address."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
