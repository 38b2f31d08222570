"""Marks: users say whether a hit is the same person. They are kept for later training."""

import io
import json
import logging
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from kronreid.data.plain import read_plain
from kronreid.errors import InputError
from kronreid.locks import in_turn
from kronreid.serve.files import append_lines, make_private, write_once
from kronreid.text import CsvWriter

log = logging.getLogger(__name__)

COLUMNS = ("time", "query", "query_path", "query_box", "item", "item_path", "item_box", "same")


@dataclass(frozen=True)
class Mark:
    """One mark.

    Attributes:
        query: Identifier of the picture that was searched for.
        query_path: Its file.
        query_box: The part of it that shows the person, ``x,y,width,height``; empty for all of it.
        item: Identifier of the gallery's picture.
        item_path: Its file.
        item_box: Like `query_box`.
        same: Whether it shows the same person; None removes an earlier mark.
        time: When it was made, ISO 8601 in UTC.
    """

    query: str
    query_path: str
    query_box: str
    item: str
    item_path: str
    item_box: str
    same: bool | None
    time: str


class Marks:
    """All marks, in a file of JSON lines. The last line of each pair counts.

    Args:
        folder: Holds the file, and the uploads that were marked.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "feedback.jsonl"
        self._marks: dict[tuple[str, str], Mark] = {}
        self._lock = threading.Lock()
        if self._file.exists():
            try:
                text = read_plain(self._file, follow=False).decode("utf-8", "replace")
            except OSError as error:
                raise InputError(self._file, f"cannot be read ({error.strerror or error})") from None
            for number, line in enumerate(text.splitlines(), start=1):
                try:
                    self._take(Mark(**json.loads(line)))
                except (ValueError, TypeError):  # an incomplete line, after a crash
                    log.warning("%s: line %d is damaged and ignored", self._file, number)

    def add(self, mark: Mark) -> None:
        """Keep a mark. Once this returns, it is on disk."""
        with self._lock:
            make_private(self._folder)
            append_lines(self._file, json.dumps(asdict(mark)))
            self._take(mark)

    def keep_picture(self, id: str, jpeg: bytes) -> Path:
        """Store an uploaded picture beside the marks, once; returns the file."""
        folder = make_private(self._folder / "queries")
        return write_once(folder / f"{id}.jpg", jpeg)

    def forget(self, id: str) -> None:
        """Remove all marks of a picture, and the upload that was kept for it, from the disk as well."""
        with self._lock:
            (self._folder / "queries" / f"{id}.jpg").unlink(missing_ok=True)
            self._marks = {pair: mark for pair, mark in self._marks.items() if id not in pair}
            if not self._file.is_file():
                return
            with in_turn(self._file):
                lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
                left = [line for line in lines if id not in line]
                if len(left) < len(lines):
                    new = self._file.with_name(f".{self._file.name}.new")
                    new.touch(mode=0o600)
                    new.write_text("".join(left), encoding="utf-8")
                    new.replace(self._file)

    def same(self, queries: Iterable[str], item: str) -> bool | None:
        """The mark of a picture for a search with these queries; None without one."""
        for query in queries:
            mark = self._marks.get((query, item))
            if mark is not None:
                return mark.same
        return None

    def csv(self) -> str:
        """The marks that count, as CSV with a header."""
        text = io.StringIO()
        writer = CsvWriter(text)
        writer.row(COLUMNS)
        with self._lock:
            marks = list(self._marks.values())
        for mark in marks:
            writer.row([getattr(mark, name) for name in COLUMNS[:-1]] + [int(bool(mark.same))])
        return text.getvalue()

    def _take(self, mark: Mark) -> None:
        self._marks.pop((mark.query, mark.item), None)
        if mark.same is not None:
            self._marks[mark.query, mark.item] = mark


def now() -> str:
    """The current time, ISO 8601 in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
