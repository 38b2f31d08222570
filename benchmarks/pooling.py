"""Measure the cost of HOReID's poolings and of concatenated levels relative to average pooling.

Forward passes of ResNet-50 are timed, unfolded and folded.

    python benchmarks/pooling.py --json pooling.json

Weights are random. Batches are channels-last, as in `Embedder`. All forms alternate in one process, and a
ratio is the median over the turns of the ratio of two consecutive times. For the folded forms, GAP is folded
as well (batch normalisation into convolutions).
"""

from __future__ import annotations

import statistics
from functools import partial

import torch
from torch import nn
from tqdm import tqdm

from common import make_parser, report, seconds
from kronreid.models.backbone import BackboneOptions
from kronreid.models.baselines import Concatenated, Pooled
from kronreid.models.folding import fold
from kronreid.models.horeid import HOReID

POOLINGS = ("gap", "cat", "ghp", "ghp_lhp")
#: The cost of each pooling relative to average pooling, by the name of its figure.
RATIOS = {"cat": "cat_over_gap", "ghp": "ghp_over_gap", "ghp_lhp": "over_gap"}


def network(pooling: str, backbone: BackboneOptions, order: int) -> nn.Module:
    torch.manual_seed(0)
    if pooling == "gap":
        return Pooled(backbone).eval()
    if pooling == "cat":
        return Concatenated(backbone, order=order, parts=0).eval()
    return HOReID(backbone, order=order, parts=0 if pooling == "ghp" else 256).eval()


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="resnet50.tv_in1k", help="a timm model's name")
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8, help="pictures in a pass")
    parser.add_argument("--order", type=int, default=3, help="levels multiplied")
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    backbone = BackboneOptions(options.backbone, "none", last_stride=1)
    images = torch.randn(options.batch, 3, options.height, options.width)
    images = images.contiguous(memory_format=torch.channels_last)
    forms: dict[str, nn.Module] = {}
    for pooling in POOLINGS:
        model = network(pooling, backbone, options.order)
        for form, made in (("unfolded", model), ("folded", fold(model))):
            forms[f"{form}_{pooling}"] = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    # Forms of one kind run one after the other, so that the times of a ratio were measured together.
    turn = sorted(forms)
    times: dict[str, list[float]] = {name: [] for name in forms}
    with torch.no_grad():
        descriptors = {name: forms[name](images).descriptor for name in turn}  # warm up, and compare
        for number in tqdm(range(options.turns), desc="turns", disable=None):
            for name in turn if number % 2 else turn[::-1]:
                times[name].append(seconds(partial(forms[name], images)))

    result: dict[str, float | str] = {
        "backbone": options.backbone,
        "batch": options.batch,
        "threads": options.threads,
        "order": options.order,
    }
    result |= {f"{name}_seconds": statistics.median(values) for name, values in times.items()}
    for form in ("unfolded", "folded"):
        for pooling, key in RATIOS.items():
            pairs = zip(times[f"{form}_{pooling}"], times[f"{form}_gap"])
            result[f"{form}_{key}"] = statistics.median(dear / plain for dear, plain in pairs)
    for pooling in POOLINGS:
        difference = descriptors[f"folded_{pooling}"] - descriptors[f"unfolded_{pooling}"]
        result[f"{pooling}_largest_difference"] = float(difference.norm(dim=1).max())
    report(result, options.json)


if __name__ == "__main__":
    main()
