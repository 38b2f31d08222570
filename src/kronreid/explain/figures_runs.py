"""The papers' figures from trained runs, and the numbers that describe them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kronreid.data.images import ImageLike
from kronreid.data.records import Picture, ReIDDataset, identities
from kronreid.errors import InputError
from kronreid.explain import figures, parts
from kronreid.explain.figures import Orders
from kronreid.explain.figures_landmarks import landmark_figure
from kronreid.explain.figures_temperatures import (
    KPM_TEMPERATURES,
    RSA_TEMPERATURES,
    AtTemperature,
    attention_temperatures,
    matching_temperatures,
    temperature,
)
from kronreid.explain.landmarks import correspondences_found, landmark_similarities, landmarks_of
from kronreid.explain.parts import Insight, Point
from kronreid.explain.style import save_figure
from kronreid.models.horeid import HOReID
from kronreid.models.inference import Explanation, Matcher
from kronreid.models.loading import load

#: The maps that HOReID's Figure 6 shows.
PAPER_CHANNELS = (2, 3, 5, 8, 10, 13, 24, 32, 39, 45, 53, 60)
#: (x, y) of chest, hip and shin of a person who stands upright in the middle of the picture.
BODY = ((0.5, 0.25), (0.5, 0.5), (0.5, 0.8))

NUMBERS = "numbers.json"


@dataclass(frozen=True)
class Drawn:
    """A figure that was written.

    Attributes:
        name: Name of its files, without `.png` and `.svg`.
        shows: The paper's figure that it reproduces.
        finding: A sentence with numbers that says what the figure shows.
        numbers: The same numbers for programs.
    """

    name: str
    shows: str
    finding: str
    numbers: dict[str, Any]


def pairs_of(dataset: ReIDDataset, count: int = 3) -> list[Picture]:
    """A query and a gallery picture from another camera, for each of `count` people.

    The people are spread evenly over the query identities, so the choice is always the same.

    Args:
        dataset: Provides query and gallery pictures.
        count: Number of people; fewer if the data set has fewer.

    Returns:
        Pictures; 2i and 2i+1 are a pair.

    Raises:
        InputError: No query has a gallery picture from another camera.
    """
    pairs = []
    for identity in identities(dataset.query):
        query = next(picture for picture in dataset.query if picture.identity == identity)
        others = (p for p in dataset.gallery if p.identity == identity and p.camera != query.camera)
        if found := next(others, None):
            pairs.append((query, found))
    if not pairs:
        raise InputError(
            dataset.root, "no query has a gallery picture from another camera; choose --pictures yourself"
        )
    count = min(count, len(pairs))
    return [picture for number in range(count) for picture in pairs[number * len(pairs) // count]]


def draw_figures(
    runs: Sequence[Path],
    pictures: Sequence[ImageLike],
    out: Path,
    points: Sequence[Point] = BODY,
    keypoints: Path | None = None,
) -> list[Drawn]:
    """Draw all figures that the runs can provide, as PNG and SVG, with their numbers in ``numbers.json``.

    A HOReID run gives similarities by order (Figure 2), feature maps as colours (Figure 4) and parts (Figure
    6). All runs with parts share one figure of parts, which compares runs with and without DSR. Runs of
    different orders also share one figure of similarities. With keypoints, a HOReID run also gives the
    similarities of landmarks (Figure 5). A KPM run gives attention and matching (Figure 6), also at the
    temperatures of Table 6; runs with different temperatures share one figure of each.

    Args:
        runs: Model folders.
        pictures: Pictures 2i and 2i+1 show one person.
        out: The folder to write to; it is created if it is missing.
        points: (x, y) of the places whose matching is shown, as fractions of the first picture of each pair.
        keypoints: Where the pictures' landmarks are, see `landmarks_of`.

    Returns:
        The figures that were written.

    Raises:
        InputError: A run has no such figure, two runs are the same, or the number of pictures is odd or zero.
    """
    if not pictures or len(pictures) % 2:
        raise InputError("--pictures", f"{len(pictures)} given; give pairs of pictures of one person")
    names = _short_names(runs)
    tools = [load(run, folded=False) for run in runs]
    for run, tool in zip(runs, tools):
        if not (tool.model.match if isinstance(tool, Matcher) else isinstance(tool.model, HOReID)):
            raise InputError(run, "has neither high-order levels nor matching; name a HOReID or KPM run")
    out.mkdir(parents=True, exist_ok=True)
    drawn: list[Drawn] = []
    insights: dict[str, Insight] = {}
    matchers: dict[str, Matcher] = {}
    landmarks = None if keypoints is None else [landmarks_of(picture, keypoints) for picture in pictures]
    for name, tool in zip(names, tools):
        if isinstance(tool, Matcher):
            matchers[name] = tool
            drawn += _matcher_figures(out, name, _explained(tool, pictures), points)
            drawn += _temperature_figures(out, f"{name}-", *_at_test(tool, pictures), points[0])
        else:
            insights[name] = parts.look_inside(tool, pictures)
    if len({_temperatures(tool) for tool in matchers.values()}) > 1:
        drawn += _temperature_figures(out, "", *_by_run(matchers, pictures), points[0])
    own: list[tuple[int, str]] = []
    for name, insight in insights.items():
        if insight.products:
            drawn += _level_figures(out, name, insight)
            if landmarks is not None:
                drawn.append(_landmark_figure(out, name, insight, landmarks))
            own.append((len(insight.products), name))
    numbers = Counter(order for order, _ in own)
    if len(numbers) > 1:
        # Runs of the same order are distinguished by their names.
        orders = [
            (f"n = {order}" + (f" ({name})" if numbers[order] > 1 else ""), insights[name].products[-1])
            for order, name in sorted(own)
        ]
        first = next(iter(insights.values()))
        drawn.append(_similarities(out, "orders-similarity", orders, first.pictures, "models"))
    if sampled := {name: insight for name, insight in insights.items() if insight.part_maps is not None}:
        regularised = {name: _regulariser(run) for name, run in zip(names, runs)}
        drawn.append(_part_figure(out, sampled, regularised))
    (out / NUMBERS).write_text(json.dumps([asdict(each) for each in drawn], indent=2) + "\n")
    return drawn


def _level_figures(out: Path, name: str, insight: Insight) -> list[Drawn]:
    orders = [(f"n = {order}", maps) for order, maps in enumerate(insight.products, start=1)]
    similarities = _similarities(out, f"{name}-similarity", orders, insight.pictures, "levels of one model")
    save_figure(figures.colour_figure(insight), out / f"{name}-colours")
    finding = (
        "similar colours are similar features; lightness, blue to yellow, and green to red show three "
        "components by falling variance"
    )
    return [similarities, Drawn(f"{name}-colours", "HOReID, Fig. 4: feature maps as colours", finding, {})]


def _landmark_figure(out: Path, name: str, insight: Insight, landmarks: Sequence[np.ndarray]) -> Drawn:
    orders = [(f"n = {order}", maps) for order, maps in enumerate(insight.products, start=1)]
    save_figure(landmark_figure(orders, insight.pictures, landmarks), out / f"{name}-landmarks")
    numbers = {}
    for order, maps in orders:
        pairs = range(0, len(maps) - 1, 2)
        found = [
            correspondences_found(landmark_similarities(*maps[i : i + 2], *landmarks[i : i + 2]))
            for i in pairs
        ]
        same, other, right = np.nanmean(np.array(found), axis=0).tolist()
        numbers[order] = {"same": same, "other": other, "found": right}
    told = [
        f"{order}: same landmarks {each['same']:.2f}, others {each['other']:.2f}, "
        f"{100 * each['found']:.0f} % find their own"
        for order, each in numbers.items()
    ]
    shows = "HOReID, Fig. 5: cosines of 16 × 16 landmarks by order"
    return Drawn(f"{name}-landmarks", shows, "; ".join(told), numbers)


def _similarities(out: Path, stem: str, orders: Orders, pictures: np.ndarray, what: str) -> Drawn:
    save_figure(figures.similarity_figure(orders, pictures), out / stem)
    numbers = similarity_numbers(orders)
    low, high = numbers[orders[0][0]], numbers[orders[-1][0]]
    finding = (
        f"from {orders[0][0]} to {orders[-1][0]}, the strongest 1 % of the pairs contribute "
        f"{100 * low['strongest']:.0f} → {100 * high['strongest']:.0f} % of the similarity, "
        f"the highest is {low['max']:.1f} → {high['max']:.1f}, "
        f"the lowest is {low['min']:.1f} → {high['min']:.1f}"
    )
    return Drawn(stem, f"HOReID, Fig. 2: similarities of places by order ({what})", finding, numbers)


def similarity_numbers(orders: Orders) -> dict[str, dict[str, float]]:
    """For each order the highest, lowest and mean similarity and the share of the strongest 1 %.

    Each number is a mean over the pairs of pictures.
    """
    found = {}
    for name, maps in orders:
        values = [parts.place_similarities(maps[i], maps[i + 1]) for i in range(0, len(maps), 2)]
        found[name] = {
            "max": float(np.mean([each.max() for each in values])),
            "min": float(np.mean([each.min() for each in values])),
            "mean": float(np.mean([each.mean() for each in values])),
            "strongest": float(np.mean([parts.share_of_strongest(each) for each in values])),
        }
    return found


def _part_figure(out: Path, sampled: dict[str, Insight], regularised: dict[str, str]) -> Drawn:
    fewest = min(insight.part_maps.shape[1] for insight in sampled.values() if insight.part_maps is not None)
    channels = parts.spread_channels(fewest, PAPER_CHANNELS)
    named = [(name + regularised[name], insight) for name, insight in sampled.items()]
    alone = len(named) == 1
    stem = f"{next(iter(sampled))}-parts" if alone else "parts"
    # Several runs show only one picture of each pair, to fit a page.
    shown = slice(None, None, 1 if alone else 2)
    maps = [
        (name, each.pictures[shown], each.part_maps[shown])
        for name, each in named
        if each.part_maps is not None
    ]
    save_figure(figures.part_figure(maps, channels), out / stem)
    numbers = {name: part_numbers(insight) for name, insight in named}
    findings = [
        f"{name}: {each['parts']:.0f} parts cover {each['covered']:.1f} of {each['places']:.0f} places each "
        f"and peak at {each['different']:.0f} different ones; {100 * each['rim']:.0f} % of the sampling is "
        f"at the border; the mean cosine of two parts is {each['alikeness']:.2f}"
        for name, each in numbers.items()
    ]
    return Drawn(stem, "HOReID, Fig. 6: where parts are sampled", "; ".join(findings), numbers)


def part_numbers(insight: Insight) -> dict[str, float]:
    """The coverage, the different peaks, the share at the border and the similarity of a model's parts."""
    maps = insight.part_maps
    assert maps is not None
    return {
        "parts": maps.shape[1],
        "places": maps.shape[2] * maps.shape[3],
        "covered": float(parts.places_covered(maps).mean()),
        "different": float(parts.places_sampled(maps).mean()),
        "rim": float(parts.share_at_rim(maps).mean()),
        "alikeness": float(np.mean([parts.part_alikeness(level) for level in insight.parts])),
    }


