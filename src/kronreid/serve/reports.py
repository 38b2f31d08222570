"""The reports that evaluations wrote: pages below one folder, and nothing else."""

import html
import os
import re
import stat
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from kronreid.data.plain import read_below
from kronreid.serve.schemas import Report

#: How many levels of folders are searched, and how many pages are listed.
DEPTH = 4
MOST = 500
#: The most bytes of a report.
MOST_BYTES = 64_000_000

_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.DOTALL | re.IGNORECASE)


def listing(root: Path) -> list[str]:
    """The names of the pages below a folder, newest first, without links and hidden files."""
    found: list[tuple[float, str]] = []
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
                found.append((status.st_mtime, path.relative_to(root).as_posix()))
    return [name for _, name in sorted(found, reverse=True)[:MOST] if is_text(name)]


def describe(root: Path, name: str) -> Report:
    """A report's entry in the page's list."""
    start, status = read_below(root, name, 4096)
    title = _TITLE.search(start)
    text = html.unescape(title[1].decode("utf-8", "replace")).strip() if title else ""
    modified = datetime.fromtimestamp(status.st_mtime, timezone.utc).isoformat(timespec="seconds")
    return Report(name=name, title=text or name, url=f"/reports/{quote(name)}", modified=modified)


def describe_all(root: Path) -> list[Report]:
    """Every report. A file that disappears meanwhile is left out."""
    found = []
    for name in listing(root):
        with suppress(OSError):
            found.append(describe(root, name))
    return found


def content(root: Path, name: str) -> bytes | None:
    """The page of that name; None if it is not in the listing or cannot be read."""
    if name not in listing(root):
        return None
    try:
        page, status = read_below(root, name, MOST_BYTES)
    except OSError:
        return None
    return page if len(page) == status.st_size else None


def is_text(name: str) -> bool:
    """Whether a file's name is valid Unicode, so that it can be part of an address."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
