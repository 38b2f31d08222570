"""``kronreid match``: compare two pictures, and show why they match."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command, folder_must_exist, load_model, to_json, write
from kronreid.extras import require
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(commands, "match", run, "Compare two pictures, and show why they match.")
    sub.add_argument("a", metavar="A", help="a picture")
    sub.add_argument("b", metavar="B", help="another one")
    sub.add_argument(
        "--model",
        required=True,
        metavar="MODEL",
        help="an embedder with places (see kronreid fit-places), or a pair model like KPM",
    )
    sub.add_argument("--png", type=Path, metavar="FILE", help="draw which places match, and what they say")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the same as numbers")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.models.inference.Embedder.explain` and `kronreid.models.inference.Matcher.explain`."""
    from kronreid.models.place_matcher import PairExplanation

    for option in ("json", "png"):
        if file := getattr(options, option):
            folder_must_exist(file, f"--{option}")
    if options.png:
        require("--png", "figures")
    why = load_model(options.model, "--model").explain(options.a, options.b)
    if options.json:
        write(options.json, to_json(why.to_json()), "--json")
    if options.png:
        from kronreid.explain import match_figure, places_figure, save_png

        figure = places_figure(why) if isinstance(why, PairExplanation) else match_figure(why)
        save_png(figure, options.png)
    say(f"probability of the same person: {why.probability:.4f}")
    if isinstance(why, PairExplanation):
        gain, loss = why.places
        say(
            f"logit {why.logit:+.2f} = vectors {why.vectors:+.2f} (cosine {why.cosine:.2f}), "
            f"places for +{gain:.2f}, places against -{abs(loss):.2f}"
        )