def _matcher_figures(
    out: Path, name: str, explanations: list[Explanation], points: Sequence[Point]
) -> list[Drawn]:
    drawn = []
    scales = range(len(explanations[0].scales))
    if any(np.ptp(scale.attention_a) > 0 for scale in explanations[0].scales):
        save_figure(figures.attention_figure(explanations), out / f"{name}-attention")
        covered = {}
        for number in scales:
            maps = [
                m for e in explanations for m in (e.scales[number].attention_a, e.scales[number].attention_b)
            ]
            mean = float(np.mean([parts.places_covered(each) for each in maps]))
            covered[f"scale-{number + 1}"] = {"covered": mean, "places": maps[0].size}
        told = [
            f"{scale} {each['covered']:.1f} of {each['places']:.0f} places"
            + (" (collapsed onto single places)" if each["covered"] < min(2, each["places"] / 4) else "")
            for scale, each in covered.items()
        ]
        shows = "KPM, Fig. 6: attention by scale"
        drawn.append(Drawn(f"{name}-attention", shows, "attention covers: " + ", ".join(told), covered))
    save_figure(figures.matching_figure(explanations, points), out / f"{name}-matching")
    confidence = {}
    for number in scales:
        maps = [parts.matching_map(e.scales[number], point) for e in explanations for point in points]
        confidence[f"scale-{number + 1}"] = {
            "highest": float(np.mean([each.max() for each in maps])),
            "covered": float(np.mean([parts.places_covered(each) for each in maps])),
        }
    told = [
        f"{scale} {100 * each['highest']:.0f} %, {each['covered']:.1f} places"
        for scale, each in confidence.items()
    ]
    shows = "KPM, Fig. 6: where chosen places look"
    finding = "highest confidence and places covered: " + ", ".join(told)
    return [*drawn, Drawn(f"{name}-matching", shows, finding, confidence)]


