"""``kronreid export``: write a model for other runtimes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command, folder_must_exist, load_model
from kronreid.errors import InputError
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands

#: The formats and how the names of their files end. Those named int8 need pictures for calibration.
FORMATS = {
    "onnx": ".onnx",
    "onnx-int8": ".onnx",
    "openvino": ".xml",
    "openvino-int8": ".xml",
    "pt2": ".pt2",
    "triton": None,
}


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(
        commands,
        "export",
        run,
        "Write a model for other runtimes: pictures in, vectors out, with all preprocessing inside.",
    )
    sub.add_argument(
        "model", metavar="MODEL", help="an embedder, or a matcher (two files: encoder and NAME.scorer.onnx)"
    )
    sub.add_argument(
        "--format", choices=FORMATS, default="onnx", help="see docs/export.md; matchers: onnx, triton (onnx)"
    )
    sub.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help="a name ending in .onnx, .xml (openvino) or .pt2, or a model repository, a folder (triton)",
    )
    sub.add_argument(
        "--calibrate",
        nargs="+",
        type=Path,
        default=[],
        metavar="PICTURES",
        help="pictures or folders that show int8 formats which numbers occur; some hundred of your own",
    )


def run(options: argparse.Namespace) -> None:
    """See `kronreid.export.export`."""
    from kronreid.data.files import find_pictures
    from kronreid.export import export

    folder_must_exist(options.out, "--out", FORMATS[options.format])
    if options.format.endswith("int8") != bool(options.calibrate):
        what = "an int8 format needs it" if not options.calibrate else "only int8 formats take it"
        raise InputError("--calibrate", f"{what}; see kronreid export --help")
    pictures = [
        picture
        for path in options.calibrate
        for picture in (find_pictures(path) if path.is_dir() else [path])
    ]
    model = load_model(options.model, "MODEL")
    report = export(model, options.out, options.format, pictures, progress=True)
    for file in report.files:
        say(f"{file}  {file.stat().st_size / 1e6:.1f} MB")
    of_places = f", of scores by places {report.places:.1g}" if report.places else ""
    say(
        f"compared with the model on {report.pictures} pictures: largest difference {report.difference:.1g}"
        f"{of_places}, mean cosine {report.cosine:.4f}, {report.agreement:.1%} of all ranks agree"
    )
