"""A run's ``history.csv``: a line for each epoch."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_history(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the whole file anew. It replaces the old one only when it is complete.

    Args:
        path: The file.
        rows: The lines, with values by column. A line may lack some.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    new = path.with_name(".new.csv")
    with new.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    new.replace(path)


def read_history(path: Path) -> list[dict[str, float]]:
    """The lines of a run's ``history.csv``. Epochs that were not evaluated have no metrics."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
