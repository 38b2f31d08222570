"""Measure the pairs per second of Kronecker-product matching: the reference against the fast forms.

    OMP_NUM_THREADS=2 python benchmarks/matching.py --json matching.json

Every form matches the same synthetic pictures at KPM's three scales (channels x height x width) and scores
them with a linear head. The forms alternate, and the best time of each is kept. The "fraction of the matrix
product" counts only the 2 M^2 C operations of the inner products. It is relative to the rate of one large
matrix product in the same dtype, measured in the same turns. With a GPU, the Triton kernel and an exhaustive
run are added.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from common import extra_megabytes, seconds, take_turns
from kronreid.ops import blocks
from kronreid.ops.blocks import PreparedMaps, prepare, score_block
from kronreid.ops.matching import match_pairs, match_reference

SCALES = ((2048, 8, 4), (1024, 16, 8), (512, 32, 16))
MARKET_PAIRS = 3_368 * 19_732  # every query of Market-1501 with every picture of its gallery
GEMM_SIZE = {"cpu": 2048, "cuda": 8192}
REFERENCE_BATCH = {"cpu": 16, "cuda": 128}
QUERIES, CANDIDATES = {"cpu": 8, "cuda": 64}, {"cpu": 48, "cuda": 512}
TRAINING_PICTURES, TRAINING_PAIRS = 16, 32


def pictures(channels: int, positions: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Maps and weights of queries, and maps of candidates: noisy, shifted copies of the queries' maps."""
    generator = torch.Generator().manual_seed(channels)
    queries, candidates = QUERIES[device], CANDIDATES[device]
    x = torch.randn(queries, channels, positions, generator=generator)
    noise = torch.linspace(0.3, 2.5, candidates)[:, None, None]
    y = x[torch.arange(candidates) % queries].roll(1, dims=2)
    y = y + noise * torch.randn(candidates, channels, positions, generator=generator)
    weight = 1 + torch.randn(queries, positions, generator=generator).softmax(1)
    return x.to(device), weight.to(device), y.to(device)


def reference_scores(x: Tensor, weight: Tensor, y: Tensor, head: Tensor, query: int, device: str) -> Tensor:
    """Compare one query with all candidates in the paper's form, in batches of pairs."""
    scores = []
    for part in y.split(REFERENCE_BATCH[device]):
        n = len(part)
        delta = match_reference(
            x[query : query + 1].expand(n, -1, -1), part, weight[query : query + 1].expand(n, -1)
        ).delta
        scores.append(delta.square() @ head)
    return torch.cat(scores)


def training_steps(channels: int, positions: int, device: str) -> dict[str, Callable[[], object]]:
    """Forward and backward over the pairs of a batch: the paper's form on gathered maps, `match_pairs`."""
    maps = torch.randn(TRAINING_PICTURES, channels, positions, device=device, requires_grad=True)
    weight = torch.rand(TRAINING_PICTURES, positions, device=device, requires_grad=True)
    i, j = torch.randint(TRAINING_PICTURES, (2, TRAINING_PAIRS), device=device)

    def step(form: Callable[[], Tensor]) -> None:
        torch.autograd.grad(form().square().sum(), (maps, weight))

    return {
        "training_reference": lambda: step(lambda: match_reference(maps[i], maps[j], weight[i]).delta),
        "training_pairs": lambda: step(lambda: match_pairs(maps, maps, i, j, weight)),
    }


def without_kernel(queries: PreparedMaps, candidates: PreparedMaps, head: Tensor) -> Tensor:
    with patch.object(blocks, "_fused_column_sums", lambda: None):
        return score_block(queries, candidates, head)


