"""How answers show what a gallery knows."""

from pathlib import Path
from typing import Any

from kronreid.gallery import Entry
from kronreid.gallery.filters import format_time


def item(entry: Entry, size: tuple[int, int] | None) -> dict[str, Any]:
    """The fields of `schemas.Item`.

    Args:
        entry: The picture.
        size: Its width and height, if known.
    """
    return {
        "id": entry.id,
        "picture": f"/api/pictures/{entry.id}",
        "name": printable(entry.path.name),
        "camera": sound(entry.camera),
        "time": moment(entry.time),
        "identity": sound(entry.identity),
        "source": sound(entry.source),
        "attributes": sound(entry.attributes),
        "width": size and size[0],
        "height": size and size[1],
    }


def moment(seconds: float | None) -> str | None:
    """ISO 8601 in UTC; None for an unknown time, or one that no calendar has (often, milliseconds)."""
    try:
        return format_time(seconds) or None
    except (ValueError, OverflowError, OSError):
        return None


def natural(text: str | None) -> tuple[bool, int, str]:
    """A key that sorts camera 2 before camera 10, and unknown cameras last."""
    return text is None, int(text) if text and text.isdecimal() else 10**9, text or ""


def printable(text: str) -> str:
    """A file's name in which bytes that are not valid UTF-8 are shown by their numbers."""
    return text.encode("utf-8", "backslashreplace").decode()


def sound(value: Any) -> Any:
    """A stored value with `printable` texts, whatever else has written to the database."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(key)): sound(inner) for key, inner in value.items()}
    return [sound(inner) for inner in value] if isinstance(value, list | tuple) else value


def without_folders(message: str) -> str:
    """A message about a file, with the file's name in place of its path."""
    path, colon, rest = message.partition(": ")
    return printable(f"{Path(path).name}{colon}{rest}")
