"""People cut out of full frames: boxes of MOT, COCO or a list become files in the layout ``folders``."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from kronreid.data.files import walk
from kronreid.data.images import crop, open_rgb
from kronreid.data.lists import LIST_SUFFIXES, Row, read_rows
from kronreid.data.records import Box, number_labels
from kronreid.errors import InputError

QUALITY = 95


@dataclass(frozen=True)
class Cut:
    """A box of a frame, and where it goes: relative to the output folder."""

    frame: Path
    box: Box
    name: str


@dataclass
class CutReport:
    """What came of it.

    Attributes:
        written: Files written now.
        existing: Files that were there.
        failed: Boxes without a picture, and why: the frame is missing or damaged, or the box lies outside.
    """

    written: int = 0
    existing: int = 0
    failed: list[str] = field(default_factory=list)


def find_sources(sources: Iterable[Path]) -> list[Path]:
    """Lists as they are; of folders the ``gt/gt.txt`` of every MOT sequence in them. Links are followed, and
    a list that several sources lead to is found once.

    Raises:
        InputError: A source is missing, is no list, or a folder without ground truth.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            below = sorted(
                place / "gt.txt" for place, names in walk(source) if place.name == "gt" and "gt.txt" in names
            )
            if not below:
                raise InputError(
                    f"{source}: no gt/gt.txt below it; MOT sequences, COCO files or lists are cut"
                )
            found += below
        elif source.suffix.lower() in LIST_SUFFIXES and source.is_file():
            found.append(source)
        else:
            raise InputError(f"{source}: no such file, or none of {', '.join(LIST_SUFFIXES)}")
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(path.parent.resolve() / path.name, path)
    return list(once.values())


def plan(sources: Sequence[Path], min_height: int = 0, min_visibility: float = 0.0) -> list[Cut]:
    """What to cut, and the files' names: ``<identity>/<camera>_<frame>.jpg``, ``<camera>_<frame>.jpg`` where
    nobody says who it is.

    A row's camera is what it says, else its source: a MOT sequence or a COCO file is taken as one camera. A
    list without either has camera 0.
    Names of cameras that are no numbers are numbered by their sorted order. Several boxes of one person in a
    frame get ``_2``, ``_3``, …

    Args:
        sources: What `find_sources` found.
        min_height: Leave out boxes that are less high, in pixels.
        min_visibility: Leave out people of whom less is visible, 0 to 1, where the source says so.

    Raises:
        InputError: A source cannot be read, a row has no box, or two identities need one folder.
    """
    rows: list[Row] = []
    for source in sources:
        read = read_rows(source).rows
        for row in read:
            if row.box is None:
                raise InputError(f"{source}: row {row.number}: no box to cut out")
        rows += [row for row in read if row.identity != "-1"]
    cameras = number_labels((_camera(row) for row in rows), lowest=0)
    folders: dict[str, str] = {}
    used: dict[str, int] = {}
    cuts = []
    for row in rows:
        assert row.box is not None
        if row.box[3] < min_height or (row.visibility is not None and row.visibility < min_visibility):
            continue
        folder = ""
        if row.identity is not None:
            folder = _folder(row.identity)
            if folders.setdefault(folder, row.identity) != row.identity:
                raise InputError(
                    f"identities {folders[folder]!r} and {row.identity!r} need one folder, {folder}"
                )
            folder += "/"
        frame = row.attributes.get("frame")
        stem = f"{frame:06d}" if isinstance(frame, int) else row.path.stem
        name = f"{folder}{cameras[_camera(row)]}_{stem}"
        used[name] = used.get(name, 0) + 1
        more = f"_{used[name]}" if used[name] > 1 else ""
        cuts.append(Cut(row.path, row.box, f"{name}{more}.jpg"))
    return cuts


def _camera(row: Row) -> str:
    return (row.camera if row.camera != "-1" else None) or row.source or "0"


def _folder(identity: str) -> str:
    """An identity as the name of a folder: ``MOT17-02/5`` becomes ``MOT17-02-5``."""
    return re.sub(r"[^\w.-]+", "-", identity).strip(".-") or "-"


def write(cuts: Sequence[Cut], out: Path, progress: bool = True) -> CutReport:
    """Cut and write what is not there yet; may be stopped at any moment and run again.

    Args:
        cuts: What `plan` made.
        out: The output folder; made if it is missing.
        progress: Show a bar on a terminal.

    Returns:
        The counts; a box that cannot be cut is listed there and stops nothing.

    Raises:
        InputError: A file cannot be written.
    """
    report = CutReport()
    in_order = sorted(cuts, key=lambda cut: cut.frame)  # each frame is decoded once
    with tqdm(total=len(cuts), unit=" boxes", desc="cutting", disable=None if progress else True) as bar:
        for path, group in groupby(in_order, key=lambda cut: cut.frame):
            several = list(group)
            missing = [cut for cut in several if not (out / cut.name).is_file()]
            report.existing += len(several) - len(missing)
            if missing:
                _write_frame(path, missing, out, report)
            bar.update(len(several))
    return report


def _write_frame(path: Path, cuts: Sequence[Cut], out: Path, report: CutReport) -> None:
    try:
        frame = open_rgb(path)
    except InputError as error:
        report.failed += [str(error)] * len(cuts)
        return
    for cut in cuts:
        try:
            image = crop(frame, cut.box, path)
        except InputError as error:
            report.failed.append(str(error))
            continue
        _save(image, out / cut.name)
        report.written += 1


def _save(image: Image.Image, path: Path) -> None:
    """Whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(new, format="JPEG", quality=QUALITY)
        new.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
