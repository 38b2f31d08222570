"""``kronreid gallery``: list, change, export and verify a gallery."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import (
    add_command,
    add_description,
    add_filters,
    add_gallery,
    add_login,
    folder_must_exist,
    login,
    selection_of,
)
from kronreid.errors import InputError
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    text = "Look after a gallery: info, list, update, delete, export, verify."
    sub = add_command(commands, "gallery", run, text)
    sub.add_argument("action", choices=["info", "list", "update", "delete", "export", "verify"])
    add_gallery(sub)
    add_login(sub)
    sub.add_argument("--path", help="only this picture, or the pictures below this folder")
    sub.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="the state folder of the gallery's server, whose added pictures verify checks (GALLERY.serve)",
    )
    sub.add_argument("--csv", type=Path, metavar="FILE", help="the file that export writes")
    add_description(sub, "what update changes")
    add_filters(sub)


def run(options: argparse.Namespace) -> None:
    """See the methods of `kronreid.gallery.Gallery`."""
    from kronreid.gallery import Gallery
    from kronreid.gallery.entries import values_of
    from kronreid.serve.settings import state_folder

    selection = replace(selection_of(options), path=options.path)
    changes = values_of(options.set, "--set")
    if bool(changes) != (options.action == "update"):
        raise InputError("--set", "says what update changes, and no other action takes it")
    if options.action == "export":
        if options.csv is None:
            raise InputError("--csv", "names the file that export writes")
        folder_must_exist(options.csv, "--csv")
    with Gallery(options.gallery, **login(options)) as gallery:
        if options.action == "info":
            info = gallery.info()
            size = "" if info.bytes_on_disk is None else f", {info.bytes_on_disk / 1e6:.1f} MB"
            say(f"{info.uri}: {info.count:,} pictures, {info.dimension} dimensions{size}")
            say(f"made by {info.model or 'an unknown model'} ({info.fingerprint[:12]})")
        elif options.action == "list":
            for entry in gallery.entries(selection):
                say(f"{entry.identity or '-':>8}  {entry.camera or '-':>6}  {entry.path}")
        elif options.action == "update":
            say(f"{gallery.update(selection, **changes)} changed")
        elif options.action == "delete":
            say(f"{gallery.delete(selection)} deleted; {gallery.count} left")
        elif options.action == "export":
            say(f"{gallery.export(options.csv, selection)} rows in {options.csv}")
        else:
            state = options.state or state_folder(options.gallery)
            report = gallery.verify(own=[state / "added"])
            say(f"{report.checked} checked: {'all intact' if report.intact else 'NOT intact'}")
            for reason in ("missing", "changed", "strays", "bad_vectors"):
                for what in getattr(report, reason):
                    say(f"  {reason.replace('_', ' ')}: {what}")
            if not report.intact:
                raise InputError(
                    options.gallery, f"{len(report.bad_vectors)} entries are damaged; index them again"
                )
