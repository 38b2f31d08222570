"""``kronreid data``: check a data set on disk, and extract CUHK03's pictures from its file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kronreid.cli.options import add_command, add_layout, add_split, folder_must_exist, to_json, write
from kronreid.errors import InputError
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands
    from kronreid.data.check import Checked

VERDICTS = {
    "agrees": "agrees with the published counts",
    "less": "only a part of the data set: usable, but its results are not those of the whole",
    "differs": "has more than the published counts",
    "own": "there are no published counts",
}


def add(commands: "Commands") -> None:
    """Add the command and its two actions."""
    text = "Check a data set on disk, or extract CUHK03."
    actions = commands.add_parser("data", help=text, description=text).add_subparsers(
        required=True, metavar="ACTION"
    )
    sub = add_command(actions, "check", check, "Compare what a folder holds with the published counts.")
    sub.add_argument("root", metavar="ROOT", help="the data set's folder, or a list (CSV, Parquet)")
    add_layout(sub)
    add_split(sub)
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the counts")
    sub = add_command(actions, "extract", extract, "Write the pictures of cuhk-03.mat as files; resumable.")
    sub.add_argument("root", type=Path, metavar="ROOT", help="the folder with cuhk-03.mat")


def check(options: argparse.Namespace) -> None:
    """See `kronreid.data.check`."""
    from kronreid.data.check import check, must_be_usable
    from kronreid.data.readers import LAYOUTS, detect

    if options.json:
        folder_must_exist(options.json, "--json")
    layouts = detect(options.root) if options.layout is None else [options.layout]
    found, errors = [], []  # if it has several layouts, some may be incomplete
    for layout in layouts:
        try:
            split = options.split if len(layouts) == 1 or LAYOUTS[layout].splits else 0
            found.append(check(options.root, layout, split))
        except InputError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    unmatched = [_unmatched(one) for one in found]
    if options.json:
        rows = [{**one.to_json(), "queries_without_match": count} for one, count in zip(found, unmatched)]
        content = {"root": str(options.root), "layouts": rows, "errors": list(map(str, errors))}
        write(options.json, to_json(content), "--json")
    for one, count in zip(found, unmatched):
        say(*_lines(one), *([f"  {count:,} queries have no match"] if count else []), "")
    for line in errors:
        say(f"not readable: {line}")
    for one, count in zip(found, unmatched):
        must_be_usable(one)
        if count is not None and count == len(one.dataset.query):
            raise InputError(
                one.dataset.root,
                f"none of the {count:,} queries has a match in the gallery under protocol "
                f"{one.dataset.protocol}; do query and gallery belong together, or does the data set need "
                "another protocol (docs/protocols.md)?",
            )


def _unmatched(checked: "Checked") -> int | None:
    """Number of queries without a match under the layout's own protocol; None without query or gallery."""
    from kronreid.evaluation import dataset_task

    data = checked.dataset
    if not data.query or not data.gallery:
        return None
    task, _ = dataset_task(data, data.protocol)
    return sum(not task.specials(row, row + 1)[2].any() for row in range(task.queries))


def _lines(checked: "Checked") -> list[str]:
    names = {"pictures": "pictures", "identities": "people", "cameras": "cameras"}
    rows = [["", *names.values()]]
    for part, here in checked.parts.items():
        if part == "all" and part not in checked.published:
            continue
        there: Any = checked.published.get(part)
        cells = [(getattr(here, name), getattr(there, name, None)) for name in names]
        rows.append([part, *(f"{a:,}" + ("" if b is None else f" of {b:,}") for a, b in cells)])
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    extra = f"  in the gallery, {checked.junk:,} junk pictures and {checked.distractors:,} distractors"
    return [
        f"{checked.dataset.name}: {checked.title}, protocol {checked.dataset.protocol}",
        *table,
        *([extra] if checked.junk or checked.distractors else []),
        *(f"  {remark}" for remark in checked.remarks),
        f"  {VERDICTS[checked.verdict]}",
    ]


def extract(options: argparse.Namespace) -> None:
    """See `kronreid.data.extract`."""
    from kronreid.data.extract import KINDS, MAT, extract, picture_folder
    from kronreid.data.readers.cuhk03 import find

    mat = find(options.root, MAT)
    if mat is None:
        raise InputError(options.root, f"no {MAT} in this folder or one level below")
    done = extract(mat, options.root)
    folders = " and ".join(str(picture_folder(options.root, kind)) for kind in KINDS)
    say(f"{done.written:,} pictures written, {done.existing:,} were there: {folders}")
