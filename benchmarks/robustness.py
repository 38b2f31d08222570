"""How much models lose when the person in the query picture is shifted, scaled, flipped or covered.

    python benchmarks/robustness.py runs/gap runs/horeid runs/kpm --data DATA --json robustness.json \\
        --png robustness.png

Every query picture is changed in the same way for every model, the gallery stays as it is; the figure is the
mAP and what it lost. An embedder ranks by its vectors, a matcher re-scores the best 75 of its own pooled
ranking, and with ``--matcher`` each embedder's best 75 are also re-ranked by that matcher (an equal say).
Runs that differ in their seed alone, ``ROW/seed-0 ROW/seed-1 …``, are one line: their mean.

What the changes are (shares of height and width; sides and places are drawn by a seed, per query):

- shifted by 10 or 20 %, to a random side, horizontally or vertically. What comes in at the border repeats the
  edge's pixels, as the shifts do that training can make: what was beside the crop is not known, and a plain
  colour would be one more thing that no detector's box shows.
- scaled about the middle, the person 10 or 20 % larger (cut off at the border) or smaller (edges repeated).
- flipped: mirrored left to right.
- covered over a third of the area by the picture's own mean colour: the top, middle or bottom band, or a box
  with sides of a random proportion at a random place. Training with random erasing prepares models for this.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from kronreid.data.images import open_rgb
from kronreid.data.readers import read
from kronreid.data.records import Picture, ReIDDataset
from kronreid.errors import InputError
from kronreid.evaluation import evaluate_dataset
from kronreid.explain.charts import name_rows, panels
from kronreid.explain.style import MUTED, save_png, style
from kronreid.models.inference import Embedder, EncodedMaps, Matcher
from kronreid.models.loading import load
from kronreid.papers.render import number

Change = Callable[[Image.Image, np.random.Generator], Image.Image]

# --- the changes: RGB pictures in, new ones of the same size out --------------------------------------------


def shift(image: Image.Image, right: float, down: float) -> Image.Image:
    """Move the picture by shares of its width and height, to whole pixels; the edge's pixels follow it in."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    rows = (np.arange(height) - round(down * height)).clip(0, height - 1)
    columns = (np.arange(width) - round(right * width)).clip(0, width - 1)
    return Image.fromarray(pixels[rows][:, columns])


def zoom(image: Image.Image, factor: float) -> Image.Image:
    """Scale the picture about its middle; below 1 the edge's pixels fill the border.

    Bilinear, with antialiasing where it becomes smaller.
    """
    width, height = image.size
    left, top = width * (1 - 1 / factor) / 2, height * (1 - 1 / factor) / 2
    margin = max(0, math.ceil(-left), math.ceil(-top))
    wide = Image.fromarray(
        np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    )
    box = (margin + left, margin + top, margin + width - left, margin + height - top)
    return wide.resize(image.size, Image.Resampling.BILINEAR, box=box)


def flip(image: Image.Image) -> Image.Image:
    """Mirror left to right."""
    return ImageOps.mirror(image)


def cover(image: Image.Image, left: float, top: float, width: float, height: float) -> Image.Image:
    """Cover a box, given in shares of width and height, with the picture's own mean colour."""
    pixels = np.array(image)
    h, w = pixels.shape[:2]
    rows = slice(round(top * h), round((top + height) * h))
    columns = slice(round(left * w), round((left + width) * w))
    pixels[rows, columns] = pixels.reshape(-1, 3).mean(0).round()
    return Image.fromarray(pixels)


