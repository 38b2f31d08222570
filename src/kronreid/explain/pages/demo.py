"""The report of the demonstration: one self-contained HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from kronreid.explain.charts import Chart, chart_svg, draw_curves
from kronreid.explain.heat import Picture
from kronreid.explain.pages import MEASURES, RankedPictures, percent, render
from kronreid.explain.style import bitmap

Metrics = Mapping[str, object]

_NAMES = {"horeid": "HOReID", "kpm": "KPM", "places": "HOReID with places", "reranked": "HOReID, then KPM"}
_FACTS = (("protocol", "protocol {}"), ("queries", "{} queries"), ("gallery", "{} gallery pictures"))


@dataclass(frozen=True)
class Plate:
    """A figure with a title and one sentence that explains it."""

    figure: Figure
    title: str
    caption: str


@dataclass(frozen=True)
class Command:
    """A command to try next, and its purpose."""

    purpose: str
    line: str


@dataclass(frozen=True)
class Member:
    """A person that was found in front of the cameras.

    Attributes:
        name: What the person is called.
        cameras: For each camera that saw the person, its name and pictures.
    """

    name: str
    cameras: Sequence[tuple[str, Sequence[Picture]]]


@dataclass(frozen=True)
class StreetReport:
    """What was found in the videos of a street.

    Attributes:
        summary: One or two sentences: the videos, what was found and how well.
        frames: For each camera, its name and a frame with boxes.
        people: Some of the people.
    """

    summary: str
    frames: Sequence[tuple[str, Picture]]
    people: Sequence[Member]


@dataclass(frozen=True)
class DemoReport:
    """The content of the report.

    Attributes:
        metrics: The content of metrics.json: for each model `untrained` and `trained`, each with the keys of
            `evaluate --json` (fractions), and `places` and `reranked` with the same keys.
        data: One sentence about the generated data: the numbers of pictures, people and cameras.
        charts: Training curves (loss, mAP).
        contact_sheet: A selection of the generated pictures.
        ranked_lists: Queries of the test set with their hits.
        gallery_search: A search of the gallery with a picture that is not in it.
        plates: Correspondences, attention and part maps.
        commands: Commands to try next.
        timings: Duration of each step in seconds, in order.
        street: What was found in the videos of a street; None without videos.
    """

    metrics: Mapping[str, Mapping[str, object]]
    data: str
    charts: Sequence[Chart]
    contact_sheet: Picture
    ranked_lists: Sequence[RankedPictures]
    gallery_search: RankedPictures
    plates: Sequence[Plate]
    commands: Sequence[Command]
    timings: Mapping[str, float] = field(default_factory=dict)
    street: StreetReport | None = None


def write_demo_report(folder: Path, report: DemoReport) -> Path:
    """Write `folder`/index.html and return its path. The folder is created if it is missing.

    Pictures are inlined, all text is escaped, and the page's content security policy forbids loading
    anything.
    """
    html = render(
        "demo.html",
        report=report,
        charts=[
            (one, chart_svg(draw_curves, one, f"{one.title}: {one.ylabel} against {one.xlabel}"))
            for one in report.charts
        ],
        plates=[(plate, bitmap(plate.figure)) for plate in report.plates],
        columns=_columns(report.metrics),
        measures=MEASURES,
        best={key: _best(report.metrics, key) for key, _, _ in MEASURES},
        facts={key: _shared(report.metrics, key, words) for key, words in _FACTS},
        headline=headline(report.metrics),
        total=sum(report.timings.values()),
        longest=max(report.timings.values(), default=0.0),
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


def headline(metrics: Mapping[str, Mapping[str, object]]) -> str:
    """The headline: one sentence with the rank-1 rates before and after training."""
    sentences = []
    for key, states in metrics.items():
        before, after = _value(states.get("untrained"), "rank1"), _value(states.get("trained"), "rank1")
        if before is not None and after is not None:
            # No-break spaces keep each number with its per cent sign.
            sentences.append(
                f"from {percent(before)} to {percent(after)}\u00a0% with\u00a0{_NAMES.get(key, key)}"
            )
    if not sentences:
        return "Trained, evaluated and searched on generated pedestrians."
    joined = sentences[0] if len(sentences) == 1 else f"{', '.join(sentences[:-1])} and {sentences[-1]}"
    return f"Training took rank-1 on unseen people {joined}."


@dataclass(frozen=True)
class _Model:
    """One column group of the table: a model, and the name and metrics of each of its states."""

    name: str
    states: tuple[tuple[str, Metrics], ...]


def _columns(metrics: Mapping[str, Mapping[str, object]]) -> list[_Model]:
    groups = []
    for key, entry in metrics.items():
        states = [(state, entry[state]) for state in ("untrained", "trained") if state in entry]
        chosen = tuple((state, found) for state, found in states if isinstance(found, Mapping))
        # The re-ranked result has no states. It belongs to the trained models.
        groups.append(_Model(_NAMES.get(key, key), chosen or (("trained", entry),)))
    return groups


def _best(metrics: Mapping[str, Mapping[str, object]], key: str) -> str:
    values = [_value(found, key) for group in _columns(metrics) for _, found in group.states]
    return percent(max((value for value in values if value is not None), default=None))


def _shared(metrics: Mapping[str, Mapping[str, object]], key: str, words: str) -> str:
    """The value of `key` in words if all results share it; otherwise empty."""
    values = {str(found.get(key, "")) for group in _columns(metrics) for _, found in group.states}
    value = values.pop() if len(values) == 1 else ""
    return words.format(value) if value else ""


def _value(metrics: object, key: str) -> float | None:
    return _number(metrics.get(key)) if isinstance(metrics, Mapping) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
