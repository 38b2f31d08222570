"""Measure the value of alignment: compare the same feature maps of a model in four ways.

    python benchmarks/alignment.py runs/gap runs/horeid --data DATA --json alignment.json --png alignment.png

Nothing is trained for the comparison, and no head weights the channels. The last map of every query is
compared with the last map of every gallery picture by

- averages: the cosine of the maps' means, as for pooled descriptors.
- place by place: the mean squared distance of unmatched places (KPM's Table 1, "square before").
- warped, squared after: the gallery picture's map is softly warped onto the query's, and the differences are
  averaged, then squared (KPM, Eq. 5 to 10, without attention).
- warped, squared before: the same, but the difference at every place is squared before averaging.

All but the first use L2-normalised vectors, so that no place counts more than others. The queries are
compared both unchanged and shifted (see robustness.py), because alignment should help with shifts. Runs that
differ only in their seed form one line with their mean.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from kronreid.data.records import ReIDDataset
from kronreid.evaluation import evaluate_scores
from kronreid.explain.charts import name_rows, panels
from kronreid.explain.style import save_png, style
from kronreid.models.baselines import Pooled
from kronreid.models.horeid import Hierarchy
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.kpm import KPM
from kronreid.models.loading import load
from kronreid.ops.blocks import PreparedMaps, prepare, score_block
from kronreid.ops.comparisons import score_places, score_warped
from robustness import (
    CHANGES,
    ORIGINAL,
    Figures,
    Table,
    check_apart,
    key_of,
    line_name,
    make_parser,
    mean,
    run,
    wrapped,
)

BATCH = 64
TEMPERATURE = 0.05  # KPM's
SHIFTS = [ORIGINAL, *(name for name in CHANGES if name.startswith("shifted"))]


@dataclass(frozen=True)
class Maps:
    """N pictures: the averages of their maps (N, C), L2-normalised, and the unit vectors of all places."""

    averages: Tensor
    places: PreparedMaps

    @property
    def head(self) -> Tensor:
        """Weights (C,) that turn squared differences into a score: negative and equal for all channels."""
        return -torch.ones(self.averages.shape[1])


#: A function to scores (Q, G) from the maps of Q queries and G gallery pictures.
WAYS: dict[str, Callable[[Maps, Maps], Tensor]] = {
    "averages": lambda x, y: x.averages @ y.averages.t(),
    "place by place": lambda x, y: score_places(x.places, y.places, x.head),
    "warped, squared after": lambda x, y: score_block(x.places, y.places, x.head, TEMPERATURE),
    "warped, squared before": lambda x, y: score_warped(x.places, y.places, x.head, TEMPERATURE),
}


@torch.no_grad()
def maps_of(tool: Embedder | Matcher, images: Sequence[Any], bar: tqdm) -> Maps:
    """The last map of each picture: HOReID's X_n, the pooled model's map before averaging, KPM's scale 1."""
    model, averages, places = tool.model, [], []
    for start in range(0, len(images), BATCH):
        batch = tool.batch([tool.pixels(image) for image in images[start : start + BATCH]])
        if isinstance(model, Hierarchy):
            maps = model.levels(batch)[-1].float()
        elif isinstance(model, Pooled):
            maps = model.reduce(model.backbone(batch)[-1]).float()
        else:
            assert isinstance(model, KPM)
            maps = model.backbone(batch)[-1].float()
        averages.append(F.normalize(maps.mean((2, 3))))
        places.append(prepare(F.normalize(maps, dim=1)))
        bar.update(len(batch))
    return Maps(torch.cat(averages), PreparedMaps.cat(places))


def measure(
    models: Sequence[Path], dataset: ReIDDataset, protocol: str, names: Sequence[str], seed: int
) -> Table:
    """Compare the maps of every model in every way under every change of the queries.

    Raises:
        InputError: A model cannot be opened, or queries are also in the gallery.
    """
    check_apart(dataset)
    labels = [
        [getattr(picture, name) for picture in part]
        for part in (dataset.query, dataset.gallery)
        for name in ("identity", "camera")
    ]
    runs: dict[str, list[dict[str, Figures]]] = {}
    total = len(models) * (len(dataset.gallery) + len(names) * len(dataset.query))
    with tqdm(total=total, unit=" pictures", disable=None) as bar:
        for path in models:
            tool = load(path, folded=False)
            queries = wrapped(tool, dataset.query, seed)
            gallery = maps_of(tool, [key_of(picture) for picture in dataset.gallery], bar)
            figures: dict[str, dict[str, Figures]] = {way: {} for way in WAYS}
            for name in names:
                queries.change = name
                maps = maps_of(tool, queries.seen([key_of(picture) for picture in dataset.query]), bar)
                for way, compare in WAYS.items():
                    result = evaluate_scores(compare(maps, gallery), *labels, protocol=protocol, ranks=[1])
                    figures[way][name] = Figures(result.average_precision, result.rank1)
            for way, found in figures.items():
                runs.setdefault(f"{line_name(path)}, {way}", []).append(found)
    return {line: mean(found) for line, found in runs.items()}


def draw(table: Table, file: Path) -> None:
    """A chart with one panel per model that shows all ways side by side for every change of the queries."""
    first = next(iter(WAYS))
    models = [line.removesuffix(f", {first}") for line in table if line.endswith(f", {first}")]
    with style():
        figure, panes = panels(1.3 + 1.5 * len(models), 2.4, len(models), sharex=True, sharey=True)
        for axes, model in zip(panes, models):
            for way, offset in zip(WAYS, np.linspace(-0.24, 0.24, len(WAYS))):
                figures = table[f"{model}, {way}"]
                values = [100 * found.mAP for found in figures.values()]
                label = way if axes is panes[0] else None
                axes.plot(values, np.arange(len(figures)) + offset, linestyle="none", label=label)
            axes.set_title(model)
            axes.set_xlabel("mAP, %")
            name_rows(axes, list(figures))
        figure.legend(loc="outside upper center", ncols=len(WAYS))
        save_png(figure, file)


def main(arguments: Sequence[str] | None = None) -> int:
    options = make_parser(__doc__).parse_args(arguments)

    def table_of(dataset: ReIDDataset, protocol: str) -> Table:
        return measure(options.models, dataset, protocol, SHIFTS, options.seed)

    return run("alignment", options, table_of, draw)


if __name__ == "__main__":
    sys.exit(main())
