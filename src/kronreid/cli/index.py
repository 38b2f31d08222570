"""``kronreid index``: pictures into a gallery."""

import argparse
import sys
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command, add_gallery, load_model, positive

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Its options."""
    sub = add_command(commands, "index", run, "Put pictures into a gallery.")
    sub.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="files, folders, patterns or lists (CSV, Parquet, COCO, MOT)",
    )
    sub.add_argument("--model", required=True, metavar="MODEL", help="the embedder")
    add_gallery(sub)
    sub.add_argument("--batch-size", type=positive, default=64, help="pictures per pass (64)")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.gallery.Gallery.add`."""
    from kronreid.gallery import Gallery

    model = load_model(options.model, "--model")
    with Gallery(options.gallery, model) as gallery:
        report = gallery.add(options.images, batch_size=options.batch_size)
        print(
            f"{report.added} added, {report.skipped_existing} already there, "
            f"{len(report.unreadable)} unreadable; {gallery.count} in {options.gallery}; "
            f"{report.per_second:.0f} pictures/s"
        )
    for picture in report.unreadable:
        print(f"  {picture.path}: {picture.reason}", file=sys.stderr)
