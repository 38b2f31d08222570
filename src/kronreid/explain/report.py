"""The demonstration's report: one HTML file that shows what was trained and needs nothing beside it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup

from kronreid.errors import InputError
from kronreid.explain.canvas import Picture, as_image
from kronreid.explain.chart import Chart, chart_svg

Metrics = Mapping[str, object]

_NAMES = {"horeid": "HOReID", "kpm": "KPM", "reranked": "HOReID, then KPM"}
_MEASURES = (
    ("rank1", "rank-1", "the first hit is right"),
    ("rank5", "rank-5", "one of the first five is"),
    ("rank10", "rank-10", "one of the first ten is"),
    ("mAP", "mAP", "mean average precision"),
    ("mAP_trapezoid", "mAP, trapezoid", "Market-1501’s own rule, never higher"),
    ("mINP", "mINP", "how early the last right one comes"),
)
_FACTS = (("protocol", "protocol {}"), ("queries", "{} queries"), ("gallery", "{} gallery pictures"))


@dataclass(frozen=True)
class RankedList:
    """A query and its hits, best first.

    Attributes:
        query: the picture searched for.
        hits: the pictures found.
        correct: per hit, the same person or not; None where nobody knows.
        labels: per hit, what stands below it (a score, a camera).
        title: whose list it is.
        caption: one sentence that says what one sees.
    """

    query: Picture
    hits: Sequence[Picture]
    correct: Sequence[bool | None]
    labels: Sequence[str]
    title: str
    caption: str = ""

    def __post_init__(self) -> None:
        if not len(self.hits) == len(self.correct) == len(self.labels):
            raise InputError(
                f"ranked list {self.title!r}: {len(self.hits)} hits, {len(self.correct)} marks and "
                f"{len(self.labels)} labels; give one of each"
            )


@dataclass(frozen=True)
class Plate:
    """A figure with its title and one sentence that says what one sees."""

    figure: Picture
    title: str
    caption: str


@dataclass(frozen=True)
class Command:
    """A command to go on with and what it does."""

    purpose: str
    line: str


@dataclass(frozen=True)
class DemoReport:
    """All that the report shows.

    Attributes:
        metrics: as in metrics.json: per model `untrained` and `trained`, each with the keys of
            `evaluate --json` (fractions), and under `reranked` one such set.
        data: one sentence about the generated data: how many pictures, people, cameras.
        charts: training curves (loss, mAP).
        contact_sheet: a choice of the generated pictures.
        ranked_lists: queries of the test set with their hits.
        gallery_search: the search of the gallery with a picture that is not in it.
        plates: correspondences, attention and part maps.
        commands: how to go on.
        timings: seconds per step, in the order they were taken.
    """

    metrics: Mapping[str, Mapping[str, object]]
    data: str
    charts: Sequence[Chart]
    contact_sheet: Picture
    ranked_lists: Sequence[RankedList]
    gallery_search: RankedList
    plates: Sequence[Plate]
    commands: Sequence[Command]
    timings: Mapping[str, float] = field(default_factory=dict)


def write_demo_report(folder: Path, report: DemoReport) -> Path:
    """Write `folder`/index.html and return its path; the folder is made where it is missing.

    Pictures are inlined and nothing is loaded from anywhere: the page forbids it to itself. Every text of the
    report is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=duration, chart=chart_svg, thumbnail=_thumbnail, inlined=_inlined, percent=percent
    )
    html = environment.get_template("report.html").render(
        report=report,
        columns=_columns(report.metrics),
        measures=_MEASURES,
        best={key: _best(report.metrics, key) for key, _, _ in _MEASURES},
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
    """What the training changed, in one sentence of the figures themselves."""
    sentences = []
    for key, states in metrics.items():
        before, after = _value(states.get("untrained"), "rank1"), _value(states.get("trained"), "rank1")
        if before is not None and after is not None:
            # No-break spaces keep each number with its sign.
            sentences.append(
                f"from {percent(before)} to {percent(after)}\u00a0% with\u00a0{_NAMES.get(key, key)}"
            )
    if not sentences:
        return "Trained, evaluated and searched on generated pedestrians."
    joined = sentences[0] if len(sentences) == 1 else f"{', '.join(sentences[:-1])} and {sentences[-1]}"
    return f"Training took right first hits on unseen people {joined}."


def percent(fraction: object) -> str:
    """A fraction in per cent with one decimal, an en dash where there is none."""
    value = _number(fraction)
    return "–" if value is None else f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """Seconds in words: 0.4 s, 12 s, 3 min 20 s, 1 h 5 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass(frozen=True)
class _Model:
    """One group of the table: a model and its states, each a name and its metrics."""

    name: str
    states: tuple[tuple[str, Metrics], ...]


def _columns(metrics: Mapping[str, Mapping[str, object]]) -> list[_Model]:
    groups = []
    for key, entry in metrics.items():
        states = [(state, entry[state]) for state in ("untrained", "trained") if state in entry]
        chosen = tuple((state, found) for state, found in states if isinstance(found, Mapping))
        # The re-ranked result has no states: it is of the trained models.
        groups.append(_Model(_NAMES.get(key, key), chosen or (("trained", entry),)))
    return groups


def _best(metrics: Mapping[str, Mapping[str, object]], key: str) -> str:
    values = [_value(found, key) for group in _columns(metrics) for _, found in group.states]
    return percent(max((value for value in values if value is not None), default=None))


def _shared(metrics: Mapping[str, Mapping[str, object]], key: str, words: str) -> str:
    """What all results have in common, in words; empty where they differ or do not say."""
    values = {str(found.get(key, "")) for group in _columns(metrics) for _, found in group.states}
    value = values.pop() if len(values) == 1 else ""
    return words.format(value) if value else ""


def _value(metrics: object, key: str) -> float | None:
    return _number(metrics.get(key)) if isinstance(metrics, Mapping) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _thumbnail(picture: Picture) -> Markup:
    """A small picture of a person as a data URL."""
    image = as_image(picture)
    image.thumbnail((192, 256))
    return _data_url(image, quality=88)


def _inlined(picture: Picture) -> Markup:
    """A figure or sheet as a data URL, at most 2000 pixels wide."""
    image = as_image(picture)
    if image.width > 2000:
        image = image.resize((2000, round(image.height * 2000 / image.width)))
    return _data_url(image, quality=90)


def _data_url(image: Picture, quality: int) -> Markup:
    buffer = io.BytesIO()
    as_image(image).save(buffer, "WEBP", quality=quality, method=4)
    return Markup("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"))
