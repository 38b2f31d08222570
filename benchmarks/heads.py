"""Compare heads that re-score the ranking of one trained embedder, all fitted under the same recipe.

    python benchmarks/heads.py runs/gap/seed-* --data DATA --json heads.json --png heads.png
    python benchmarks/heads.py runs/gap --data ELSEWHERE --fit DATA    # heads of DATA on another data set

The network is frozen. Each head is fitted on the same lists, with the same losses and steps
(`kronreid.training.places`), and re-scores the first 100 candidates of the vectors' ranking:

- vectors: the ranking itself.
- verification: the squared difference of the two vectors, batch normalisation and a linear layer, as in KPM's
  baseline (Fig. 5). This is the control: a head of the same recipe that sees no places.
- verification + cosine: the same with the cosine of the vectors beside it.
- best matches, untrained: the mean of all best matches beside the cosine, each standardised within the list.
- places: place matching as kronreid does it by default.

The queries are compared both unchanged and changed (see robustness.py). Runs that differ only in their seed
form one line with their mean.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from kronreid.data.readers import read
from kronreid.data.records import ReIDDataset
from kronreid.errors import InputError
from kronreid.evaluation.datasets import PLACES_TOP, dataset_task
from kronreid.evaluation.evaluate import measure as measured
from kronreid.evaluation.pairs import rescored
from kronreid.evaluation.scores import Scores, VectorScores
from kronreid.models.inference import Embedder
from kronreid.models.loading import load
from kronreid.models.places import Described
from kronreid.ops.places import Places, best_matches
from kronreid.training.places import FitOptions, fit_head, prepare
from robustness import (
    CHANGES,
    ORIGINAL,
    Figures,
    Table,
    check_apart,
    draw,
    line_name,
    make_parser,
    mean,
    run,
    wrapped,
)

BATCH = 64
QUERIES = 16  # whose lists are scored at a time


class Verification(nn.Module):
    """KPM's baseline as a head: (x̄ − ȳ)², batch normalisation and a linear layer.

    Args:
        dimension: Length of the vectors.
        cosine: Whether their cosine counts as well, as in place matching.
    """

    def __init__(self, dimension: int, cosine: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dimension, affine=False)
        self.linear = nn.Linear(dimension, 1)
        self.cosine = nn.Parameter(torch.tensor(10.0 if cosine else 0.0), requires_grad=cosine)
        # At first every difference speaks against one person, equally.
        nn.init.constant_(self.linear.weight, -1 / dimension)
        nn.init.zeros_(self.linear.bias)

    def forward(self, cosines: Tensor, x: Sequence[Places], y: Sequence[Places]) -> Tensor:
        """Logits (P,) of P pairs: their cosines (P,), and each side's vector as one place, (P, 1, D)."""
        squares = (x[0].unit() - y[0].unit()).squeeze(1).square()
        return self.cosine * cosines + self.linear(self.norm(squares)).squeeze(1)


class Untrained(nn.Module):
    """The mean of all best matches."""

    def forward(self, cosines: Tensor, x: Sequence[Places], y: Sequence[Places]) -> Tensor:
        """Means (P,) of the best matches of P pairs, from the places of each level."""
        pairs = [best_matches(u.unit(), v.unit()) for u, v in zip(x, y)]
        return torch.cat([both for pair in pairs for both in pair], dim=1).mean(1)


class Scored:
    """Described pictures that any of these heads re-scores, see `evaluation.pairs.DescribedPictures`.

    Args:
        head: The head in eval mode.
        described: The pictures; a task's rows index them.
    """

    def __init__(self, head: nn.Module, described: Described) -> None:
        self.head, self.described = head, described

    @torch.no_grad()
    def score_lists(self, queries: np.ndarray, lists: np.ndarray, bar: Any) -> np.ndarray:
        logits = np.full(lists.shape, -np.inf, np.float32)
        for start in range(0, len(lists), QUERIES):
            block = lists[start : start + QUERIES]
            rows, columns = np.nonzero(block >= 0)
            first = self.described[torch.from_numpy(queries[start + rows])]
            second = self.described[torch.from_numpy(block[rows, columns])]
            cosines = (first.vectors * second.vectors).sum(1)
            found = self.head(cosines, first.levels, second.levels)
            logits[start + rows, columns] = found.cpu().numpy()
        return logits