def cover_box(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Cover a box of a third of the area, of a random proportion (1:2 to 2:1 in shares) at a random place."""
    proportion = math.exp(generator.uniform(-math.log(2), math.log(2)))
    height, width = math.sqrt(proportion / 3), math.sqrt(1 / proportion / 3)
    left, top = generator.uniform(0, 1 - width), generator.uniform(0, 1 - height)
    return cover(image, left, top, width, height)


def side(generator: np.random.Generator) -> int:
    """−1 or 1."""
    return 1 - 2 * int(generator.integers(2))


ORIGINAL = "as it is"
CHANGES: dict[str, Change] = {
    ORIGINAL: lambda image, generator: image,
    "shifted sideways by 10 %": lambda image, generator: shift(image, 0.1 * side(generator), 0),
    "shifted sideways by 20 %": lambda image, generator: shift(image, 0.2 * side(generator), 0),
    "shifted up or down by 10 %": lambda image, generator: shift(image, 0, 0.1 * side(generator)),
    "shifted up or down by 20 %": lambda image, generator: shift(image, 0, 0.2 * side(generator)),
    "10 % larger": lambda image, generator: zoom(image, 1.1),
    "20 % larger": lambda image, generator: zoom(image, 1.2),
    "10 % smaller": lambda image, generator: zoom(image, 0.9),
    "20 % smaller": lambda image, generator: zoom(image, 0.8),
    "flipped": lambda image, generator: flip(image),
    "top third covered": lambda image, generator: cover(image, 0, 0, 1, 1 / 3),
    "middle third covered": lambda image, generator: cover(image, 0, 1 / 3, 1, 1 / 3),
    "bottom third covered": lambda image, generator: cover(image, 0, 2 / 3, 1, 1 / 3),
    "random third covered": cover_box,
}


# --- models that see changed queries ------------------------------------------------------------------------


class ChangedQueries:
    """An embedder to which query pictures are shown changed; the vectors of the others are computed once.

    Args:
        tool: The model.
        queries: Of the data set; any other picture is shown as it is.
        seed: With a query's number and the change's name it decides what is drawn, the same for all models.
    """

    def __init__(self, tool: Embedder | Matcher, queries: Sequence[Picture], seed: int) -> None:
        self.tool, self.seed = tool, seed
        self.dimension, self.fingerprint = tool.dimension, tool.fingerprint
        self.numbers = {key_of(picture): number for number, picture in enumerate(queries)}
        self.change = ORIGINAL
        self.vectors: dict[Any, np.ndarray] = {}

    def seen(self, images: Sequence[Any]) -> list[Any]:
        """The pictures as the model is to see them."""
        return [self.changed(image) if image in self.numbers else image for image in images]

    def changed(self, image: Any) -> Image.Image:
        """A query under the present change."""
        draw = [self.seed, self.numbers[image], list(CHANGES).index(self.change)]
        return CHANGES[self.change](open_rgb(image), np.random.default_rng(draw))

    def embed(self, images: Any, batch_size: int = 64, progress: bool = False) -> np.ndarray:
        """See `Embedder.embed`."""
        images = list(images)
        new = [image for image in images if image not in self.vectors]
        found = dict(zip(new, self.tool.embed(self.seen(new), batch_size=batch_size)))
        self.vectors |= {image: vector for image, vector in found.items() if image not in self.numbers}
        return np.stack([found[image] if image in found else self.vectors[image] for image in images])


class ChangedPairs(ChangedQueries):
    """The same of a matcher."""

    tool: Matcher

    def encode(self, images: Any, batch_size: int = 64, progress: bool = False) -> EncodedMaps:
        """See `Matcher.encode`."""
        return self.tool.encode(self.seen(images), batch_size=batch_size)

    def logits(self, query: EncodedMaps, candidates: EncodedMaps) -> Tensor:
        """See `Matcher.logits`."""
        return self.tool.logits(query, candidates)

    def score_lists(self, query: EncodedMaps, candidates: EncodedMaps, lists: Tensor) -> Tensor:
        """See `Matcher.score_lists`."""
        return self.tool.score_lists(query, candidates, lists)


def key_of(picture: Picture) -> Any:
    """What evaluation calls a picture by: its path, or where it is a part of its file itself."""
    return picture.path if picture.box is None else picture


def wrapped(tool: Embedder | Matcher, queries: Sequence[Picture], seed: int) -> ChangedQueries:
    """The model with the face that fits it."""
    return (ChangedPairs if isinstance(tool, Matcher) else ChangedQueries)(tool, queries, seed)


def check_apart(dataset: ReIDDataset) -> None:
    """InputError where queries are in the gallery too: a change of one would change the other."""
    if {key_of(one) for one in dataset.query} & {key_of(one) for one in dataset.gallery}:
        raise InputError("--data", "query pictures are in the gallery too, which must stay as it is")


# --- measuring ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """Mean of a line's runs under one change: AP of every query (Q,), NaN without a match, and rank-1."""

    precision: np.ndarray
    rank1: float

    @property
    def mAP(self) -> float:
        return float(np.nanmean(self.precision))

    def drop(self, original: Figures) -> tuple[float, float]:
        """What was lost of mAP, and its standard error over the queries, each compared with itself."""
        lost = (original.precision - self.precision)[~np.isnan(self.precision)]
        return float(lost.mean()), float(lost.std(ddof=1) / math.sqrt(len(lost))) if len(lost) > 1 else 0.0


Table = dict[str, dict[str, Figures]]


def line_name(model: Path) -> str:
    """A run's name: its folder's, or its row's where the folder is only a seed's."""
    return model.parent.name if re.fullmatch(r"seed-\d+", model.name) else model.name


def measure(
    models: Sequence[Path],
    matcher: Path | None,
    dataset: ReIDDataset,
    protocol: str,
    names: Sequence[str],
    seed: int,
) -> Table:
    """Evaluate every model under every change: line, change, figures.

    Raises:
        InputError: A model cannot be opened, or queries are in the gallery too.
    """
    check_apart(dataset)
    second = load(matcher) if matcher else None
    if second is not None and not isinstance(second, Matcher):
        raise InputError(f"--matcher {matcher}", "is an embedder; a pair model like KPM is needed")
    tools = {path: load(path) for path in models}
    stages: list[tuple[str, Path, Matcher | None]] = []
    for path, tool in tools.items():
        stages.append((line_name(path), path, None))
        if matcher is not None and second is not None and not isinstance(tool, Matcher):
            stages.append((f"{line_name(path)} + {line_name(matcher)}", path, second))
    runs: dict[str, list[dict[str, Figures]]] = {}
    with tqdm(total=len(stages) * len(names), desc="changes", disable=None) as bar:
        for line, path, after in stages:
            first = wrapped(tools[path], dataset.query, seed)
            then = wrapped(after, dataset.query, seed) if after is not None else None
            figures = {}
            for name in names:
                for changed in (first, then):
                    if changed is not None:
                        changed.change = name
                result = evaluate_dataset(
                    first,
                    dataset,
                    protocol=protocol,
                    matcher=then,  # type: ignore[arg-type]
                )
                figures[name] = Figures(result.average_precision, result.rank1)
                bar.update()
            runs.setdefault(line, []).append(figures)
    return {line: mean(found) for line, found in runs.items()}


def mean(runs: Sequence[dict[str, Figures]]) -> dict[str, Figures]:
    """Runs of one line, query by query."""
    return {
        name: Figures(
            np.mean([one[name].precision for one in runs], 0),
            float(np.mean([one[name].rank1 for one in runs])),
        )
        for name in runs[0]
    }


# --- reporting ----------------------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    """mAP and, in brackets, what it lost, per cent. The fewer, lines or changes, go across."""
    changes = list(next(iter(table.values())))
    cells = {}
    for line, figures in table.items():
        for name in changes:
            cells[line, name] = f"{100 * figures[name].mAP:.1f}"
            if name != ORIGINAL:
                lost = number(-100 * figures[name].drop(figures[ORIGINAL])[0], 1, signed=True)
                cells[line, name] += f" ({lost})"
    if len(table) > len(changes):
        head, rows = ["", *changes], [[line, *(cells[line, name] for name in changes)] for line in table]
    else:
        head = ["query pictures", *table]
        rows = [[name, *(cells[line, name] for line in table)] for name in changes]
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows)) + "\n"