def _explained(tool: Matcher, pictures: Sequence[ImageLike]) -> list[Explanation]:
    return [tool.explain(a, b) for a, b in zip(pictures[::2], pictures[1::2])]


def _temperatures(tool: Matcher) -> tuple[float, float | None]:
    """τ_KPM of a model, and τ_RSA if it has attention."""
    attention: Any = tool.model.attention
    return tool.model.way.temperature, attention[0].temperature if attention else None


def _at_test(tool: Matcher, pictures: Sequence[ImageLike]) -> tuple[list[AtTemperature], list[AtTemperature]]:
    """One model at the temperatures of Table 6: τ_KPM, and τ_RSA if it has attention."""
    matching: list[AtTemperature] = []
    attention: list[AtTemperature] = []
    for value in KPM_TEMPERATURES:
        with temperature(tool, kpm=value):
            matching.append((f"τ_KPM = {value:g}", _explained(tool, pictures)))
    for value in RSA_TEMPERATURES if tool.model.attention else ():
        with temperature(tool, rsa=value):
            attention.append((f"τ_RSA = {value:g}", _explained(tool, pictures)))
    return matching, attention


def _by_run(
    matchers: dict[str, Matcher], pictures: Sequence[ImageLike]
) -> tuple[list[AtTemperature], list[AtTemperature]]:
    """Models at the temperatures that they were trained with."""
    matching: list[AtTemperature] = []
    attention: list[AtTemperature] = []
    for name, tool in matchers.items():
        explained, (kpm, rsa) = _explained(tool, pictures), _temperatures(tool)
        matching.append((f"{name}: τ_KPM = {kpm:g}", explained))
        if rsa is not None:
            attention.append((f"{name}: τ_RSA = {rsa:g}", explained))
    return matching, attention


