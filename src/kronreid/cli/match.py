"""``kronreid match``: compare two pictures, and show why they match."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command, folder_must_exist, load_matcher, to_json, write
from kronreid.extras import require

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(commands, "match", run, "Compare two pictures, and show why they match.")
    sub.add_argument("a", metavar="A", help="a picture")
    sub.add_argument("b", metavar="B", help="another one")
    sub.add_argument("--matcher", required=True, metavar="MODEL", help="the matcher")
    sub.add_argument("--png", type=Path, metavar="FILE", help="draw correspondences and attention")
    sub.add_argument(
        "--json", type=Path, metavar="FILE", help="write the probability, correspondences and attention"
    )


def run(options: argparse.Namespace) -> None:
    """See `kronreid.models.inference.Matcher.explain`."""
    for option in ("json", "png"):
        if file := getattr(options, option):
            folder_must_exist(file, f"--{option}")
    if options.png:
        require("--png", "figures")
    why = load_matcher(options.matcher).explain(options.a, options.b)
    if options.json:
        scales = [
            {
                "height": scale.height,
                "width": scale.width,
                "correspondence": scale.correspondence.tolist(),
                "attention_a": scale.attention_a.tolist(),
                "attention_b": scale.attention_b.tolist(),
            }
            for scale in why.scales
        ]
        write(options.json, to_json({"probability": why.probability, "scales": scales}), "--json")
    if options.png:
        from kronreid.explain import match_figure, save_png

        save_png(match_figure(why), options.png)
    print(f"probability of the same person: {why.probability:.4f}")