def flat(table: Table) -> dict[str, float]:
    """All figures, fractions, under ``<line>, <change>: <figure>``."""
    out: dict[str, float] = {}
    for line, figures in table.items():
        for name, found in figures.items():
            drop, error = found.drop(figures[ORIGINAL])
            values = {"mAP": found.mAP, "rank1": found.rank1, "drop": drop, "drop_standard_error": error}
            out |= {f"{line}, {name}: {key}": value for key, value in values.items()}
    return out


def draw(table: Table, file: Path) -> None:
    """A chart: mAP on the left, what was lost on the right with twice its standard error."""
    changes = list(next(iter(table.values())))
    with style():
        figure, (left, right) = panels(7.2, 1.2 + 0.05 * len(changes) * (3 + len(table)), 2, sharey=True)
        offsets = np.linspace(-0.28, 0.28, len(table)) if len(table) > 1 else [0.0]
        for offset, (line, figures) in zip(offsets, table.items()):
            places = np.arange(len(changes)) + offset
            values = [100 * figures[name].mAP for name in changes]
            left.plot(values, places, linestyle="none", label=line)
            drops = np.array([figures[name].drop(figures[ORIGINAL]) for name in changes[1:]]).reshape(-1, 2)
            lost, error = 100 * drops.T
            right.errorbar(lost, places[1:], xerr=2 * error, linestyle="none", elinewidth=0.7)
        left.set_xlabel("mAP, %")
        right.set_xlabel("mAP lost, points (± 2 standard errors over the queries)")
        right.axvline(0, color=MUTED, marker="", linestyle="-", linewidth=0.5)
        for axes in (left, right):
            name_rows(axes, changes)
        figure.legend(loc="outside upper left", ncols=5)
        save_png(figure, file)


