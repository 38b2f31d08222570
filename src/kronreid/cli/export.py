"""``kronreid export``: write a model for other runtimes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command, folder_must_exist, load_model
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(
        commands,
        "export",
        run,
        "Write a model as ONNX: it takes pictures and gives vectors, with all preprocessing inside.",
    )
    sub.add_argument(
        "model", metavar="MODEL", help="an embedder, or a matcher (two files: encoder and NAME.scorer.onnx)"
    )
    sub.add_argument("--format", choices=["onnx"], default="onnx", help="the only one so far")
    sub.add_argument("--out", required=True, type=Path, metavar="FILE", help="a name ending in .onnx")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.export.export_onnx`."""
    from kronreid.export import export_onnx

    folder_must_exist(options.out, "--out", ".onnx")
    report = export_onnx(load_model(options.model, "MODEL"), options.out, progress=True)
    for file in report.files:
        say(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    say(
        f"compared with the model on {report.pictures} generated pictures: largest difference "
        f"{report.difference:.1g}, {report.agreement:.1%} of all ranks agree"
    )
