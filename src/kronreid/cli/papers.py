"""``kronreid papers``: print the papers' tables beside the results of your runs."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command, folder_must_exist, to_json, write
from kronreid.errors import InputError
from kronreid.extras import require
from kronreid.text import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kronreid.cli.options import Commands
    from kronreid.papers import Measured, Paper


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(commands, "papers", run, "Print the papers' tables beside the results of your runs.")
    sub.add_argument("paper", nargs="?", choices=("horeid", "kpm"), help="only this paper")
    sub.add_argument(
        "--runs",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="run folders, or folders that contain some",
    )
    sub.add_argument("--others", action="store_true", help="show the tables' methods of other authors, too")
    sub.add_argument(
        "--charts", type=Path, metavar="DIR", help="draw HOReID's Fig. 7 and 8 from the runs, as PNG and SVG"
    )
    sub.add_argument("--rows", action="store_true", help="list the rows that train takes, one name per line")
    sub.add_argument("--format", choices=("text", "markdown", "json"), default="text", help="(text)")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the same as JSON")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.papers`."""
    from kronreid.papers import papers, row_names, to_text, to_values

    if options.rows:
        names = [name for name in row_names() if options.paper in (None, name.split("/")[0])]
        say(*names)
        return
    if options.json:
        folder_must_exist(options.json, "--json")
    chosen = [paper for key, paper in papers().items() if options.paper in (None, key)]
    runs = []
    if options.runs:
        from kronreid.training.records import read_runs

        runs = read_runs(options.runs)
    if options.charts:
        _draw_charts(options.charts, chosen, runs)
    if options.json:
        write(options.json, to_json(to_values(chosen, runs)), "--json")
    if options.format == "json":
        sys.stdout.write(to_json(to_values(chosen, runs)))
    else:
        say(*to_text(chosen, runs, options.format == "markdown", options.others).splitlines())


def _draw_charts(out: Path, chosen: "Sequence[Paper]", runs: "Sequence[Measured]") -> None:
    """Draw the figures that are tables of the data files, as ``horeid-fig-7`` and ``horeid-fig-8``.

    Raises:
        InputError: The folder is a file, or a package is missing.
    """
    require("--charts", "figures")
    if out.exists() and not out.is_dir():
        raise InputError(f"--charts {out}", "is a file; a folder is needed")
    from kronreid.explain.figures_papers import panels_of, points_figure
    from kronreid.explain.style import save_figure
    from kronreid.papers import compare

    out.mkdir(parents=True, exist_ok=True)
    for paper in chosen:
        for comparison in compare(paper, runs):
            if comparison.table.name.startswith("Fig."):
                stem = f"{paper.key}-{comparison.table.name.lower().replace('. ', '-')}"
                save_figure(points_figure(panels_of(comparison)), out / stem)
