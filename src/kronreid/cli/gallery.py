"""``kronreid gallery``: look after a gallery."""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli import people
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
    from kronreid.gallery import Gallery, Selection

_OWN = ("info", "list", "update", "delete", "expire", "export", "verify", "repair", "index", "import")
ACTIONS = (*_OWN, *people.ACTIONS)
#: What each action that takes more words takes.
TAKES = {"import": "OLD NEW"} | people.TAKES


def add(commands: "Commands") -> None:
    """Add the command."""
    text = f"Look after a gallery: {', '.join(ACTIONS)}."
    sub = add_command(commands, "gallery", run, text)
    sub.add_argument(
        "action",
        choices=ACTIONS,
        help="index: build the index of a very large gallery; import OLD.db NEW: bring over a gallery of an "
        "older version; repair: give up what of a damaged gallery cannot be read; "
        f"for {', '.join(people.ACTIONS)} see docs/people.md",
    )
    words = "; ".join(f"{action} {words}" for action, words in TAKES.items())
    sub.add_argument("words", nargs="*", metavar="WORD", help=f"what some actions take: {words}")
    add_gallery(sub, required=False)
    add_login(sub)
    sub.add_argument("--path", help="only this picture, or the pictures below this folder")
    sub.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="the state folder of the gallery's server, whose added pictures verify checks (GALLERY.serve); "
        "a gallery that is no folder keeps its people there",
    )
    sub.add_argument("--csv", type=Path, metavar="FILE", help="the file that export writes")
    sub.add_argument(
        "--keep", metavar="TIME", help="expire removes pictures that were taken longer ago, like 30d or 12h"
    )
    add_description(sub, "what update changes")
    add_filters(sub)
    people.add_options(sub)


def run(options: argparse.Namespace) -> None:
    """See the methods of `kronreid.gallery.Gallery`."""
    from kronreid.gallery import Gallery
    from kronreid.gallery.entries import values_of

    if options.action == "import":
        _import(options)
        return
    if options.words and options.action not in TAKES:
        raise InputError(" ".join(options.words), f"{options.action} takes no files; name it with --gallery")
    if options.gallery is None:
        raise InputError("--gallery", "names the gallery, and is missing")
    selection = replace(selection_of(options), path=options.path)
    changes = values_of(options.set, "--set")
    if bool(changes) != (options.action == "update"):
        raise InputError("--set", "says what update changes, and no other action takes it")
    if (options.keep is None) == (options.action == "expire"):
        raise InputError("--keep", "says how long expire keeps pictures, and no other action takes it")
    if options.action == "export":
        if options.csv is None:
            raise InputError("--csv", "names the file that export writes")
        folder_must_exist(options.csv, "--csv")
    people.check(options)
    with Gallery(options.gallery, **login(options), state=_state(options)) as gallery:
        if options.action in people.ACTIONS:
            people.run(gallery, options)
        elif options.action == "info":
            info = gallery.info()
            size = "" if info.bytes_on_disk is None else f", {info.bytes_on_disk / 1e6:.1f} MB"
            say(f"{info.uri}: {info.count:,} pictures, {info.dimension} dimensions{size}")
            say(f"made by {info.model or 'an unknown model'} ({info.fingerprint[:12]})")
        elif options.action == "list":
            for entry in gallery.entries(selection):
                say(f"{entry.identity or '-':>8}  {entry.camera or '-':>6}  {entry.path}")
        elif options.action == "update":
            say(f"{gallery.update(selection, **changes)} changed")
        elif options.action == "export":
            say(f"{gallery.export(options.csv, selection)} rows in {options.csv}")
        elif options.action == "index":
            say("the index is built" if gallery.build_index() else "too small for an index; none is needed")
        elif options.action == "repair":
            say(f"{gallery.repair()} given up, {gallery.count} kept; adding them again brings them back")
        elif options.action == "verify":
            _verify(gallery, options)
        else:
            _forget(gallery, options, selection)


def _forget(gallery: "Gallery", options: argparse.Namespace, selection: "Selection") -> None:
    """Delete or expire, and say whether the bytes are gone."""
    from kronreid.data.values import moment
    from kronreid.gallery.filters import format_time
    from kronreid.gallery.upkeep import older_than

    if options.action == "expire":
        selection = older_than(options.keep, selection)
    count = gallery.delete(selection, purge=False)
    say(f"{count} deleted; {gallery.count} left")
    if options.action == "expire":
        until, now = format_time(moment(selection.until)), format_time(time.time())
        say(f"removed what was taken until {until:.19}; this computer's clock says {now:.19} (UTC)")
    if gallery.purge():
        say("nothing of them is left in the gallery's files")
    else:
        say("the server removes their bytes when it next compacts")


def _state(options: argparse.Namespace) -> Path:
    """The folder of the gallery's server."""
    from kronreid.serve.settings import state_folder

    return options.state or state_folder(options.gallery)


def _verify(gallery: "Gallery", options: argparse.Namespace) -> None:
    report = gallery.verify(own=[_state(options) / "added"])
    say(f"{report.checked} checked: {'all intact' if report.intact else 'NOT intact'}")
    for reason in ("missing", "changed", "elsewhere", "strays", "bad_vectors", "twice", "incomplete"):
        for what in getattr(report, reason):
            say(f"  {reason.replace('_', ' ')}: {what}")
    if not report.intact:
        damaged = report.unreadable + sum(map(len, (report.bad_vectors, report.twice, report.incomplete)))
        raise InputError(
            gallery.uri,
            f"{damaged} entries are damaged; give them up with kronreid gallery repair, and index them again",
        )


def _import(options: argparse.Namespace) -> None:
    """See `kronreid.gallery.importing.bring_over`."""
    from kronreid.gallery.importing import bring_over

    if len(options.words) != 2:
        raise InputError(
            "import", "needs the old gallery and the new one: kronreid gallery import OLD.db NEW"
        )
    old, new = options.words
    say(f"{bring_over(old, new, **login(options))} pictures of {old} are in {new}")
