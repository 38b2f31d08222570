"""Figures over all divisions of a data set into training and test, as CUHK03's original protocol asks for."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kronreid.errors import InputError

#: The figures of which a mean over divisions is taken, and their titles.
RATES = {"rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10", "mAP": "mAP", "mINP": "mINP"}


def split_folder(run: Path, split: int) -> Path:
    """The folder of the run that was trained on one division."""
    return run / f"split-{split}"


def split_models(model: str, splits: int) -> list[str]:
    """The models to evaluate on the divisions: those of a folder with a run for each, or one for all.

    Args:
        model: As ``kronreid evaluate`` takes it.
        splits: Number of divisions.

    Raises:
        InputError: Some divisions have a run and others have none.
    """
    folders = [split_folder(Path(model), split) for split in range(splits)]
    missing = [folder.name for folder in folders if not folder.is_dir()]
    if len(missing) == splits:
        return [model] * splits
    if missing:
        raise InputError(model, f"has no {', '.join(missing)}; train all {splits} splits first")
    return [str(folder) for folder in folders]


def summary(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of the divisions' figures, and their sample deviation, as plain values for JSON.

    Args:
        each: The figures of every division, at least one, as `Result.to_json` gives them.
    """
    rates = [name for name in RATES if all(name in one for one in each)]
    columns = {name: [float(one[name]) for one in each] for name in rates}
    return {
        "splits": len(each),
        **{name: statistics.fmean(values) for name, values in columns.items()},
        "deviation": {
            name: statistics.stdev(values) if len(values) > 1 else 0.0 for name, values in columns.items()
        },
        "each": list(each),
    }


def summary_lines(found: Mapping[str, Any]) -> list[list[str]]:
    """A `summary` as the lines of a table, in per cent: a line for each division, and the mean at the end."""
    rates = [name for name in RATES if name in found]
    lines = [["split", *(RATES[name] for name in rates)]]
    for split, one in enumerate(found["each"]):
        lines.append([str(split), *(f"{100 * one[name]:.2f}" for name in rates)])
    mean = [f"{100 * found[name]:.2f} ± {100 * found['deviation'][name]:.2f}" for name in rates]
    return [*lines, [f"mean of {found['splits']}", *mean]]
