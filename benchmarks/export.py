"""Compare an embedder in PyTorch with its ONNX export in onnxruntime: pictures per second and difference.

    python benchmarks/export.py --json export.json
    python benchmarks/export.py --backbone resnet50.tv_in1k --height 384 --width 128 --parts 256 --images 32

Both get the same decoded pictures and the same number of threads, and they alternate. `torch_per_second` and
`onnxruntime_per_second` measure `Embedder.embed` with resizing and normalisation, the `network` figures
measure only the network. PyTorch runs the network as `kronreid.load` returns it. The weights are
random.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common import BATCH, add_embedder, make_embedder, make_parser, report, seconds
from kronreid.data.generated import draw
from kronreid.export import export
from kronreid.models.inference import Embedder
from kronreid.models.onnx import load_onnx


@torch.no_grad()
def network(embedder: Embedder, batches: list[Tensor]) -> None:
    """Run only the network."""
    for batch in batches:
        embedder.descriptors(batch)


def batches(embedder: Embedder, pictures: list[np.ndarray]) -> list[Tensor]:
    """The input of the network for the pictures."""
    pixels = [embedder.pixels(picture) for picture in pictures]
    return [embedder.batch(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]


def main() -> None:
    parser = make_parser(__doc__)
    add_embedder(parser, last_stride=1, images=256)
    options = parser.parse_args()

    reference, result = make_embedder(options)
    drawn = [np.asarray(draw(person, camera=person % 6, shot=0)) for person in range(min(64, options.images))]
    pictures = [drawn[i % len(drawn)] for i in range(options.images)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "horeid.onnx"
        result["export_seconds"] = seconds(lambda: export(reference, file))
        result["megabytes"] = file.stat().st_size / 1e6
        tools = {"torch": reference, "onnxruntime": load_onnx(file, device="cpu")}
        vectors = {name: tool.embed(pictures, BATCH) for name, tool in tools.items()}
        result["largest_difference"] = float(np.abs(vectors["torch"] - vectors["onnxruntime"]).max())
        ready = {name: batches(tool, pictures) for name, tool in tools.items()}
        times: dict[str, list[float]] = {}
        for _ in tqdm(range(options.turns), disable=None):
            for name, tool in tools.items():
                whole = seconds(lambda tool=tool: tool.embed(pictures, BATCH))  # type: ignore[misc]
                alone = seconds(lambda tool=tool, name=name: network(tool, ready[name]))  # type: ignore[misc]
                times.setdefault(f"{name}_per_second", []).append(whole)
                times.setdefault(f"{name}_network_per_second", []).append(alone)
    result |= {name: options.images / statistics.median(values) for name, values in times.items()}
    for kind in ("", "network_"):
        faster = [
            a / b for a, b in zip(times[f"torch_{kind}per_second"], times[f"onnxruntime_{kind}per_second"])
        ]
        result[f"onnxruntime_{kind}speedup"] = statistics.median(faster)
    report(result, options.json)


if __name__ == "__main__":
    main()
