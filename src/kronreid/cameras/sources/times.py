"""When a recording began, and what its camera is called."""

import logging
from datetime import datetime, timezone
from pathlib import Path

from kronreid.data.names import time_in

log = logging.getLogger(__name__)

#: Some recorders write the zero of their clock, 1904 or 1970, as the time of creation.
_EARLIEST = datetime(1990, 1, 1, tzinfo=timezone.utc).timestamp()


def began(path: Path, name: str, created: str | None, modified: float) -> float:
    """When the first frame of a recording was taken, in seconds since 1970 (UTC).

    Args:
        path: The file or folder, for the log.
        name: Its name without the suffix.
        created: The time that the container states, if it states one.
        modified: What to take if neither the container nor the name has a time: when the file was written,
            less its duration.

    Returns:
        The container's time, else the time in the name, else `modified`.
    """
    if created:
        try:
            stated = datetime.fromisoformat(created.strip().replace("Z", "+00:00"))
        except ValueError:
            log.warning("%s: the container's time %r cannot be read", path, created[:40])
        else:
            seconds = (stated if stated.tzinfo else stated.replace(tzinfo=timezone.utc)).timestamp()
            if seconds >= _EARLIEST:
                return seconds
    if found := time_in(name):
        return found[0]
    moment = datetime.fromtimestamp(modified, timezone.utc).isoformat(timespec="seconds")
    log.warning("%s: has no time; the first frame is assumed to be of %s, by the file's date", path, moment)
    return modified


def camera_named(path: Path, stem: str) -> str:
    """The name of a camera: the name of its recording without the time, or that of the folder around it."""
    found = time_in(stem)
    plain = (found[1] if found else stem).strip(" ._-")
    return plain or path.absolute().parent.name or stem
