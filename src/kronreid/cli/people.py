"""The actions of ``kronreid gallery`` that are about people: group, people, merge, split, name and undo."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kronreid.cli.options import folder_must_exist, load_model, positive, similarity, to_json, write
from kronreid.errors import InputError
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.gallery import Gallery
    from kronreid.gallery.grouping import GroupReport
    from kronreid.gallery.people import People, Person

ACTIONS = ("group", "people", "merge", "split", "name", "undo")
#: The words that actions take.
TAKES = {
    "people": "[PERSON...]",
    "merge": "PERSON PERSON...",
    "split": "TRACKLET...",
    "name": "PERSON [NAME]",
}
#: The options that only some actions take.
_OPTIONS = {
    "min_similarity": ("group",),
    "travel": ("group",),
    "model": ("group",),
    "to": ("split",),
    "json": ("people",),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of these actions."""
    parser.add_argument(
        "--min-similarity",
        type=similarity,
        metavar="X|auto",
        help="the mean similarity that tracklets of one person need for group; auto takes it from the "
        "model's calibration, or 0.7 without one (auto)",
    )
    parser.add_argument(
        "--travel",
        type=Path,
        metavar="FILE",
        help="the least seconds between cameras for group, as CSV or YAML: from, to, seconds",
    )
    parser.add_argument("--model", metavar="MODEL", help="the gallery's model for group, if it has moved")
    parser.add_argument(
        "--to", type=positive, metavar="PERSON", help="the person whom split gives the tracklets (a new one)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the people as JSON")


def check(options: argparse.Namespace) -> None:
    """
    Raises:
        InputError: An option or a word does not belong to the action.
    """
    for name, actions in _OPTIONS.items():
        if getattr(options, name) is not None and options.action not in actions:
            raise InputError(
                f"--{name.replace('_', '-')}", f"belongs to {actions[0]}, not to {options.action}"
            )
    least = {"merge": 2, "split": 1, "name": 1}.get(options.action, 0)
    if len(options.words) < least:
        raise InputError(options.action, f"needs {TAKES[options.action]}")
    if options.json is not None:
        folder_must_exist(options.json, "--json")


def run(gallery: "Gallery", options: argparse.Namespace) -> None:
    """See `kronreid.gallery.people`."""
    from kronreid.gallery.people import People

    if options.action == "group":
        _group(gallery, options)
        return
    with People(gallery) as people:
        if options.action == "people":
            _list(people, options)
        elif options.action == "merge":
            into, *others = map(_number, options.words)
            people.merge(into, others)
            say(f"person {into} now has the tracklets of {_names(others)}")
        elif options.action == "split":
            change = people.split([_tracklet(people, word) for word in options.words], options.to)
            old, new = change.about
            say(f"{len(change.moves)} tracklets of person {old} now belong to person {new}")
        elif options.action == "name":
            number, *words = options.words
            name = people.name(_number(number), " ".join(words)).names[_number(number)]
            say(f"person {number} " + (f"is named {name}" if name else "has no name"))
        else:
            say(f"taken back: {people.undo().words}")


def _group(gallery: "Gallery", options: argparse.Namespace) -> None:
    from kronreid.gallery.people import group

    wanted: float | Literal["auto"] = "auto" if options.min_similarity is None else options.min_similarity
    if wanted == "auto":
        model = options.model or gallery.model
        if options.model or (model and Path(model).exists()):
            gallery.attach(load_model(model, "--model"))
    report = group(gallery, min_similarity=wanted, travel=options.travel)
    if not report.tracklets:
        raise InputError(gallery.uri, "has no tracklets to group; track a video into it first")
    report_on(report)


def report_on(report: "GroupReport") -> None:
    """Say what grouping did."""
    say(
        f"{report.grouped:,} of {report.tracklets:,} tracklets grouped; {report.people:,} people",
        _limit(report),
    )
    if report.refused:
        say(f"{report.refused:,} joins refused, because nobody can be in two places at once")
    if report.strangers:
        say(f"no tracklet is from these cameras of --travel: {', '.join(report.strangers)}")


def _limit(report: "GroupReport") -> str:
    limit = report.limit
    why = "" if limit.rate is None else f": one tracklet in {1 / limit.rate:,.0f} may meet a stranger"
    return f"tracklets of one person have a mean similarity of at least {limit.similarity:.4g}{why}"


def _list(people: "People", options: argparse.Namespace) -> None:
    """Print people, or the tracklets of those that are named, or write them as JSON."""
    numbers = [_number(word) for word in options.words]
    found = [people.one(number) for number in numbers] if numbers else people.all()
    if options.json is not None:
        write(options.json, to_json([_as_dict(person) for person in found]), "--json")
        say(f"{len(found):,} people in {options.json}")
        return
    for person in found:
        times = f"{_time(person.first)} to {_time(person.last)}"
        cameras = ", ".join(camera or "-" for camera in person.cameras)
        say(
            f"{person.number:>6}  {person.name or '-'}  {len(person.tracklets)} tracklets  {times}  {cameras}"
        )
        for tracklet in person.tracklets if numbers else ():
            join = person.joins.get(tracklet.id)
            say(
                f"        {tracklet.id[:12]}  {_time(tracklet.start)}  {tracklet.camera or '-'}  {_why(join)}"
            )


def _as_dict(person: "Person") -> dict[str, Any]:
    return {
        "number": person.number,
        "name": person.name,
        "cameras": person.cameras,
        "first": _time(person.first),
        "last": _time(person.last),
        "tracklets": [
            {
                "id": tracklet.id,
                "camera": tracklet.camera,
                "source": tracklet.source,
                "start": _time(tracklet.start),
                "end": _time(tracklet.end),
                "pictures": list(tracklet.pictures),
                "why": _why(person.joins.get(tracklet.id)),
            }
            for tracklet in person.tracklets
        ],
    }


def _why(join: Any) -> str:
    """Why a tracklet is where it is."""
    if join is None:
        return "put here by hand"
    if join.similarity is None:
        return "the first of this person"
    near = f" with {join.near[:12]}" if join.near else ""
    return f"similarity {join.similarity:.3f}{near}, {join.average:.3f} on average"


def _time(seconds: float) -> str:
    from kronreid.gallery.filters import format_time

    return format_time(round(seconds))


def _names(numbers: list[int]) -> str:
    return ", ".join(f"person {number}" for number in numbers)


def _number(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise InputError(word, "is no number of a person; kronreid gallery people lists them")
    return int(word)


def _tracklet(people: "People", word: str) -> str:
    """The tracklet whose identifier begins with a word."""
    found = [id for id in people.now().person_of if id.startswith(word)]
    if len(found) != 1:
        raise InputError(
            word,
            "begins no tracklet of a person"
            if not found
            else f"begins {len(found)} tracklets; write more of it",
        )
    return found[0]
