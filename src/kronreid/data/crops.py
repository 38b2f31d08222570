"""Cropping people from full frames: boxes of MOT, COCO or a list become files in the layout ``folders``."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from kronreid.data.files import walk, written_whole
from kronreid.data.images import crop, open_rgb
from kronreid.data.lists import LIST_SUFFIXES, LeftOut, Record, Row, Skipped, collect, read_rows
from kronreid.data.manifest import Manifest
from kronreid.errors import InputError
from kronreid.locks import alone

QUALITY = 95


@dataclass(frozen=True)
class Boxes:
    """The boxes of the sources.

    Attributes:
        rows: The boxes to crop.
        skipped: Unusable records and unreadable sources, one line each.
        left_out: Number of boxes that are not wanted, by reason.
    """

    rows: list[Row]
    skipped: list[str]
    left_out: Counter[str]


@dataclass
class CutReport:
    """The result of cropping.

    Attributes:
        written: Number of files written now.
        existing: Number of files that existed before.
        people: Number of people in the written and existing files, without crops that have no identity.
        failed: Boxes that could not be cropped, with the reason: the frame is missing or damaged, or the box
            lies outside.
    """

    written: int = 0
    existing: int = 0
    people: int = 0
    failed: list[str] = field(default_factory=list)


def find_sources(sources: Iterable[Path]) -> list[Path]:
    """Find the lists of boxes in the sources.

    A source can be a list. In a folder the ``gt/gt.txt`` of every MOT sequence is found. Links are followed.
    A list that several sources lead to is returned once.

    Args:
        sources: Lists and folders.

    Raises:
        InputError: A source is missing, is not a list, or is a folder without ground truth.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            below = sorted(
                place / "gt.txt" for place, names in walk(source) if place.name == "gt" and "gt.txt" in names
            )
            if not below:
                raise InputError(source, "has no gt/gt.txt below it; name MOT sequences, COCO files or lists")
            found += below
        elif source.suffix.lower() in LIST_SUFFIXES and source.is_file():
            found.append(source)
        else:
            raise InputError(
                source,
                f"no such file, or not one of {', '.join(LIST_SUFFIXES)}; a video or stream needs --detector",
            )
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(path.parent.resolve() / path.name, path)
    return list(once.values())


def find_boxes(
    sources: Sequence[Path],
    min_height: int = 0,
    min_visibility: float = 0.0,
    categories: Sequence[str] = (),
) -> Boxes:
    """Read the boxes of people in the sources.

    Args:
        sources: The result of `find_sources`.
        min_height: Minimum height of a box in pixels.
        min_visibility: Minimum visible share of a person, 0 to 1, if the source states it.
        categories: Categories of COCO and classes of MOT to crop instead of people.

    Returns:
        The boxes. A source that cannot be read is listed there and does not stop the others.

    Raises:
        InputError: No source has a box to crop.
    """
    found = Boxes([], [], Counter())
    problems: list[InputError] = []
    for source in sources:
        try:
            read = read_rows(source, categories)
            kept = collect(
                source, [*read.skipped, *(_kept(row, min_height, min_visibility) for row in read.rows)]
            )
        except InputError as error:
            problems.append(error)
            found.skipped.append(str(error))
            continue
        found.rows.extend(kept.rows)
        found.skipped.extend(f"{source}: {one}" for one in kept.skipped)
        found.left_out.update(read.left_out + kept.left_out)
    if not found.rows:
        raise problems[0] if problems else InputError("SOURCE", "name a list or a folder to crop people from")
    return found


def _kept(row: Row, min_height: int, min_visibility: float) -> Record:
    if row.identity == "-1":
        return LeftOut("without a person (identity −1)")
    if row.box is None:
        return Skipped(f"row {row.number}", "has no box to crop")
    if row.box[3] < min_height:
        return LeftOut(f"less than {min_height} pixels high")
    if row.visibility is not None and row.visibility < min_visibility:
        return LeftOut(f"less than {min_visibility:g} visible")
    return row


def cut_out(rows: Iterable[Row], out: Path, progress: bool = True) -> CutReport:
    """Crop the boxes and write the crops that do not exist yet. It can be interrupted and run again.

    A crop's name follows from its frame and its box (see `Manifest`). A later run over the same or other
    sources therefore writes nothing twice and never confuses two crops. The manifest is written before the
    first crop, and again at the end without the crops that could not be written.

    Args:
        rows: The rows of `find_boxes`.
        out: The output folder; it is created if it is missing.
        progress: Show a progress bar on a terminal.

    Returns:
        The counts. A box that cannot be cropped is listed there and does not stop the others.

    Raises:
        InputError: A file cannot be written, the folder holds other pictures, or another process is writing
            to it.
    """
    report = CutReport()
    in_order = sorted(rows, key=lambda row: row.path)  # each frame is decoded once
    with alone(out, "another process is writing crops to this folder; wait until it is done"):
        manifest = Manifest(out)
        names = manifest.name(in_order)
        cuts = list(dict(zip(names, in_order)).items())  # a box that is listed twice gives one crop
        waiting = set(names)
        manifest.save()
        try:
            with tqdm(
                total=len(cuts), unit=" boxes", desc="cutting", disable=None if progress else True
            ) as bar:
                for path, group in groupby(cuts, key=lambda cut: cut[1].path):
                    several = list(group)
                    waiting -= _cut_frame(path, several, out, report)
                    bar.update(len(several))
        finally:
            manifest.save(without=(name for name in waiting if not (out / name).is_file()))
    report.people = len({name.rpartition("/")[0] for name in names if name not in waiting} - {""})
    return report


def _cut_frame(path: Path, cuts: Sequence[tuple[str, Row]], out: Path, report: CutReport) -> set[str]:
    """Write the missing crops of one frame.

    Returns:
        The names of its crops that exist now.
    """
    missing = [(name, row) for name, row in cuts if not (out / name).is_file()]
    there = {name for name, _ in cuts} - {name for name, _ in missing}
    report.existing += len(there)
    if not missing:
        return there
    try:
        frame = open_rgb(path)
    except InputError as error:
        report.failed += [str(error)] * len(missing)
        return there
    for name, row in missing:
        assert row.box is not None
        try:
            image = crop(frame, row.box, path)
        except InputError as error:
            report.failed.append(str(error))
            continue
        with written_whole(out / name) as new:
            image.save(new, format="JPEG", quality=QUALITY)
        report.written += 1
        there.add(name)
    return there
