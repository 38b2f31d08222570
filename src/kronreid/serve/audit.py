"""The audit log: who did what, and when, as JSON lines in a file that only grows."""

import json
import threading
from pathlib import Path
from typing import Any

from kronreid.errors import InputError
from kronreid.serve.files import append_lines, make_private
from kronreid.serve.marks import now
from kronreid.serve.opened import OutOfOrder

#: The most characters of a text, entries of a list or an object, and levels of a value in the log.
TEXT, ENTRIES, LEVELS = 300, 50, 4
#: The most characters of a line. Its details are left out if it would be longer.
LINE = 32_768


class Audit:
    """The audit log.

    The file is opened for every write, so it can be moved away at any time. Lines that several threads have
    to write at once are written together.

    Args:
        path: The file; None for no log.

    Raises:
        InputError: It cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._waiting: list[_Line] = []
        self._lock, self._writing = threading.Lock(), threading.Lock()
        if path is not None:
            try:
                if not path.parent.exists():  # an existing folder may be shared, like /var/log
                    make_private(path.parent)
                self.write("start")
            except OutOfOrder as error:
                raise InputError(path, error.what) from None

    def write(self, action: str, client: str = "", **details: Any) -> None:
        """Add one line, and wait until it is on the disk.

        Args:
            action: What is done.
            client: The address of whoever does it.
            details: What else to log.

        Raises:
            OutOfOrder: The line cannot be written. A request that cannot be logged is not answered.
        """
        if self.path is None:
            return
        head = {"time": now(), "action": action, "client": bounded(client)}
        # Details cannot replace the time, the action or the client. The line is ASCII, so nothing in it can
        # end the line or control a reader's terminal.
        text = json.dumps(head | bounded(details) | head)
        if len(text) > LINE:
            text = json.dumps(head | {"left_out": f"details of {len(text)} characters"})
        line = _Line(text)
        with self._lock:
            self._waiting.append(line)
        with self._writing:
            if not line.done:
                self._write_all()
        if line.error is not None:
            error = line.error
            raise OutOfOrder("", f"the audit log cannot be written ({error.strerror or error})") from error

    def _write_all(self) -> None:
        """Write every line that waits."""
        with self._lock:
            lines, self._waiting = self._waiting, []
        assert self.path is not None
        error = None
        try:
            append_lines(self.path, *[line.text for line in lines])
        except OSError as raised:
            error = raised
        for line in lines:
            line.done, line.error = True, error


class _Line:
    """A line that waits to be written."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.done = False
        self.error: OSError | None = None


def bounded(value: Any, level: int = 0) -> Any:
    """A value with its long parts shortened, so that no request can fill the log."""
    if isinstance(value, str):
        return value if len(value) <= TEXT else f"{value[:TEXT]}… ({len(value)} characters)"
    if isinstance(value, dict | list | tuple) and level == LEVELS:
        return "…"
    if isinstance(value, dict):
        return {
            bounded(str(key)): bounded(value[key], level + 1)
            for key, _ in zip(value, range(ENTRIES), strict=False)
        }
    if isinstance(value, list | tuple):
        kept = [bounded(part, level + 1) for part in value[:ENTRIES]]
        return kept if len(value) <= ENTRIES else [*kept, f"… ({len(value)} entries)"]
    return value