def _temperature_figures(
    out: Path, prefix: str, matching: list[AtTemperature], attention: list[AtTemperature], point: Point
) -> list[Drawn]:
    trained = "" if prefix else ", each model as it was trained"
    stem = f"{prefix}temperatures-matching"
    save_figure(matching_temperatures(matching, point), out / stem)
    numbers = {
        name: _covered([parts.matching_map(scale, point) for one in each for scale in one.scales[:1]])
        for name, each in matching
    }
    drawn = [_temperature_drawn(stem, f"matching by temperature{trained}", numbers)]
    if attention:
        stem = f"{prefix}temperatures-attention"
        save_figure(attention_temperatures(attention), out / stem)
        numbers = {
            name: _covered([scale.attention_a for one in each for scale in one.scales[:1]])
            for name, each in attention
        }
        drawn.append(_temperature_drawn(stem, f"attention by temperature{trained}", numbers))
    return drawn


def _covered(maps: Sequence[np.ndarray]) -> dict[str, float]:
    return {
        "highest": float(np.mean([each.max() for each in maps])),
        "covered": float(np.mean([parts.places_covered(each) for each in maps])),
    }


def _temperature_drawn(stem: str, shows: str, numbers: dict[str, dict[str, float]]) -> Drawn:
    told = [
        f"{name}: {100 * each['highest']:.0f} % on the best place, {each['covered']:.1f} places"
        for name, each in numbers.items()
    ]
    return Drawn(stem, f"KPM, Fig. 6: {shows}", "scale-1 covers " + "; ".join(told), numbers)


def _regulariser(run: Path) -> str:
    """A suffix for a run's name that says whether it was trained with DSR; empty if this is not known."""
    config = run / "config.yaml"
    if not config.is_file():
        return ""
    weight = ((yaml.safe_load(config.read_text()) or {}).get("loss") or {}).get("regulariser")
    return "" if weight is None else ", with DSR" if weight > 0 else ", without DSR"


def _short_names(runs: Sequence[Path]) -> list[str]:
    """The last parts of the folders' paths, as many as make the names unique."""
    whole = [run.resolve().parts for run in runs]
    for count in range(1, max(map(len, whole), default=0) + 1):
        names = ["-".join(each[-count:]).strip("/") for each in whole]
        if len(set(names)) == len(names):
            return names
    raise InputError("RUN", f"{runs[0]} is named twice" if runs else "name at least one")
