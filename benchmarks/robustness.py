"""Measure how much models lose if the person in the query picture is shifted, scaled, flipped or covered.

    python benchmarks/robustness.py runs/gap runs/horeid runs/kpm --data DATA --json robustness.json \\
        --png robustness.png

Every query picture is changed in the same way for all models, and the gallery stays unchanged. The result is
the mAP and its loss. An embedder ranks by its vectors, and a matcher re-scores the best 75 of its own pooled
ranking. With ``--matcher`` that matcher also re-ranks each embedder's best 75 (equal weights). Runs that
differ only in their seed, ``ROW/seed-0 ROW/seed-1 …``, form one line with their mean.

The changes are as follows. Sizes are shares of height and width. A seed draws directions and positions for
each query.

- Shifts by 10 or 20 % in a random direction, horizontally or vertically. The border repeats the edge's
pixels,
  like the shifts of the training augmentation. The pixels beside the crop are unknown, and a plain colour
  would be another change that no detector's box shows.
- Scaling about the centre: the person is 10 or 20 % larger (cropped at the border) or smaller (edges
repeated). - A horizontal flip.
- Covering a third of the area with the picture's own mean colour: the top, middle or bottom band, or a box
  with a random aspect ratio at a random position. Random erasing prepares models for this in training.
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

# --- the changes: from RGB pictures to new ones of the same size --------------------------------------------


def shift(image: Image.Image, right: float, down: float) -> Image.Image:
    """Shift the picture by shares of its width and height, in whole pixels, repeating the edge's pixels."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    rows = (np.arange(height) - round(down * height)).clip(0, height - 1)
    columns = (np.arange(width) - round(right * width)).clip(0, width - 1)
    return Image.fromarray(pixels[rows][:, columns])


def zoom(image: Image.Image, factor: float) -> Image.Image:
    """Scale the picture about its centre. With a factor below 1, the edge's pixels fill the border.

    Resampling is bilinear, with antialiasing if the picture becomes smaller.
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
    """Flip the picture horizontally."""
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
    """Cover a third of the area with a box of random aspect ratio (1:2 to 2:1 in shares) and position."""
    proportion = math.exp(generator.uniform(-math.log(2), math.log(2)))
    height, width = math.sqrt(proportion / 3), math.sqrt(1 / proportion / 3)
    left, top = generator.uniform(0, 1 - width), generator.uniform(0, 1 - height)
    return cover(image, left, top, width, height)


def side(generator: np.random.Generator) -> int:
    """A random sign, −1 or 1."""
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
    """An embedder that sees changed query pictures. The vectors of all other pictures are computed once.

    Args:
        tool: The model.
        queries: The query pictures of the data set; other pictures are not changed.
        seed: Determines the random changes, together with a query's number and the change's name. They are
            the same for all models.
    """

    def __init__(self, tool: Embedder | Matcher, queries: Sequence[Picture], seed: int) -> None:
        self.tool, self.seed = tool, seed
        self.dimension, self.fingerprint = tool.dimension, tool.fingerprint
        self.numbers = {key_of(picture): number for number, picture in enumerate(queries)}
        self.change = ORIGINAL
        self.vectors: dict[Any, np.ndarray] = {}

    def seen(self, images: Sequence[Any]) -> list[Any]:
        """The pictures that the model sees."""
        return [self.changed(image) if image in self.numbers else image for image in images]

    def changed(self, image: Any) -> Image.Image:
        """A query picture under the current change."""
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
    """A matcher that sees changed query pictures."""

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
    """The key of a picture in an evaluation: its path, or the picture itself if it is a part of its file."""
    return picture.path if picture.box is None else picture


def wrapped(tool: Embedder | Matcher, queries: Sequence[Picture], seed: int) -> ChangedQueries:
    """The model as a `ChangedEmbedder` or `ChangedMatcher`."""
    return (ChangedPairs if isinstance(tool, Matcher) else ChangedQueries)(tool, queries, seed)


def check_apart(dataset: ReIDDataset) -> None:
    """Check that no query is also in the gallery, where it would be changed, too.

    Raises:
        InputError: A query is in the gallery.
    """
    if {key_of(one) for one in dataset.query} & {key_of(one) for one in dataset.gallery}:
        raise InputError("--data", "query pictures are also in the gallery, which must stay unchanged")


# --- measuring ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """The mean of a line's runs under one change: rank-1, and AP of every query (Q,), NaN without a match."""

    precision: np.ndarray
    rank1: float

    @property
    def mAP(self) -> float:
        return float(np.nanmean(self.precision))

    def drop(self, original: Figures) -> tuple[float, float]:
        """The loss of mAP and its standard error over the queries, each compared with its unchanged self."""
        lost = (original.precision - self.precision)[~np.isnan(self.precision)]
        return float(lost.mean()), float(lost.std(ddof=1) / math.sqrt(len(lost))) if len(lost) > 1 else 0.0


Table = dict[str, dict[str, Figures]]


def line_name(model: Path) -> str:
    """A run's name: that of its folder, or that of its row if the folder is only a seed."""
    return model.parent.name if re.fullmatch(r"seed-\d+", model.name) else model.name


def measure(
    models: Sequence[Path],
    matcher: Path | None,
    dataset: ReIDDataset,
    protocol: str,
    names: Sequence[str],
    seed: int,
) -> Table:
    """Evaluate every model under every change; returns the figures by line and change.

    Raises:
        InputError: A model cannot be opened, or queries are also in the gallery.
    """
    check_apart(dataset)
    second = load(matcher) if matcher else None
    if second is not None and not isinstance(second, Matcher):
        raise InputError(f"--matcher {matcher}", "is an embedder; name a pair model like KPM")
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
    """The mean of one line's runs, query by query."""
    return {
        name: Figures(
            np.mean([one[name].precision for one in runs], 0),
            float(np.mean([one[name].rank1 for one in runs])),
        )
        for name in runs[0]
    }


# --- reporting ----------------------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    """A Markdown table of mAP with its loss in brackets, in per cent.

    If there are fewer lines than changes, the lines are the columns; otherwise the changes are.
    """
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
    """All figures as fractions, by ``<line>, <change>: <figure>``."""
    out: dict[str, float] = {}
    for line, figures in table.items():
        for name, found in figures.items():
            drop, error = found.drop(figures[ORIGINAL])
            values = {"mAP": found.mAP, "rank1": found.rank1, "drop": drop, "drop_standard_error": error}
            out |= {f"{line}, {name}: {key}": value for key, value in values.items()}
    return out


def draw(table: Table, file: Path) -> None:
    """A chart of mAP (left) and of its loss with twice the standard error (right)."""
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
    """The data set with `count` queries, evenly spread over all; None keeps all."""
    if count is None or count >= len(queries):
        return tuple(queries)
    return tuple(queries[round(place)] for place in np.linspace(0, len(queries) - 1, count))


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options for the data set, the seed and the output files."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="run folders")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--layout", help="its layout (default: detected)")
    parser.add_argument("--protocol", help="evaluation protocol (default: the layout's)")
    parser.add_argument("--queries", type=int, metavar="N", help="use only N queries, for a trial")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random changes (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the chart")
    return parser


def run(
    name: str,
    options: argparse.Namespace,
    table_of: Callable[[ReIDDataset, str], Table],
    draw: Callable[[Table, Path], None],
) -> int:
    """Run the script `name`: measure with `table_of`, print and write the results; returns the exit status.

    Bad input, including a missing folder of an output file, gives one line and status 2.
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
