"""``kronreid index``: add pictures to a gallery."""

import argparse
import sys
from typing import TYPE_CHECKING

from kronreid.cli.options import (
    add_categories,
    add_command,
    add_description,
    add_gallery,
    add_login,
    load_model,
    login,
    positive,
)
from kronreid.errors import InputError
from kronreid.extras import require
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(commands, "index", run, "Add pictures to a gallery.")
    sub.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="files, folders, patterns or lists (CSV, Parquet, COCO, MOT)",
    )
    sub.add_argument("--model", required=True, metavar="MODEL", help="the embedder")
    add_gallery(sub)
    add_login(sub)
    add_categories(sub)
    add_description(sub, "describe all pictures")
    sub.add_argument("--batch-size", type=positive, default=64, help="pictures per pass (64)")
    sub.add_argument(
        "--keep",
        metavar="TIME",
        help="afterwards, remove pictures that were taken longer ago than this, like 30d or 12h",
    )
    sub.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="spread the work over a Ray cluster: auto, local, HOST:PORT or ray://HOST:PORT",
    )


def run(options: argparse.Namespace) -> None:
    """See `kronreid.gallery.Gallery.add` and `kronreid.gallery.spread.add_spread`."""
    from kronreid.gallery import Gallery
    from kronreid.gallery.entries import values_of
    from kronreid.gallery.upkeep import seconds_of

    values = values_of(options.set, "--set")
    if options.ray and not options.gallery.startswith(("http://", "https://")):
        raise InputError(
            f"--gallery {options.gallery}",
            "many machines need a Milvus server (http://host:port)",
        )
    if options.ray:
        require("--ray", "ray")
    if options.keep:
        seconds_of(options.keep)
    model = load_model(options.model, "--model")
    with Gallery(options.gallery, model, **login(options)) as gallery:
        if options.ray:
            from kronreid.gallery.spread import add_spread

            report = add_spread(
                gallery,
                options.model,
                options.images,
                options.ray,
                options.batch_size,
                options.category,
                **values,
            )
        else:
            report = gallery.add(
                options.images, categories=options.category, batch_size=options.batch_size, **values
            )
        say(
            f"{report.added} added, {report.skipped_existing} already there, "
            f"{len(report.unreadable)} unreadable; {gallery.count} in {options.gallery}; "
            f"{report.per_second:.0f} pictures/s"
        )
        if options.keep:
            expired = gallery.expire(options.keep, purge=False)
            if expired:
                gallery.purge()
            say(f"{expired} deleted, since they were taken longer ago than {options.keep}")
    for picture in report.unreadable:
        say(f"  {picture.path}: {picture.reason}", file=sys.stderr)
