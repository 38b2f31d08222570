"""Measure the pictures per second of `Embedder.embed` from JPEG files, and the time of its parts.

    python benchmarks/embed.py --json embed.json [--compile]
    python benchmarks/embed.py --backbone resnet50.tv_in1k --height 384 --width 128 --parts 256 --images 128

The pictures are generated pedestrians in files of Market-1501's size (128 × 64). The network is HOReID with
random weights as `kronreid.load` returns it. Decoding and the transform are timed separately, and so is the
network, on prepared batches. `network_share` is the network's time divided by the total time, measured in the
same turn. The rest to 1 is work that does not overlap with the network.

Three forms of the same folded network embed the files in turns, so that a change of the machine's load meets
all of them. Each ratio is the median of the ratios of single turns:

- `eager`: plain modules of torch in eval mode, channels last, one pass per 64 pictures;
- `default`: what `kronreid.load` returns on a CPU, `default_cosine` is its lowest cosine to `eager`;
- `int8`: the graph of `--format onnx-int8` in onnxruntime, `int8_cosine` is its mean cosine to `eager`.

`processor` names the instructions that int8 and bfloat16 depend on. A processor without bfloat16 emulates it
and needs about a second per picture, so bfloat16 is not measured there.
"""

from __future__ import annotations

import operator
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common import BATCH, add_embedder, instructions, make_embedder, make_parser, report, seconds
from kronreid.data.generated import draw
from kronreid.data.images import open_rgb
from kronreid.data.transforms import resize, to_tensor
from kronreid.export.int8 import quantise
from kronreid.export.onnx import write_onnx
from kronreid.models.inference import Embedder
from kronreid.models.onnx import OnnxEmbedder, load_onnx

DRAWN = 64  # number of different pictures; further files are copies


def pictures(folder: Path, number: int, height: int) -> list[Path]:
    """Write JPEG files of generated pedestrians."""
    drawn = [
        draw(identity, camera=identity % 6, shot=0, height=height, width=height // 2)
        for identity in tqdm(range(min(DRAWN, number)), desc="drawing", disable=None)
    ]
    paths = [folder / f"{i:05d}.jpg" for i in range(number)]
    for i, path in enumerate(paths):
        drawn[i % len(drawn)].save(path, quality=92)
    return paths


class Stages:
    """Time the steps of `Embedder.embed` one by one."""

    def __init__(self, embedder: Embedder, paths: list[Path]) -> None:
        self.embedder, self.paths = embedder, paths
        self.opened = [open_rgb(path) for path in paths]
        self.per_pass = min(BATCH, embedder.per_pass or BATCH)
        self.batches = self.made_ready()

    def decode(self) -> None:
        for path in self.paths:
            open_rgb(path)

    def made_ready(self) -> list[Tensor]:
        pixels = [resize(to_tensor(image), self.embedder.input) for image in self.opened]
        starts = range(0, len(pixels), self.per_pass)
        return [self.embedder.batch(pixels[start : start + self.per_pass]) for start in starts]

    @torch.no_grad()
    def network(self) -> None:
        for batch in self.batches:
            self.embedder.descriptors(batch)

    def whole(self) -> np.ndarray:
        return self.embedder.embed(self.paths, batch_size=BATCH)


class Eager(Embedder):
    """The modules as they stand, and passes as large as they are asked for."""

    per_pass = None


def int8_form(embedder: Embedder, paths: list[Path], folder: Path) -> OnnxEmbedder:
    """The embedder in int8, calibrated on the pictures that are measured."""
    graph, quantised = folder / "float.onnx", folder / "int8.onnx"
    write_onnx(embedder, graph)
    quantise(graph, quantised, [embedder.as_seen(path) for path in paths[:DRAWN]])
    return load_onnx(quantised, device="cpu")


def speeds(tools: dict[str, Embedder], paths: list[Path], turns: int) -> dict[str, list[float]]:
    """Pictures per second of several embedders, which take turns."""
    found: dict[str, list[float]] = {name: [] for name in tools}
    for tool in tools.values():
        tool.embed(paths[:BATCH], batch_size=BATCH)
    for _ in tqdm(range(turns), desc=", ".join(tools), disable=None):
        for name, tool in tools.items():
            taken = seconds(lambda tool=tool: tool.embed(paths, batch_size=BATCH))  # type: ignore[misc]
            found[name].append(len(paths) / taken)
    return found


def measure(stages: Stages, turns: int, name: str) -> tuple[float, float]:
    """The pictures per second in total, and the network's share of the time."""
    stages.network()
    speeds, shares = [], []
    for _ in tqdm(range(turns), desc=name, disable=None):
        network, whole = seconds(stages.network), seconds(stages.whole)
        speeds.append(len(stages.paths) / whole)
        shares.append(network / whole)
    return statistics.median(speeds), statistics.median(shares)


def main() -> None:
    parser = make_parser(__doc__)
    add_embedder(parser, last_stride=2, images=256)
    parser.add_argument("--file-height", type=int, default=128, help="of the pictures in files")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too, about a minute")
    options = parser.parse_args()

    embedder, result = make_embedder(options)
    result["processor"] = instructions()
    with tempfile.TemporaryDirectory() as folder:
        stages = Stages(embedder, pictures(Path(folder), options.images, options.file_height))
        for name, stage in (("decode", stages.decode), ("transform", stages.made_ready)):
            times = [seconds(stage) for _ in range(options.turns)]
            result[f"{name}_ms"] = 1000 * statistics.median(times) / options.images
        result["network_ms"] = 1000 * seconds(stages.network) / options.images
        speed, share = measure(stages, options.turns, "float32")
        result |= {"images_per_second": speed, "network_share": share}
        eager = Eager(embedder.model, embedder.input)
        tools = {"default": embedder, "eager": eager, "int8": int8_form(embedder, stages.paths, Path(folder))}
        found = speeds(tools, stages.paths, options.turns)
        vectors = {name: tool.embed(stages.paths[:DRAWN]) for name, tool in tools.items()}
        cosines = {name: (one * vectors["eager"]).sum(axis=1) for name, one in vectors.items()}
        result |= {
            "eager_images_per_second": statistics.median(found["eager"]),
            "default_over_eager": statistics.median(map(operator.truediv, found["default"], found["eager"])),
            "default_cosine": float(cosines["default"].min()),
            "int8_cosine": float(cosines["int8"].mean()),
            "int8_images_per_second": statistics.median(found["int8"]),
            "int8_over_default": statistics.median(map(operator.truediv, found["int8"], found["default"])),
        }
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            embedder.autocast = True
            half, half_share = measure(stages, options.turns, "bfloat16")
            result |= {
                "bf16_images_per_second": half,
                "bf16_network_share": half_share,
                "bf16_speedup": half / speed,
            }
            embedder.autocast = False
        if options.compile:
            embedder.model, embedder.fast = torch.compile(embedder.model), False
            result["compile_seconds"] = seconds(stages.network)
            compiled, _ = measure(stages, options.turns, "compiled")
            result |= {"compiled_images_per_second": compiled, "compiled_speedup": compiled / speed}
    report(result, options.json)


if __name__ == "__main__":
    main()
