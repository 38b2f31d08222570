"""How long people need from one camera to another, as a small CSV or YAML file says."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import yaml

from kronreid.data.plain import read_plain
from kronreid.errors import InputError, one_line

_COLUMNS = ("from", "to", "seconds")
_MOST_BYTES = 4_000_000


def read_travel(path: Path) -> dict[tuple[str, str], float]:
    """The least seconds from one camera to another, by both names.

    Args:
        path: A CSV file with the columns ``from``, ``to`` and ``seconds``, or a YAML file with a list of
            such entries.

    Raises:
        InputError: It cannot be read, or an entry is incomplete.

    Example:
        >>> read_travel(Path("travel.csv"))
        {("gate", "yard"): 40.0}
    """
    try:
        text = read_plain(path, _MOST_BYTES).decode("utf-8-sig")
        rows = (
            _yaml(text)
            if path.suffix.lower() in (".yaml", ".yml")
            else list(csv.DictReader(io.StringIO(text)))
        )
    except (OSError, UnicodeDecodeError, csv.Error, yaml.YAMLError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise InputError(f"--travel {path}", f"cannot be read ({said})") from None
    found: dict[tuple[str, str], float] = {}
    for number, row in enumerate(rows, start=1):
        here, there, seconds = _way(row)
        if not (here and there and seconds >= 0):
            raise InputError(
                f"--travel {path}",
                f"entry {number} needs from and to, two cameras, and seconds, a number of at least 0",
            )
        found[here, there] = seconds
    if not found:
        raise InputError(f"--travel {path}", "has no entries; it needs from, to and seconds")
    return found


def _yaml(text: str) -> list[Any]:
    found = yaml.safe_load(text)
    return found if isinstance(found, list) else [found]


def _way(row: Any) -> tuple[str, str, float]:
    """An entry's cameras and seconds; NaN for what are no seconds."""
    values = [row.get(name) if isinstance(row, dict) else None for name in _COLUMNS]
    here, there = ("" if value is None else str(value).strip() for value in values[:2])
    try:
        seconds = float(values[2])  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = math.nan
    return here, there, seconds if math.isfinite(seconds) else math.nan
