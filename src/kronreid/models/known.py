"""What a model folder tells about its model, for its card."""

import csv
import json
import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kronreid.data.check import Description
from kronreid.errors import InputError, one_line
from kronreid.models import MODELS
from kronreid.models.calibration import Calibration, load_calibration
from kronreid.models.folders import CONFIG, HISTORY, OPTIONS, RECORD, fingerprint, without_folders
from kronreid.models.pairs import PairModel
from kronreid.models.places import PlaceMatching, load_places, places_fingerprint
from kronreid.options import Share, checked

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Figures:
    """The figures of one ranking, as `kronreid.evaluation.Result.to_json` gives them."""

    protocol: str
    queries: int
    gallery: int
    rank1: Share
    rank5: Share
    rank10: Share
    mAP: Share
    mINP: Share
    rank1_interval: tuple[float, float] | None = None
    mAP_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Evaluation:
    """What `kronreid evaluate --json` wrote about a model.

    Attributes:
        name: The name of the file.
        figures: Of the last ranking.
        how: How the candidates of that ranking were re-scored; empty if they were not.
        first: The ranking before.
        data: The pictures.
    """

    name: str
    figures: Figures
    how: str
    first: Figures | None
    data: Description

    def rankings(self) -> list[tuple[str, Figures]]:
        """The rankings and how each was made, the first stage first."""
        last = (self.how or "vectors", self.figures)
        return [last] if self.first is None else [("vectors", self.first), last]


@dataclass(frozen=True)
class Known:
    """What a model folder tells.

    Attributes:
        config: The content of ``config.json``.
        fingerprint: Of the model.
        pairs: Whether it is a pair model.
        row: The row of the papers' tables that it is a run of, with the options that were changed.
        data: What it was trained on.
        options: All options of its training, without the paths of this machine.
        measured: The last line of the training's history, if the model was measured there.
        evaluations: What `kronreid evaluate` measured.
        places: Its place matching.
        calibration: What its scores mean.
        best: It is the best of several states of one training.
    """

    config: dict[str, Any]
    fingerprint: str
    pairs: bool
    row: tuple[str, dict[str, Any]] | None
    data: Description | None
    options: dict[str, Any] | None
    measured: dict[str, str] | None
    evaluations: list[Evaluation]
    places: PlaceMatching | None
    calibration: Calibration | None
    best: bool


def read(folder: Path) -> Known:
    """What a model folder tells. Damaged files are left out, and a line of the log names them."""
    config = json.loads((folder / CONFIG).read_text())
    model, places = fingerprint(folder), places_fingerprint(folder)
    best = folder.name == "best" and not (folder / RECORD).is_file() and (folder.parent / RECORD).is_file()
    run = folder.parent if best else folder
    record = _read(run / RECORD, json.loads) or {}
    data = _made(Description, record.get("data"), run / RECORD)
    changed = record.get("changed")
    row = (str(record["row"]), changed if isinstance(changed, dict) else {}) if record.get("row") else None
    options = without_folders(_read(run / OPTIONS, yaml.safe_load))
    if options is not None:
        options["data"] = {key: value for key, value in section(options, "data").items() if key != "root"}
    found = (_evaluation_in(path, model, places) for path in sorted(folder.glob("*.json")))
    known = MODELS.get(str(config.get("name")))
    return Known(
        config=config,
        fingerprint=model,
        pairs=known is not None and issubclass(known, PairModel),
        row=row,
        data=data,
        options=options,
        measured=_last_measured(folder / HISTORY),
        evaluations=[one for one in found if one is not None],
        places=_places(folder, model),
        calibration=load_calibration(folder, model, places),
        best=best,
    )


def _read(file: Path, parse: Any) -> dict[str, Any] | None:
    """The mapping in a file; None if there is none."""
    if not file.is_file():
        return None
    try:
        found = parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        log.warning("%s: is damaged and not in the model's card (%s)", file, one_line(error))
        return None
    return found if isinstance(found, dict) else None


def section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of options; empty without one."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _made(kind: type[T], values: Any, file: Path) -> T | None:
    """A dataclass of those values that it has fields for; None without values, or if they do not fit."""
    if not isinstance(values, dict):
        return None
    try:
        return checked(kind, {one.name: values[one.name] for one in fields(kind) if one.name in values}, "")  # type: ignore[arg-type]
    except InputError as error:
        log.warning("%s: is not in the model's card (%s)", file, error)
        return None


def _evaluation_in(file: Path, model: str, places: str | None) -> Evaluation | None:
    """The evaluation in a JSON file; None if it is none, or one of another model or of other places."""
    values = _read(file, json.loads)
    if values is None or not {"protocol", "mAP", "fingerprint"} <= values.keys():
        return None
    by_places = values.get("rerank_with") == "places"
    if values["fingerprint"] != model or (by_places and values.get("places_fingerprint") != places):
        return None
    figures = _made(Figures, values, file)
    first = _made(Figures, values.get("first_stage"), file)
    data = _made(Description, values.get("data"), file)
    if figures is None or data is None:
        return None
    return Evaluation(file.name, figures, _how(values), first, data)


def _how(values: dict[str, Any]) -> str:
    """How the candidates of an evaluation were re-scored; empty if they were not."""
    depth = values.get("rerank_top")
    which = "all" if depth == "all" else f"the best {depth}"
    kinds = {"places": f"{which} re-scored by the places", "itself": f"{which} scored as pairs"}
    by = kinds.get(values.get("rerank_with") or "", f"{which} re-scored by another model")
    said = ["k-reciprocal re-ranking"] if values.get("k_reciprocal") else []
    said += [by] if depth else []
    if values.get("precision", "fp32") != "fp32":
        said.append(f"computed in {values['precision']}")
    return ", ".join(said)


def _last_measured(history: Path) -> dict[str, str] | None:
    """The last line of a training's history if the model was measured then; None otherwise."""
    if not history.is_file():
        return None
    with history.open(newline="", encoding="utf-8", errors="replace") as file:
        last = ([{}, *csv.DictReader(file)])[-1]
    try:
        return last if 0 <= float(last["mAP"]) <= 1 and 0 <= float(last["rank1"]) <= 1 else None
    except (KeyError, TypeError, ValueError):
        return None


def _places(folder: Path, model: str) -> PlaceMatching | None:
    try:
        return load_places(folder, model)
    except InputError as error:
        log.warning("%s", error)
        return None
