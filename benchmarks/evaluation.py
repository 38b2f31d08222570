"""Measure time and memory of an evaluation, against the similarity product alone and the usual code.

    OMP_NUM_THREADS=2 python benchmarks/evaluation.py [--labels DIR] [--json FILE]

The vectors are random, 1024-dimensional, around one centre per identity, so that they rank about as well as
those of a trained model. `market_random_…` repeats the measurement with vectors that carry no information,
the worst case for counting. Labels are Market-1501's official lists if available, otherwise random ones of
the same sizes. Every figure comes from its own process. Times are medians of alternating runs. Memory is the
peak resident size minus the size before the evaluation, with the vectors loaded.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from kronreid.evaluation import evaluate
from labels import add_labels, read_labels

DIMENSION = 1024
NOISE = 2.7  # relative to centres of deviation 1: gives about the mAP of a good model at Market-1501's size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_labels(parser)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()

    figures: dict[str, float] = {"threads": torch.get_num_threads()}
    jobs: list[tuple[str, Callable[..., dict[str, float]], tuple]] = [
        ("Market-1501", market_times, ("cpu", NOISE, "market")),
        ("Market-1501, random vectors", market_times, ("cpu", 1e6, "market_random")),
        ("Market-1501, the usual way", naive_times, ()),
        ("Market-1501, memory", evaluate_once, ("market", False)),
        ("MSMT17", evaluate_once, ("msmt17", False)),
        ("Market-1501, re-ranking", evaluate_once, ("market", True)),
        ("MSMT17, re-ranking", evaluate_once, ("msmt17", True)),
    ]
    if torch.cuda.is_available():
        jobs.append(("Market-1501, GPU", market_times, ("cuda", NOISE, "gpu_market")))
    for name, job, arguments in jobs:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(job, options.labels, options.scale, *arguments).result()
        figures.update(found)
        print(name)
        for key, value in found.items():
            print(f"  {key:28} {value:10.3f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def make_vectors(ids: np.ndarray, noise: float, seed: int) -> torch.Tensor:
    """(N, DIMENSION) unit vectors around one centre per real identity, computed in place, piece by piece."""
    generator = torch.Generator().manual_seed(seed)
    out = torch.empty(len(ids), DIMENSION)
    centres = torch.Generator()
    for start in range(0, len(ids), 256):
        part = out[start : start + 256].normal_(generator=generator).mul_(noise)
        for row, identity in zip(part, ids[start : start + 256].tolist()):
            centre = torch.randn(
                DIMENSION, generator=centres.manual_seed(identity) if identity > 0 else generator
            )
            row.add_(centre)
        part.div_(part.norm(dim=1, keepdim=True))
    return out


def market_times(folder: Path | None, scale: float, device: str, noise: float, name: str) -> dict[str, float]:
    """Time the whole evaluation against the similarity product of all queries with the whole gallery."""
    q_ids, q_cameras, g_ids, g_cameras = read_labels(folder, scale, "market")
    q, g = make_vectors(q_ids, noise, 1).to(device), make_vectors(g_ids, noise, 2).to(device)
    product = torch.empty(len(q), len(g), device=device)
    results = []

    def similarity() -> None:
        torch.mm(q, g.T, out=product)

    def whole() -> None:
        results.append(evaluate(q, q_ids, q_cameras, g, g_ids, g_cameras))

    times = alternate([similarity, whole], device)
    return {
        f"{name}_gemm_s": times[0],
        f"{name}_s": times[1],
        f"{name}_over_gemm": times[1] / times[0],
        f"{name}_mAP": results[0].mAP,
    }


def naive_times(folder: Path | None, scale: float) -> dict[str, float]:
    """Time ours against two versions with a full distance matrix, argsort and a loop over queries.

    `naive` is the usual code of toolboxes: Euclidean distances, a matrix of matches, CMC curves, and a
    running precision in a list comprehension. `numpy` is an optimised version: cosine, no matrix of matches,
    no CMC, everything vectorised over the gallery.
    """
    q_ids, q_cameras, g_ids, g_cameras = read_labels(folder, scale, "market")
    q, g = make_vectors(q_ids, NOISE, 1).numpy(), make_vectors(g_ids, NOISE, 2).numpy()
    found: dict[str, float] = {}

    def naive() -> None:
        squares = (q**2).sum(1)[:, None] + (g**2).sum(1)[None, :]
        order = np.argsort(squares - 2 * (q @ g.T), axis=1)
        matches = (g_ids[order] == q_ids[:, None]).astype(np.int32)
        precisions, curves = [], []
        for i in range(len(q)):
            junk = (g_ids[order[i]] == q_ids[i]) & (g_cameras[order[i]] == q_cameras[i])
            right = matches[i][~junk & (g_ids[order[i]] != -1)]
            if not right.any():
                continue
            hits = right.cumsum()
            curves.append(np.minimum(hits, 1)[:50])
            precision = np.asarray([hit / rank for rank, hit in enumerate(hits, start=1)]) * right
            precisions.append(precision.sum() / right.sum())
        found["naive"] = float(np.mean(precisions))
        found["naive_rank1"] = float(np.mean(curves, axis=0)[0])

    def tight() -> None:
        order = np.argsort(1 - q @ g.T, axis=1)
        precisions = []
        for i in range(len(q)):
            ids, cameras = g_ids[order[i]], g_cameras[order[i]]
            kept = (ids != -1) & ~((ids == q_ids[i]) & (cameras == q_cameras[i]))
            right = (ids[kept] == q_ids[i]).astype(np.float64)
            if right.any():
                precision = right.cumsum() / np.arange(1, len(right) + 1)
                precisions.append((precision * right).sum() / right.sum())
        found["numpy"] = float(np.mean(precisions))

    def whole() -> None:
        result = evaluate(q, q_ids, q_cameras, g, g_ids, g_cameras)
        found["ours"], found["ours_rank1"] = result.mAP, result.rank1

    naive_s, tight_s, ours_s = alternate([naive, tight, whole], "cpu", repeats=3)
    mean_precisions = [found["naive"], found["numpy"], found["ours"]]
    if np.ptp(mean_precisions) > 1e-6 or abs(found["naive_rank1"] - found["ours_rank1"]) > 1e-6:
        sys.exit(f"the results differ: {found}")
    return {
        "naive_s": naive_s,
        "naive_over_market": naive_s / ours_s,
        "numpy_s": tight_s,
        "numpy_over_market": tight_s / ours_s,
    }


def evaluate_once(folder: Path | None, scale: float, size: str, k_reciprocal: bool) -> dict[str, float]:
    """One evaluation in a fresh process: its time, and its peak memory above vectors and labels."""
    q_ids, q_cameras, g_ids, g_cameras = read_labels(folder, scale, size)
    q, g = make_vectors(q_ids, NOISE, 1), make_vectors(g_ids, NOISE, 2)
    protocol: str = "market1501" if size == "market" else "msmt17"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    if k_reciprocal and size == "market":  # all 23,100 vectors: what the protocol would drop is re-ranked too
        g_ids = np.where(g_ids == -1, 0, g_ids)
    result = evaluate(q, q_ids, q_cameras, g, g_ids, g_cameras, protocol=protocol, k_reciprocal=k_reciprocal)
    seconds = time.perf_counter() - started
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    name = f"rerank_{size}" if k_reciprocal else size
    figures = {f"{name}_extra_mb": extra, f"{name}_mAP": result.mAP}
    return figures if name == "market" else {f"{name}_s": seconds} | figures


def alternate(jobs: list[Callable[[], None]], device: str, repeats: int = 5) -> list[float]:
    """Median seconds of each job. The jobs alternate, after one warm-up run."""
    times: list[list[float]] = [[] for _ in jobs]
    for repeat in range(repeats + 1):
        for job, seconds in zip(jobs, times):
            if device == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            job()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat:
                seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in times]


if __name__ == "__main__":
    main()
