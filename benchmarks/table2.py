"""HOReID's Table II: milliseconds and pictures per second of every row, beside the paper's.

    python benchmarks/table2.py --json table2.json --table table2.md
    python benchmarks/table2.py --device cuda

Every row of the table is timed unfolded (as it trains) and folded (as it is used), with 1 and with 32
pictures in a pass. Weights are random. A batch is on the device, channels-last, before the clock starts. All
rows of one form and batch alternate in one process, and a figure is the median over the turns.

The paper names one GTX 1080 Ti, and neither the number of pictures in a pass nor the form. So its figures can
be compared with one another, but not with those of other hardware. The table therefore also has each row's
time relative to the pooled row (GAP) of the same form and batch.
"""

from __future__ import annotations

import platform
import statistics
from functools import partial
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from common import make_parser, report, seconds
from kronreid.models.folding import fold
from kronreid.papers import papers
from kronreid.training.config import build_model, read_config

FORMS = ("unfolded", "folded")
#: The paper's hardware (Sec. VI-B, Table II).
PAPER = "one GTX 1080 Ti"


def network(row: str, form: str, backbone: str) -> nn.Module:
    """A row's network in one of `FORMS`, with random weights."""
    torch.manual_seed(0)
    changes = [f"model.backbone.name={backbone}", "model.backbone.weights=none"]
    model = build_model(read_config(f"horeid/market1501/{row}", changes)).eval()
    return fold(model) if form == "folded" else model


def hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor() or 'CPU'}, {torch.get_num_threads()} threads"


def as_table(figures: dict[str, float | str | None], rows: list[str], batches: list[int]) -> str:
    """The figures as Markdown: pictures/s, milliseconds a picture, and the time relative to GAP."""
    costs = {row.name: row.cost for t in papers()["horeid"].tables if t.name == "Table II" for row in t.rows}
    kinds = [f"{form}_{batch}" for batch in batches for form in FORMS]
    titles = [kind.replace("_", ", batch ") for kind in kinds]
    lines = [
        f"Pictures/s, milliseconds a picture, and time relative to `gap`. Here: {figures['hardware']}. "
        f"Paper: {PAPER}, batch and form not given.",
        "",
        f"| row | paper | {' | '.join(titles)} |",
        f"| --- | {'--: | ' * (len(kinds) + 1)}".rstrip(),
    ]
    for row in rows:
        paper = costs[row]
        cells = [_cell(paper["fps"], paper["milliseconds"], costs["gap"]["milliseconds"])]
        for kind in kinds:
            milliseconds = figures[f"{row}_{kind}_ms"]
            plain = figures.get(f"gap_{kind}_ms")
            assert isinstance(milliseconds, float)
            cells.append(_cell(1e3 / milliseconds, milliseconds, plain if isinstance(plain, float) else None))
        lines.append(f"| `{row}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(rate: float, milliseconds: float, plain: float | None) -> str:
    ratio = "" if plain is None else f" / {milliseconds / plain:.2f}"
    return f"{rate:.1f} / {milliseconds:.2f}{ratio}"


def main() -> None:
    table = next(table for table in papers()["horeid"].tables if table.name == "Table II")
    names = [row.name for row in table.rows]
    parser = make_parser(__doc__)
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="ROW", help="(all)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32], help="pictures in a pass (1 32)")
    parser.add_argument("--backbone", default="resnet50.tv_in1k", help="a timm model's name")
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--table", type=Path, help="write a Markdown table here")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    figures: dict[str, float | str | None] = {
        "hardware": hardware(options.device),
        "backbone": options.backbone,
        "turns": options.turns,
    }
    for form in FORMS:
        models = {row: network(row, form, options.backbone) for row in options.rows}
        for model in models.values():
            model.to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for batch in options.batch:
            images = torch.randn(batch, 3, options.height, options.width, device=options.device)
            images = images.contiguous(memory_format=torch.channels_last)
            times: dict[str, list[float]] = {row: [] for row in models}
            with torch.inference_mode():
                for model in models.values():  # warm up
                    model(images)
                for turn in tqdm(range(options.turns), desc=f"{form}, batch {batch}", disable=None):
                    for row in options.rows if turn % 2 else options.rows[::-1]:
                        times[row].append(seconds(partial(models[row], images), options.device))
            for row, values in times.items():
                milliseconds = 1e3 * statistics.median(values) / batch
                figures[f"{row}_{form}_{batch}_ms"] = milliseconds
                figures[f"{row}_{form}_{batch}_per_second"] = 1e3 / milliseconds
    report(figures, options.json)
    if options.table:
        options.table.write_text(as_table(figures, options.rows, options.batch))


if __name__ == "__main__":
    main()
