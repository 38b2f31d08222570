"""KPM's Figure 6 over temperatures: how τ_KPM changes matching maps, and τ_RSA attention maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from kronreid.explain.heat import heat
from kronreid.explain.parts import Point, matching_map, place_at, places_covered
from kronreid.explain.sheet import Tile, TileGroup, sheet, tile_block

if TYPE_CHECKING:
    from kronreid.models.inference import Explanation, Matcher

#: The temperatures of KPM's Table 6.
KPM_TEMPERATURES, RSA_TEMPERATURES = (0.05, 0.5, 1.0), (1.0, 0.5, 0.1)
#: The paper shows the attention of scale-1 and scale-2.
SCALES = slice(0, 2)

#: A name for a temperature, and the explanation of each pair at it.
AtTemperature = tuple[str, Sequence["Explanation"]]


@contextmanager
def temperature(matcher: Matcher, kpm: float | None = None, rsa: float | None = None) -> Iterator[None]:
    """Compare with other temperatures than the model was trained with.

    Args:
        matcher: A KPM.
        kpm: τ_KPM of Eq. 5.
        rsa: τ_RSA of Eq. 9.
    """
    model: Any = matcher.model
    way = getattr(model.way, "inner", model.way)
    layers = list(model.attention or [])
    before = way.temperature, [layer.temperature for layer in layers]
    try:
        way.temperature = way.temperature if kpm is None else kpm
        for layer in layers:
            layer.temperature = layer.temperature if rsa is None else rsa
        yield
    finally:
        way.temperature = before[0]
        for layer, own in zip(layers, before[1]):
            layer.temperature = own


def matching_temperatures(columns: Sequence[AtTemperature], point: Point) -> Figure:
    """Where the place of a at a point (red rectangle) looks in b, by temperature and scale.

    Args:
        columns: The temperatures; all have the same pairs.
        point: (x, y) as fractions of the picture's width and height.
    """
    rows = []
    for pair, explanation in enumerate(columns[0][1]):
        coarse = explanation.scales[0]
        row, column = place_at(coarse, point)
        box = (column / coarse.width, row / coarse.height)
        boxes = [(*box, box[0] + 1 / coarse.width, box[1] + 1 / coarse.height)]
        tiles = [Tile(explanation.image_a, boxes=boxes), Tile(explanation.image_b)]
        for _, each in columns:
            for scale in each[pair].scales[SCALES]:
                confidence = matching_map(scale, point)
                text = f"{100 * confidence.max():.0f} %, {float(places_covered(confidence)):.1f} places"
                tiles.append(Tile(heat(explanation.image_b, confidence, float(confidence.max())), text))
        rows.append(tiles)
    return _sheet(rows, columns, ["a", "b"], "matching confidence, each map has its own scale")


def attention_temperatures(columns: Sequence[AtTemperature]) -> Figure:
    """The attention over the first picture of each pair, by temperature and scale."""
    rows = []
    for pair, explanation in enumerate(columns[0][1]):
        tiles = [Tile(explanation.image_a)]
        for _, each in columns:
            for scale in each[pair].scales[SCALES]:
                shares = scale.attention_a * scale.attention_a.size
                text = f"{float(places_covered(scale.attention_a)):.1f} of {shares.size} places"
                tiles.append(Tile(heat(explanation.image_a, shares, max(2.0, float(shares.max()))), text))
        rows.append(tiles)
    return _sheet(rows, columns, ["a"], "attention, each map has its own scale")


def _sheet(
    rows: list[list[Tile]], columns: Sequence[AtTemperature], pictures: list[str], name: str
) -> Figure:
    count = len(columns[0][1][0].scales[SCALES])
    scales = [f"scale-{number}" for number in range(1, count + 1)]
    groups = [TileGroup("", pictures), *(TileGroup(heading, scales) for heading, _ in columns)]
    return sheet(tile_block(rows, groups, bar=(name, "0", "most")))
