"""Who searched for what, and when: a file of JSON lines that only grows."""

import json
from pathlib import Path
from typing import Any

from kronreid.serve.files import append_line, make_private
from kronreid.serve.marks import now
from kronreid.serve.opened import OutOfOrder


class Audit:
    """The audit log.

    The file is opened for every line, so that it can be moved away at any time.

    Args:
        path: The file; None keeps no log.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None:
            make_private(path.parent)
            self.write("start")

    def write(self, action: str, client: str = "", **details: Any) -> None:
        """Add one line.

        Raises:
            OutOfOrder: It cannot be written. What cannot be accounted for is not answered.
        """
        if self.path is None:
            return
        try:
            line = {"time": now(), "action": action, "client": client}
            # What was asked for cannot take the place of when and who, and, as ASCII, nothing can move a
            # reader's cursor or break its line.
            append_line(self.path, json.dumps(line | details | line))
        except OSError as error:
            raise OutOfOrder("", f"the audit log cannot be written ({error.strerror or error})") from error