def few(queries: Sequence[Picture], count: int | None) -> tuple[Picture, ...]:
    """`count` queries spread evenly over all; None takes all."""
    if count is None or count >= len(queries):
        return tuple(queries)
    return tuple(queries[round(place)] for place in np.linspace(0, len(queries) - 1, count))


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the data set, what is drawn, and where the figures go."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="run folders")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--layout", help="how it is laid out (looks)")
    parser.add_argument("--protocol", help="the layout's own")
    parser.add_argument("--queries", type=int, metavar="N", help="only so many, for a trial")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the chart")
    return parser


def run(
    name: str,
    options: argparse.Namespace,
    table_of: Callable[[ReIDDataset, str], Table],
    draw: Callable[[Table, Path], None],
) -> int:
    """What the script `name` does: measure by `table_of`, print and write what is asked for; the exit status.

    Bad input, a file's missing folder among it, is one line and 2.
    """
    try:
        for file in filter(None, (options.json, options.png)):
            if not file.parent.is_dir():
                raise InputError(file, f"there is no folder {file.parent}")
        dataset = read(options.data, options.layout)
        dataset = replace(dataset, query=few(dataset.query, options.queries))
        table = table_of(dataset, options.protocol or dataset.protocol)
    except InputError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    print(markdown(table))
    if options.json:
        figures = {"queries": len(dataset.query), "gallery": len(dataset.gallery), "seed": options.seed}
        options.json.write_text(json.dumps(figures | flat(table), indent=1, ensure_ascii=False) + "\n")
    if options.png:
        draw(table, options.png)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--matcher", type=Path, metavar="MODEL", help="re-rank the embedders' best 75 with it, too"
    )
    options = parser.parse_args(arguments)

    def table_of(dataset: ReIDDataset, protocol: str) -> Table:
        return measure(options.models, options.matcher, dataset, protocol, list(CHANGES), options.seed)

    return run("robustness", options, table_of, draw)


if __name__ == "__main__":
    sys.exit(main())