def as_places(described: Described) -> Described:
    """Each picture's vector as its only place."""
    numbers = described.vectors[:, None].contiguous()
    none = numbers.new_empty(len(described), 0)
    return Described(described.vectors, [Places(numbers, none, none)])


def unchanged(described: Described) -> Described:
    """The pictures with their places."""
    return described


def replaced(described: Described, rows: Tensor, by: Described) -> Described:
    """The same pictures with others in these rows."""
    place = torch.arange(len(described))
    place[rows] = len(described) + torch.arange(len(rows))
    return Described.cat([described, by])[place]


def measure(
    embedder: Embedder, fit: ReIDDataset, dataset: ReIDDataset, protocol: str, names: Sequence[str], seed: int
) -> Table:
    """Fit all heads on one embedder, and evaluate them under every change; figures by head and change.

    Raises:
        InputError: The network has no maps, there are too few people to fit on, or the protocol has no list
            to re-score.
    """
    options = FitOptions()
    matching, learnt, lists = prepare(embedder, fit.train, options, BATCH, True)
    # Each head with what it sees of the pictures, and its weight beside the cosine.
    heads: dict[str, tuple[nn.Module, Callable[[Described], Described], float]] = {
        "verification": (Verification(embedder.dimension, cosine=False), as_places, 1.0),
        "verification + cosine": (Verification(embedder.dimension, cosine=True), as_places, 1.0),
        "best matches, untrained": (Untrained(), unchanged, 0.5),
        "places": (matching, unchanged, 1.0),
    }
    for head, seen_by, _ in heads.values():
        if not isinstance(head, Untrained):
            fit_head(head.to(embedder.device), seen_by(learnt), lists, options, True)

    task, images = dataset_task(dataset, protocol)
    changed = wrapped(embedder, dataset.query, seed)
    asked = torch.from_numpy(task.query_rows)
    plain = embedder.describe(images, BATCH, True, places=matching)
    table: Table = {}
    for name in tqdm(names, desc="changes", disable=None):
        changed.change = name
        described = plain
        if name != ORIGINAL:
            seen = changed.seen([images[row] for row in task.query_rows])
            described = replaced(plain, asked, embedder.describe(seen, BATCH, places=matching))
        base = VectorScores(described.vectors, described.vectors[:0], task)
        found: dict[str, Scores] = {"vectors": base}
        for line, (head, seen_by, weight) in heads.items():
            pictures = Scored(head.eval(), seen_by(described))
            found[line] = rescored(base, task, pictures, PLACES_TOP, weight, False)  # type: ignore[arg-type]
        for line, scores in found.items():
            result = measured(scores, task, [1], seed, time.perf_counter())
            table.setdefault(line, {})[name] = Figures(result.average_precision, result.rank1)
    return table


def measure_runs(
    models: Sequence[Path],
    fit: ReIDDataset,
    dataset: ReIDDataset,
    protocol: str,
    names: Sequence[str],
    seed: int,
) -> Table:
    """The figures of all runs by ``<line>: <head>`` and change.

    Raises:
        InputError: A model cannot be opened or is a pair model, or queries are also in the gallery.
    """
    check_apart(dataset)
    runs: dict[str, list[dict[str, Figures]]] = {}
    for path in models:
        tool = load(path)
        if not isinstance(tool, Embedder):
            raise InputError(path, "is a pair model, which matches places already; name embedders")
        for head, figures in measure(tool, fit, dataset, protocol, names, seed).items():
            runs.setdefault(f"{line_name(path)}: {head}", []).append(figures)
    return {line: mean(found) for line, found in runs.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--fit", type=Path, metavar="ROOT", help="fit the heads on this data set's training pictures instead"
    )
    parser.add_argument("--unchanged", action="store_true", help="leave out the changed queries")
    options = parser.parse_args(arguments)
    names = [ORIGINAL] if options.unchanged else list(CHANGES)

    def table_of(dataset: ReIDDataset, protocol: str) -> Table:
        fit = read(options.fit) if options.fit else dataset
        return measure_runs(options.models, fit, dataset, protocol, names, options.seed)

    return run("heads", options, table_of, draw)


if __name__ == "__main__":
    sys.exit(main())
