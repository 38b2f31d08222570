"""Shared code of the benchmarks: the clock, the embedder under test and the output of the figures."""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from tqdm import tqdm

from kronreid.data.transforms import InputOptions
from kronreid.models.backbone import BackboneOptions
from kronreid.models.folding import fold
from kronreid.models.horeid import HOReID
from kronreid.models.inference import Embedder

BATCH = 64


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(function: Callable[[], object], device: str = "cpu") -> float:
    """The wall time of one call in seconds."""
    synchronise(device)
    start = time.perf_counter()
    function()
    synchronise(device)
    return time.perf_counter() - start


def take_turns(
    forms: dict[str, Callable[[], object]], budget: float, device: str, name: str
) -> dict[str, float]:
    """The best seconds of each form. They alternate until the budget (seconds) is used, at least 3 times."""
    for form in forms.values():
        form()
    best = dict.fromkeys(forms, float("inf"))
    start, turns = time.perf_counter(), 0
    with tqdm(total=None, desc=name, disable=None, leave=False) as bar:
        while turns < 3 or time.perf_counter() - start < budget:
            for key, form in forms.items():
                best[key] = min(best[key], seconds(form, device))
            turns += 1
            bar.update()
    return best


def extra_megabytes(function: Callable[[], object], device: str) -> float | None:
    """The rise of memory above the level before; None if the system does not report it."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # return freed pages, whose reuse would hide new memory
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before_kb = status_kb("VmRSS")
        function()
        return (status_kb("VmHWM") - before_kb) / 2**10
    except OSError:
        return None


def status_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


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
    """HOReID with random weights as `kronreid.load` returns it, and the figures that describe the setting."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    backbone = BackboneOptions(options.backbone, "none", options.last_stride)
    model = fold(HOReID(backbone, parts=options.parts, normalise_levels=True))
    told = {name: getattr(options, name) for name in ("backbone", "height", "width", "images", "threads")}
    embedder = Embedder(model, InputOptions(options.height, options.width))
    embedder.fast = True
    return embedder, told


def instructions() -> str:
    """The processor's vector instructions as torch names them, and what it has for int8 and bfloat16."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.is_file() else set()
    vnni = "VNNI" if flags & {"avx512_vnni", "avx_vnni"} else "no VNNI"
    bf16 = "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "no bfloat16"
    return f"{torch.backends.cpu.get_cpu_capability()}, {vnni}, {bf16}"


def report(figures: Mapping[str, float | str | None], file: Path | None) -> None:
    """Print the figures, and write them to the file if there is one."""
    for key, value in figures.items():
        print(f"{key:36} {value:.4g}" if isinstance(value, float) else f"{key:36} {value}")
    if file:
        file.write_text(json.dumps(figures, indent=1) + "\n")