def gemm(dtype: torch.dtype, device: str) -> Callable[[], object]:
    size = GEMM_SIZE[device]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def measure_scale(scale: tuple[int, int, int], budget: float, device: str) -> tuple[dict, dict[str, Tensor]]:
    """The figures of one scale, and the scores of each form."""
    channels, height, width = scale
    m = height * width
    x, weight, y = pictures(channels, m, device)
    head = -torch.rand(channels, generator=torch.Generator().manual_seed(0)).to(device)
    half, single = torch.bfloat16, torch.float32
    prepared = {dtype: (prepare(x, weight, dtype), prepare(y, None, dtype)) for dtype in (single, half)}
    kernel = device == "cuda" and blocks._fused_column_sums() is not None
    forms: dict[str, Callable[[], Tensor]] = {
        "reference": lambda: reference_scores(x, weight, y, head, 0, device),
        "fast": lambda: without_kernel(*prepared[single], head),
        "bf16": lambda: without_kernel(*prepared[half], head),
    }
    if kernel:
        forms["kernel"] = lambda: score_block(*prepared[half], head)
    with torch.no_grad():
        scores = {key: form() for key, form in forms.items()}
        scores["reference"] = torch.stack(
            [reference_scores(x, weight, y, head, q, device) for q in range(len(x))]
        )
    gemms: dict[str, Callable[[], object]] = {
        "gemm_fp32": gemm(single, device),
        "gemm_bf16": gemm(half, device),
    }
    with torch.no_grad():
        best = take_turns({**gemms, **forms}, budget, device, "x".join(map(str, scale)))
    best |= take_turns(training_steps(channels, m, device), budget / 4, device, "training")
    figures: dict[str, float | None] = {}
    rates = {key: 2 * GEMM_SIZE[device] ** 3 / best[key] for key in gemms}
    for key, form in forms.items():
        pairs = len(y) * (1 if key == "reference" else len(x))
        figures[f"{key}_seconds_per_pair"] = best[key] / pairs
        figures[f"{key}_pairs_per_second"] = pairs / best[key]
        rate = rates["gemm_fp32" if key in ("reference", "fast") else "gemm_bf16"]
        figures[f"{key}_gemm_seconds_per_pair"] = 2 * m * m * channels / rate
        figures[f"{key}_fraction_of_gemm"] = 2 * m * m * channels * pairs / best[key] / rate
        figures[f"{key}_extra_mb"] = extra_megabytes(form, device)
        error = (scores[key] - scores["reference"]).abs().max() / scores["reference"].abs().max()
        figures[f"{key}_largest_difference"] = float(error)
    figures |= {f"{key}_tflops": rate / 1e12 for key, rate in rates.items()}
    figures |= {f"{key}_seconds": best[key] for key in ("training_reference", "training_pairs")}
    return figures, scores


def ranking_agreement(exact: Tensor, other: Tensor, top: int = 10) -> float:
    """The mean share of each query's first `top` candidates that both rankings have in common."""
    first = [scores.topk(top, dim=1).indices for scores in (exact, other)]
    return float((first[0][:, :, None] == first[1][:, None]).any(2).float().mean())


def exhaustive_seconds(device: str, pictures_each: int = 1024) -> float:
    """Match all 1,048,576 pairs of 1024 queries and 1024 candidates at three scales, in bfloat16."""
    total = 0.0
    for channels, height, width in SCALES:
        head = torch.rand(channels, device=device)
        sets = [
            PreparedMaps.cat(
                [
                    prepare(torch.randn(64, channels, height, width, device=device), None, torch.bfloat16)
                    for _ in range(pictures_each // 64)
                ]
            )
            for _ in range(2)
        ]
        queries, candidates = sets
        score_block(queries[:64], candidates[:64], head)  # compiles the kernel
        total += seconds(partial(score_block, queries, candidates, head), device)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all figures here, flat")
    parser.add_argument("--seconds", type=float, default=20, help="measuring time per scale (default 20)")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result: dict[str, float | str | None] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }
    scales, all_scores = [], []
    for scale in SCALES:
        figures, scores = measure_scale(scale, options.seconds, device)
        scales.append(figures)
        all_scores.append(scores)
        result |= {f"{'x'.join(map(str, scale))}_{key}": value for key, value in figures.items()}

    def together(key: str) -> float:
        return sum(figures[key] for figures in scales)

    forms = list(all_scores[0])
    scores = {key: torch.stack([s[key] for s in all_scores]).sum(0) for key in forms}
    for key in forms:
        per_pair = together(f"{key}_seconds_per_pair")
        result[f"together_{key}_pairs_per_second"] = 1 / per_pair
        result[f"together_{key}_market_seconds"] = per_pair * MARKET_PAIRS
        result[f"together_{key}_top10_agreement"] = ranking_agreement(scores["reference"], scores[key])
        name = {"fast": "fp32"}.get(key, key)
        result[f"{name}_speedup"] = together("reference_seconds_per_pair") / per_pair
        result[f"{name}_fraction_of_gemm"] = together(f"{key}_gemm_seconds_per_pair") / per_pair
    result["training_speedup"] = together("training_reference_seconds") / together("training_pairs_seconds")
    if device == "cuda":
        result["exhaustive_pairs"] = 1024**2
        result["exhaustive_seconds"] = exhaustive_seconds(device)

    for key, value in result.items():
        print(f"{key:45} {value:.4g}" if isinstance(value, float) else f"{key:45} {value}", file=sys.stdout)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
