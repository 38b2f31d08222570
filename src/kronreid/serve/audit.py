"""The audit log: who did what, and when, as JSON lines in a file that only grows."""

import json
from pathlib import Path
from typing import Any

from kronreid.serve.files import append_line, make_private
from kronreid.serve.marks import now
from kronreid.serve.opened import OutOfOrder


class Audit:
    """The audit log.

    The file is opened for every line, so it can be moved away at any time.

    Args:
        path: The file; None for no log.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None:
            make_private(path.parent)
            self.write("start")

    def write(self, action: str, client: str = "", **details: Any) -> None:
        """Add one line.

        Args:
            action: What was done.
            client: The address of whoever did it.
            details: What else to log.

        Raises:
            OutOfOrder: The line cannot be written. A request that cannot be logged is not answered.
        """
        if self.path is None:
            return
        try:
            line = {"time": now(), "action": action, "client": client}
            # Details cannot replace the time, the action or the client. The line is ASCII, so nothing in it
            # can end the line or control a reader's terminal.
            append_line(self.path, json.dumps(line | details | line))
        except OSError as error:
            raise OutOfOrder("", f"the audit log cannot be written ({error.strerror or error})") from error
