"""Measure the cost of a training step on a CPU, and how much `kronreid.training.cpu` saves.

High-order pooling is also measured alone, forward and backward, in the paper's form and in that of training.

    python benchmarks/training.py --json training.json

One step consists of the forward pass, the triplet loss, the backward pass and AdamW, under bf16 autocast, on
prepared random pictures without decoding. Every form runs in its own processes, because kept memory cannot be
released, and the forms alternate. A figure is the median over the turns of the median in a process.
`…_over_plain` is the speed-up over the plain form.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from common import BATCH, make_parser, report, seconds
from kronreid.losses.triplet import triplet_loss
from kronreid.memory import keep_memory
from kronreid.models.backbone import BackboneOptions
from kronreid.models.baselines import Pooled
from kronreid.models.horeid import HOReID
from kronreid.ops.sketch import CountSketch, high_order_pooling, high_order_product
from kronreid.training.cpu import strided_depthwise_in_full_precision

MODELS = ("pooled", "horeid")
DIMENSIONS = (512, 2048)
#: Memory layouts: of maps from convolutions, a row of channels per place; of parts from averages over places.
LAYOUTS = ("rows", "planes")
#: Which optimisations a form uses: keeping memory, and strided depthwise convolutions in fp32.
FORMS = {"plain": (False, False), "memory": (True, False), "depthwise": (False, True), "both": (True, True)}


def step_seconds(options: argparse.Namespace, model: str, memory: bool, depthwise: bool) -> float:
    """The median seconds of a few steps in this process."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    # The padding of weights from TensorFlow, as in the rows of market1501-split.
    backbone = BackboneOptions(options.backbone, "none", 1, {"pad_type": "same"})
    made = Pooled(backbone) if model == "pooled" else HOReID(backbone, parts=64, normalise_levels=True)
    network = made.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if memory:
        keep_memory()
    if depthwise:
        strided_depthwise_in_full_precision(network)
    optimiser = torch.optim.AdamW(network.parameters())
    images = torch.randn(BATCH, 3, options.height, options.width)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) // 4

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            branches = network(images).branches.values()
        loss = torch.stack([triplet_loss(branch, labels) for branch in branches]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    for _ in range(3):
        step()
    return statistics.median(seconds(step) for _ in range(options.steps))


def paper_pooling(maps: Sequence[Tensor], sketches: Sequence[CountSketch]) -> Tensor:
    """Eq. 10 at every position, then the mean."""
    return high_order_product([psi(x.transpose(1, 2)) for psi, x in zip(sketches, maps)]).mean(1)


def pooling_seconds(options: argparse.Namespace, dimension: int, layout: str) -> dict[str, float]:
    """The median times of both forms, which alternate, and the largest difference of their gradients."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_memory()
    places, channels, order = options.height * options.width // 256, 512, 3
    sketches = [CountSketch(channels, dimension, seed=level) for level in range(order)]
    levels = [F.normalize(torch.randn(BATCH, places, channels), dim=2) for _ in range(order)]
    maps = [level.transpose(1, 2) for level in levels]
    if layout == "planes":
        maps = [level.contiguous() for level in maps]
    maps = [level.requires_grad_() for level in maps]
    weights = torch.randn(BATCH, dimension)

    def gradients(form: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad((form(maps, sketches) * weights).sum(), maps)

    expected, found = gradients(paper_pooling), gradients(high_order_pooling)
    plain, fast = [], []
    for _ in range(options.steps):
        plain.append(seconds(partial(gradients, paper_pooling)))
        fast.append(seconds(partial(gradients, high_order_pooling)))
    difference = max(float((a - b).norm() / a.norm()) for a, b in zip(expected, found))
    return {
        "plain_seconds": statistics.median(plain),
        "fast_seconds": statistics.median(fast),
        "fast_over_plain": statistics.median(a / b for a, b in zip(plain, fast)),
        "gradients_difference": difference,
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="mobilenetv2_100", help="a timm model's name")
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--steps", type=int, default=10, help="in each process")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()

    jobs = [(model, form) for model in MODELS for form in FORMS]
    times: dict[tuple[str, str], list[float]] = {job: [] for job in jobs}
    spawn = multiprocessing.get_context("spawn")
    for turn in tqdm(range(options.turns), desc="turns", disable=None):
        for model, form in jobs if turn % 2 else jobs[::-1]:
            with spawn.Pool(1) as pool:
                times[model, form].append(pool.apply(partial(step_seconds, options, model), args=FORMS[form]))

    with spawn.Pool(1) as pool:
        pooling = {
            f"{dimension}_{layout}": pool.apply(pooling_seconds, (options, dimension, layout))
            for dimension in DIMENSIONS
            for layout in LAYOUTS
        }

    result: dict[str, float | str] = {
        name: getattr(options, name) for name in ("backbone", "height", "width", "threads")
    }
    for model in MODELS:
        medians = {form: statistics.median(times[model, form]) for form in FORMS}
        for form, median in medians.items():
            result[f"{model}_{form}_pictures_per_second"] = BATCH / median
        for form in list(FORMS)[1:]:
            result[f"{model}_{form}_over_plain"] = medians["plain"] / medians[form]
    for case, figures in pooling.items():
        result |= {f"pooling_{case}_{name}": figure for name, figure in figures.items()}
    report(result, options.json)


if __name__ == "__main__":
    main()
