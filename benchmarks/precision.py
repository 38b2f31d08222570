"""Measure the effect of lower precision on the rankings of a trained matcher.

    python benchmarks/precision.py runs/kpm --data DATA --json precision.json

The best 75 candidates of every query by the matcher's pooled features are re-scored in float32, with the
matching in bfloat16, and with the network in bfloat16 as well. All three use the lists of float32. The
figures of each are rank-1 and mAP of the re-scored ranking, Kendall's tau of the lists' orders (mean over
queries), the share of the first ten that stay the same, and the seconds of the scoring.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau

from kronreid.data.readers import read
from kronreid.errors import InputError
from kronreid.evaluation import evaluate_scores
from kronreid.models.inference import Matcher
from kronreid.models.loading import load

FORMS = {
    "fp32": (torch.float32, False),
    "bf16_matching": (torch.bfloat16, False),
    "bf16": (torch.bfloat16, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", help="the matcher's run folder")
    parser.add_argument("--data", required=True, help="the data set's folder")
    parser.add_argument("--layout", help="its layout (default: detected)")
    parser.add_argument("--top", type=int, default=75, help="candidates of each query (75)")
    parser.add_argument("--json", type=Path, help="write all figures here, flat")
    options = parser.parse_args()
    try:
        figures = measure(options.model, options.data, options.layout, options.top)
    except InputError as error:
        sys.exit(f"precision.py: {error}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(model: str, data: str, layout: str | None, top: int) -> dict[str, float]:
    """All figures as a flat dictionary; they are also printed as they are measured."""
    matcher = load(model)
    if not isinstance(matcher, Matcher):
        raise InputError(model, "is an embedder; name a pair model like KPM")
    dataset = read(data, layout)
    gallery = [picture for picture in dataset.gallery if picture.identity != -1]
    figures: dict[str, float] = {}
    lists = similarity = reference = torch.empty(0)
    for name, (matching, networks) in FORMS.items():
        matcher.matching, matcher.autocast = matching, networks
        query_maps = matcher.encode([picture.path for picture in dataset.query], progress=True)
        gallery_maps = matcher.encode([picture.path for picture in gallery], progress=True)
        if not len(lists):
            similarity = query_maps.pooled @ gallery_maps.pooled.T
            lists = similarity.topk(min(top, len(gallery))).indices
        started = time.perf_counter()
        logits = matcher.score_lists(query_maps, gallery_maps, lists).float().cpu()
        found = {"seconds": time.perf_counter() - started}
        if not len(reference):
            reference = logits
        # Pictures that are not in a list follow it in the order of the first stage: cosines are at most 1.
        scores = similarity.cpu() + float(logits.min()) - 2
        result = evaluate_scores(
            scores.scatter(1, lists.cpu(), logits),
            *([getattr(picture, label) for picture in dataset.query] for label in ("identity", "camera")),
            *([getattr(picture, label) for picture in gallery] for label in ("identity", "camera")),
            protocol=dataset.protocol,
            ranks=(1,),
        )
        first, other = (
            rows.argsort(dim=1, descending=True, stable=True)[:, :10] for rows in (reference, logits)
        )
        found |= {
            "rank1": result.rank1,
            "mAP": result.mAP,
            "tau": float(np.mean([kendalltau(a, b).statistic for a, b in zip(reference, logits)])),
            "top10_shared": float((first[:, :, None] == other[:, None, :]).any(2).float().mean()),
        }
        print(name, *(f"{key} {value:.4f}" for key, value in found.items()), sep="  ", flush=True)
        figures |= {f"{name}_{key}": value for key, value in found.items()}
    return figures


if __name__ == "__main__":
    main()
