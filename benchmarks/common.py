"""Shared code of the benchmarks: the clock, the embedder under test and the output of the figures."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from kronreid.data.transforms import InputOptions
from kronreid.models.backbone import BackboneOptions
from kronreid.models.folding import fold
from kronreid.models.horeid import HOReID
from kronreid.models.inference import Embedder

BATCH = 64


def seconds(function: Callable[[], object]) -> float:
    """The wall time of one call in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all figures here, flat")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def add_embedder(parser: argparse.ArgumentParser, last_stride: int, images: int) -> None:
    """Add the options of `make_embedder`, and the number of pictures."""
    parser.add_argument("--backbone", default="mobilenetv2_100", help="a timm model's name")
    parser.add_argument("--last-stride", type=int, default=last_stride)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--parts", type=int, default=64, help="HOReID's sampled parts")
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--turns", type=int, default=5)


def make_embedder(options: argparse.Namespace) -> tuple[Embedder, dict[str, float | str]]:
    """HOReID in its inference form with random weights, and the figures that describe the setting."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    backbone = BackboneOptions(options.backbone, "none", options.last_stride)
    model = fold(HOReID(backbone, parts=options.parts, normalise_levels=True))
    told = {name: getattr(options, name) for name in ("backbone", "height", "width", "images", "threads")}
    return Embedder(model, InputOptions(options.height, options.width)), told


def report(figures: Mapping[str, float | str], file: Path | None) -> None:
    """Print the figures, and write them to the file if there is one."""
    for key, value in figures.items():
        print(f"{key:36} {value:.4g}" if isinstance(value, float) else f"{key:36} {value}")
    if file:
        file.write_text(json.dumps(figures, indent=1) + "\n")
