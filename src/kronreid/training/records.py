"""Which row of the papers a run is. Training records it, and it is read from the run's folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kronreid.data.check import describe
from kronreid.data.files import walk
from kronreid.data.readers import LAYOUTS
from kronreid.data.records import ReIDDataset
from kronreid.errors import InputError
from kronreid.models import MODELS
from kronreid.models.folders import HISTORY, OPTIONS, RECORD
from kronreid.models.pairs import PairModel
from kronreid.papers import Measured, label, row_names, way
from kronreid.training.config import Config, read_config
from kronreid.training.history import read_history

log = logging.getLogger(__name__)

#: Options that say where and how a run computes. They do not change what it learns.
INDIFFERENT = frozenset(
    {
        "data.root",
        "data.usual_layout",
        "data.usual_protocol",
        "data.workers",
        "data.keep",
        "training.seed",
        "training.devices",
        "training.accelerator",
        "training.evaluate_every",
    }
)
#: Options that a record does not list as changed, because its description of the data has them.
DESCRIBED = frozenset({"data.layout", "data.protocol", "data.split"})
#: How many candidates evaluation while training re-scored in histories that do not say it.
EARLIER_TOP = 75
METRICS = ("rank1", "rank5", "rank10", "mAP")


def changes(row: Config, run: Config) -> dict[str, tuple[Any, Any]]:
    """Options that matter and differ, by dotted name: the row's value and the run's, or None without one.

    If a config does not name layout and protocol of its data, the ones that it was written for are compared.
    """
    mine, other = _options(run), _options(row)
    names = sorted((mine.keys() | other.keys()) - INDIFFERENT)
    return {
        name: (other.get(name), mine.get(name))
        for name in names
        # Places are fitted when the model is trained: its vectors, which the papers' figures are of, are the
        # same.
        if other.get(name) != mine.get(name) and not name.startswith("places.")
    }


def record(config: Config, dataset: ReIDDataset, source: str | None) -> str:
    """The content of ``run.json``: the run's row, its changes to the row, and the contents of its data set.

    Args:
        config: The run's options.
        dataset: As it was read, with the protocol for its evaluation.
        source: The row or config file that the run was started with; None without one.
    """
    row = source if source in row_names() else None
    changed = changes(read_config(row), config) if row else {}
    values = {
        "row": row,
        "changed": {option: both for option, both in changed.items() if option not in DESCRIBED},
        # What evaluation while training uses. Its depth stands in the history.
        "evaluation": {"matcher": None, "precision": "fp32"},
        "data": asdict(describe(dataset, config.data.split, dataset.protocol, "train")),
    }
    return json.dumps(values, indent=2) + "\n"


def read_runs(folders: Sequence[Path]) -> list[Measured]:
    """Read every run in or below some folders.

    A run from before there were records has none. It is a row if all its options are those of the row.

    Args:
        folders: Where to look.

    Raises:
        InputError: A folder is missing or has no run, or a run's files are damaged.
    """
    runs: dict[Path, Path] = {}  # by where they really are
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"--runs {folder}", "no such folder")
        found = sorted(place for place, names in walk(folder) if OPTIONS in names)
        if not found:
            raise InputError(f"--runs {folder}", "holds no run; a run's folder has a config.yaml")
        for run in found:
            runs.setdefault(run.resolve(), run)
    unrecorded = [run for run in runs.values() if not (run / RECORD).is_file()]
    rows = list(_rows()) if unrecorded else []
    return [read_run(run, rows) for run in runs.values()]


def read_run(folder: Path, rows: Sequence[tuple[str, Config]] = ()) -> Measured:
    """Read a run's folder. A run without a record is looked up among `rows`.

    Raises:
        InputError: A file is missing or damaged.
    """
    config = read_config(folder / OPTIONS)
    history = read_history(folder / HISTORY) if (folder / HISTORY).is_file() else []
    done = int(history[-1]["iteration"]) if history else 0
    evaluated = [line for line in history if "mAP" in line]
    remaining = max(0, config.training.iterations - done)
    layout: str | None
    if (folder / RECORD).is_file():
        try:
            kept = json.loads((folder / RECORD).read_text())
            data, name = kept["data"], kept["row"]
            layout, protocol, split = data["layout"], data["protocol"], int(data.get("split", 0))
            changed = {key: (old, new) for key, (old, new) in kept["changed"].items() if key not in DESCRIBED}
            official = _official(layout, data["pictures"], data["identities"])
            words = _data_words(data, official)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(folder / RECORD, f"damaged ({type(error).__name__}: {error})") from None
    else:
        name = next((row for row, each in rows if not changes(each, config)), None)
        layout, changed, official, split = None, {}, False, config.data.split
        protocol = _options(config)["data.protocol"] or ""
        words = f"{Path(config.data.root or '').name or 'unknown'} (not counted)"
    model = MODELS.get(config.name)  # None for a plug-in's that is not loaded
    pairs = model is not None and issubclass(model, PairModel)
    results = {}
    if evaluated:
        last = evaluated[-1]
        how = way(int(last.get("rerank_top", EARLIER_TOP))) if pairs else ""
        results[label(protocol, how)] = {metric: last[metric] for metric in METRICS if metric in last}
    results |= dict(_evaluations(folder, layout, pairs))
    return Measured(str(folder), name, layout, words, official, changed, remaining, results, split)


def _rows() -> Iterator[tuple[str, Config]]:
    for name in tqdm(row_names(), desc="reading rows", unit=" rows", disable=None, leave=False):
        yield name, read_config(name)


def _evaluations(folder: Path, layout: str | None, pairs: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """The figures that `kronreid evaluate --json` wrote into a run's folder, by label, newest file last.

    A file is passed over if it is of a data set of another layout, or if another model or k-reciprocal
    re-ranking took part: its figures are not the run's own. Those of a pair model (`pairs`) are labelled by
    how many candidates it scored, and how precisely; those of vectors count only in full precision.
    """
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
        try:
            values = json.loads(path.read_text())
        except ValueError as error:
            raise InputError(path, f"no JSON ({error})") from None
        if isinstance(values, dict) and values.get("rerank_with") == "places":
            first = values.get("first_stage")
            values = values | first if isinstance(first, dict) else {}  # the vectors' own figures
        if isinstance(values, dict) and {"protocol", "rank1", "mAP"} <= values.keys():
            other = layout is not None and values.get("layout", layout) != layout
            helped = [name for name in ("matcher", "matcher_weight", "k_reciprocal") if values.get(name)]
            if values.get("splits", 1) > 1:
                helped.append("a mean over splits")
            precision = values.get("precision", "fp32")
            if precision != "fp32" and not pairs:
                helped.append(f"precision {precision}")
            if other or helped:
                why = f"layout {values['layout']}" if other else ", ".join(helped)
                log.warning("%s: passed over, it is not of the run by itself (%s)", path, why)
                continue
            # Earlier files have the depth that was named, if any.
            depth = values.get("rerank_top")
            how = way(EARLIER_TOP if depth is None else depth, precision) if pairs else ""
            yield label(values["protocol"], how), {m: values[m] for m in METRICS if m in values}


def _official(layout: str, pictures: dict[str, int], people: dict[str, int]) -> bool:
    """Whether the counts are equal to the published ones of the layout, as far as there are any."""
    known = LAYOUTS.get(layout)
    if known is None or known.published is None:
        return False
    pairs = [
        (here[part], there)
        for part in ("train", "query", "gallery")
        for here, there in (
            (pictures, known.published.parts[part].pictures),
            (people, known.published.parts[part].identities),
        )
    ]
    return all(there is None or here == there for here, there in pairs)


def _data_words(data: dict[str, Any], official: bool) -> str:
    known = LAYOUTS.get(data["layout"])
    split = f", split {data['split']}" if known and known.splits else ""
    if official:
        return f"{data['layout']}{split}"
    people, pictures = data["identities"], data["pictures"]
    return (
        f"{data['folder']}{split}: {pictures['train']:,} pictures of {people['train']:,} people; "
        f"{pictures['query']:,} queries of {people['query']:,}"
    )


def _options(config: Config) -> dict[str, Any]:
    data = config.data
    layout = data.layout or data.usual_layout
    known = LAYOUTS.get(layout or "")
    own = known.protocol if known else None
    said = {"data.layout": layout, "data.protocol": data.protocol_for(layout) or own}
    return dict(_flat(asdict(config))) | said


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, list(value) if isinstance(value, tuple) else value
