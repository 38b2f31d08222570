"""Place matching: pairs per second beside the reference form and beside the bare matrix product.

    OMP_NUM_THREADS=2 python benchmarks/places.py --json places.json
    OMP_NUM_THREADS=2 python benchmarks/places.py --exhaustive --json places.json

Pictures are generated: 72 places of 64 numbers around one centre per person, in int8. The forms take turns,
and the best of each is kept.

- `pairs_per_second`: many queries with many candidates. `over_reference` is that over the rate of the plain
  form, which takes one query with all candidates at a time.
- `fraction_of_gemm`: the time of the bare float32 products of the same pairs, tile by tile, over ours.
- `rerank_100_ms`: one query with its first 100 candidates from a gallery, vectors and head included; median.
- `extra_mb`: the peak of memory above the pictures while many are scored, their scores included.
- `market_exhaustive_s` (with --exhaustive): every query of Market-1501 with its whole gallery, 66.4 M pairs.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from common import extra_megabytes, make_parser, report, seconds, take_turns
from kronreid.models.places import Described, PlaceMatching, PlacesOptions
from kronreid.ops import places as ops
from kronreid.ops.places import Places, best_matches, keep, score_block
from labels import add_labels, read_labels

HEIGHT, WIDTH, NUMBERS, VECTOR = 12, 6, 64, 512
QUERIES, CANDIDATES = {"cpu": 64, "cuda": 512}, {"cpu": 512, "cuda": 16384}
REFERENCE = 8, 256  # queries and candidates that the reference form compares
GALLERY, LIST, SEARCHES = 2000, 100, 101


def make_matching(device: str) -> PlaceMatching:
    """A head of random numbers, by which a better match speaks for the same person."""
    torch.manual_seed(0)
    matching = PlaceMatching(PlacesOptions(numbers=NUMBERS), [(NUMBERS, HEIGHT, WIDTH)])
    torch.nn.init.uniform_(matching.linear.weight, 0, 0.1)
    return matching.eval().to(device)


def make_pictures(identities: np.ndarray, seed: int, device: str) -> Described:
    """Pictures whose vector and places lie around one centre per person; others, from 0 down, around none."""
    generator, centres, parts = torch.Generator().manual_seed(seed), torch.Generator(), []
    size = VECTOR + HEIGHT * WIDTH * NUMBERS
    for start in range(0, len(identities), 256):
        part = identities[start : start + 256].tolist()
        rows = torch.randn(len(part), size, generator=generator)
        for row, identity in zip(rows, part):
            if identity > 0:
                row += torch.randn(size, generator=centres.manual_seed(identity))
        unit = F.normalize(rows[:, VECTOR:].reshape(len(part), -1, NUMBERS), dim=2)
        common = torch.rand(len(part), HEIGHT * WIDTH, generator=generator)
        parts.append(Described(F.normalize(rows[:, :VECTOR]), [keep(unit, common)]))
    whole = Described.cat(parts)
    return Described(whole.vectors.to(device), [level.to(device) for level in whole.levels])


def reference_scores(queries: Places, candidates: Places, weight_x: Tensor, weight_y: Tensor) -> Tensor:
    """Scores by the plain form, pair by pair: one query with all candidates at a time."""
    rows = []
    for x, of_x in zip(queries.unit(), weight_x):
        m, n = best_matches(x.expand(len(candidates), -1, -1), candidates.unit())
        rows.append(m @ of_x + (n * weight_y).sum(1))
    return torch.stack(rows)


def bare_products(queries: Places, candidates: Places, device: str) -> Callable[[], None]:
    """The float32 products of all pairs alone, by tiles of the sizes that the fast form has on a CPU."""
    side = min(len(queries), ops._SIDE_BY_SIDE[device])
    m = queries.numbers.shape[1]
    size = max(1, ops._TILE_ELEMENTS[device] // (side * m * m))
    columns = [part.flatten(0, 1).t().contiguous() for part in queries.unit().split(side)]
    rows = [part.flatten(0, 1) for part in candidates.unit().split(size)]
    buffer = torch.empty(rows[0].shape[0] * columns[0].shape[1], device=device)

    def products() -> None:
        for x in columns:
            for y in rows:
                torch.mm(y, x, out=buffer[: len(y) * x.shape[1]].view(len(y), -1))

    return products


def measure_blocks(matching: PlaceMatching, device: str, budget: float) -> dict[str, float | None]:
    """Figures of many queries with many candidates."""
    queries, candidates = (
        make_pictures(np.arange(1, count + 1), seed, device).levels[0]
        for seed, count in ((1, QUERIES[device]), (2, CANDIDATES[device]))
    )
    head = matching.head()
    weights = head.x[0].of(queries)[0], head.y[0].of(candidates)[0]
    few, some = queries[: REFERENCE[0]], candidates[: REFERENCE[1]]
    fewer = weights[0][: REFERENCE[0]], weights[1][: REFERENCE[1]]

    def fast() -> Tensor:
        return score_block(queries, candidates, *weights)

    best = take_turns(
        {
            "fast": fast,
            "reference": lambda: reference_scores(few, some, *fewer),
            "gemm": bare_products(queries, candidates, device),
        },
        budget,
        device,
        "blocks",
    )
    rate = len(queries) * len(candidates) / best["fast"]
    reference_rate = len(few) * len(some) / best["reference"]
    difference = (score_block(few, some, *fewer) - reference_scores(few, some, *fewer)).abs().max()
    return {
        "pairs_per_second": rate,
        "reference_pairs_per_second": reference_rate,
        "over_reference": rate / reference_rate,
        "fraction_of_gemm": best["gemm"] / best["fast"],
        "largest_difference": float(difference),
        "extra_mb": extra_megabytes(fast, device),
    }


def rerank_ms(matching: PlaceMatching, device: str) -> float:
    """Median milliseconds of a query with `LIST` candidates, another list each time."""
    query = make_pictures(np.ones(1, np.int64), 1, device)
    gallery = make_pictures(np.arange(1, GALLERY + 1), 2, device)
    generator = torch.Generator().manual_seed(0)
    lists = [torch.randperm(len(gallery), generator=generator)[None, :LIST] for _ in range(SEARCHES)]
    times = [seconds(lambda one=one: matching.score(query, gallery, one), device) for one in lists]  # type: ignore[misc]
    return 1e3 * statistics.median(times[1:])  # the first warms up


def blocks_of(queries: Described, size: int, gallery: int) -> Iterator[Described]:
    """Queries block by block, with progress in pairs."""
    pairs = len(queries) * gallery
    with tqdm(total=pairs, unit=" pairs", unit_scale=True, desc="exhaustive", disable=None) as bar:
        for start in range(0, len(queries), size):
            block = queries[start : start + size]
            yield block
            bar.update(len(block) * gallery)


def exhaustive(matching: PlaceMatching, device: str, options: argparse.Namespace) -> dict[str, float]:
    """Every query of Market-1501's lists with its whole gallery; of each, the best picture is kept."""
    query_ids, _, gallery_ids, _ = read_labels(options.labels, options.scale, "market")
    queries, gallery = make_pictures(query_ids, 1, device), make_pictures(gallery_ids, 2, device)
    best: list[Tensor] = []

    def score_all() -> None:
        for block in blocks_of(queries, 64, len(gallery)):
            best.append(matching.score(block, gallery).argmax(1).cpu())

    taken = seconds(score_all, device)
    found = gallery_ids[torch.cat(best).numpy()]
    return {
        "market_exhaustive_pairs": len(queries) * len(gallery),
        "market_exhaustive_s": taken,
        "market_exhaustive_pairs_per_second": len(queries) * len(gallery) / taken,
        "market_exhaustive_best_is_right": float((found == query_ids).mean()),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    add_labels(parser)
    parser.add_argument("--seconds", type=float, default=20, help="measuring time of the forms (default 20)")
    parser.add_argument("--exhaustive", action="store_true", help="all pairs of Market-1501, some minutes")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    figures: dict[str, float | str | None] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": options.threads,
    }
    matching = make_matching(device)
    figures["bytes_per_picture"] = matching.bytes_per_picture
    figures |= measure_blocks(matching, device, options.seconds)
    figures[f"rerank_{LIST}_ms"] = rerank_ms(matching, device)
    if options.exhaustive:
        figures |= exhaustive(matching, device, options)
    report(figures, options.json)


if __name__ == "__main__":
    main()
