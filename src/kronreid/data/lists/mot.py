"""Reading the boxes of MOT sequences."""

import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kronreid.data.images import SUFFIXES
from kronreid.data.lists.categories import choose
from kronreid.data.lists.files import is_folder, read_lines
from kronreid.data.lists.rows import LeftOut, Record, Row, Skipped, box_of, some_of
from kronreid.data.records import Box
from kronreid.data.values import shown
from kronreid.errors import InputError

log = logging.getLogger(__name__)

FRAMES = "img1"
#: The classes of MOT16, MOT17 and MOT20.
CLASSES = dict(
    enumerate(
        (
            "pedestrian",
            "person on vehicle",
            "car",
            "bicycle",
            "motorbike",
            "non motorized vehicle",
            "static person",
            "distractor",
            "occluder",
            "occluder on the ground",
            "occluder full",
            "reflection",
            "crowd",
        ),
        start=1,
    )
)
#: If more than one in this many boxes has an unknown class, the file does not use MOT's class numbers.
RARE = 20
#: Larger whole numbers are not exact as floats.
LARGEST_NUMBER = 2**53


@dataclass(frozen=True)
class MotBox:
    """A valid line of a MOT file.

    Attributes:
        number: Number of the line, from 1.
        frame: Number of the frame.
        track: Number of the track.
        box: The box in pixels, from 0.
        flag: Column 7. In ground truth, 0 means that the box does not count; in detections it is a score.
        rest: The columns from the eighth: class and visibility, or a position in the world.
    """

    number: int
    frame: int
    track: int
    box: Box
    flag: float
    rest: tuple[float, ...]

    @property
    def kind(self) -> int | None:
        """The class, if column 8 can be one."""
        fits = self.rest and 0 <= self.rest[0] <= LARGEST_NUMBER and self.rest[0].is_integer()
        return int(self.rest[0]) if fits else None

    @property
    def visibility(self) -> float | None:
        """The visible share, 0 to 1, if column 9 can be one."""
        return self.rest[1] if len(self.rest) > 1 and 0 <= self.rest[1] <= 1 else None


def read_mot(path: Path, categories: Sequence[str] = ()) -> Iterator[Record]:
    """Yield a record for each line of a MOT sequence that is not blank.

    The file is ``<sequence>/gt/gt.txt`` or ``det/det.txt``, and the frames are in ``<sequence>/img1``. Boxes
    of other classes than pedestrians (or the given ones) are left out, and in ground truth also those with
    flag 0. Frame and track become attributes. The track, as the sequence's name and the number, is also the
    identity. `_has_classes` and `_Frames` handle the differences between the editions of MOT.

    Args:
        path: The file.
        categories: Names or numbers of classes; empty for people.

    Raises:
        InputError: There are no frames, or it is unclear which classes are people.
    """
    lines, skipped = read_boxes(path)
    yield from skipped
    if not lines:
        return
    _must_count_as_gt(path, lines)
    classes = _Classes(path, lines, categories)
    frames = _Frames(path, {line.frame for line in lines})
    truth = path.parent.name == "gt" or path.stem.startswith("gt")
    for line in sorted(lines, key=lambda line: line.frame):
        try:
            yield (classes.left_out(line, truth)) or _row(line, frames, classes.visibility(line, truth))
        except InputError as error:
            yield Skipped(f"line {line.number}", str(error))


def read_boxes(path: Path) -> tuple[list[MotBox], list[Skipped]]:
    """The valid lines of a MOT file and the skipped ones, without looking for pictures or classes.

    Blank lines and comments belong to neither.

    Raises:
        InputError: The file cannot be read.
    """
    lines: list[MotBox] = []
    skipped: list[Skipped] = []
    for number, text in enumerate(read_lines(path), start=1):
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        try:
            lines.append(_line(number, text))
        except InputError as error:
            skipped.append(Skipped(f"line {number}", str(error)))
    return lines, skipped


def _must_count_as_gt(path: Path, lines: Sequence[MotBox]) -> None:
    """Check that a part of ``gt.txt`` (``gt_val_half.txt``) does not renumber its frames.

    A part that does has no pictures of its own.

    Raises:
        InputError: Most of its boxes that are also in ``gt.txt`` have another frame there.
    """
    whole = path.with_name("gt.txt")
    if path.name == whole.name or not path.stem.startswith("gt") or not whole.is_file():
        return
    frames = defaultdict(set)
    for line in read_boxes(whole)[0]:
        frames[line.track, line.box].add(line.frame)
    there = [line.frame in frames[line.track, line.box] for line in lines if (line.track, line.box) in frames]
    if 2 * sum(there) < len(there):
        raise InputError(path, f"numbers its frames differently from {whole.name} beside it; use that one")


def _line(number: int, text: str) -> MotBox:
    separators = [sign for sign in ",;" if sign in text]
    parts = [part.strip() for part in text.split(separators[0])] if separators else text.split()
    while parts and not parts[-1]:
        parts.pop()
    try:
        if "_" in text:  # Python reads 1_000 as a number
            raise ValueError
        frame, track = map(_whole, parts[:2])
        left, top, width, height, flag, *rest = map(float, [*parts[2:6], *(parts[6:] or ["1"])])
    except ValueError:
        raise InputError(shown(text), "must be frame,track,left,top,width,height,flag,…") from None
    if not math.isfinite(flag):
        raise InputError(f"flag {parts[6]}", "must be a finite number")
    return MotBox(number, frame, track, box_of(left - 1, top - 1, width, height), flag, tuple(rest))


def _whole(text: str) -> int:
    """A whole number; some tools write 1.0."""
    value = float(text)
    if not value.is_integer() or abs(value) > LARGEST_NUMBER:
        raise ValueError
    return int(value)


def _row(line: MotBox, frames: "_Frames", visibility: float | None) -> Row:
    sequence = frames.sequence
    attributes: dict[str, Any] = {"frame": line.frame}
    identity = None
    if line.track >= 0:  # detections have −1
        identity = f"{sequence.name}/{line.track}"
        attributes["track"] = identity
    return Row(
        line.number,
        frames.picture(line.frame),
        box=line.box,
        identity=identity,
        source=sequence.name,
        visibility=visibility,
        scope=sequence,
        attributes=attributes,
    )


class _Classes:
    """Decides which boxes of a file are people.

    MOT sets flag 1 only for pedestrians. If a requested class has no flag 1, its flags are therefore ignored.
    """

    def __init__(self, path: Path, lines: Sequence[MotBox], categories: Sequence[str]) -> None:
        self.wanted: set[int] | None = None
        self.names: dict[int, str] = {}
        self.unflagged: set[int] = set()
        if not _has_classes(lines):
            if categories:
                raise InputError(
                    "--category", f"{path} has no classes; all its boxes are people; leave the option out"
                )
            return
        kinds = Counter(line.kind for line in lines if line.kind is not None)
        labels = path.with_name("labels.txt")
        if labels.is_file():
            names = map(str.strip, read_lines(labels))
            self.names = {number: name for number, name in enumerate(names, start=1) if name}
        else:
            self.names = CLASSES
            if not categories:
                _must_be_mots(path, kinds)
        known = {str(kind): str(kind) for kind in sorted(kinds)} if categories else {}
        known.update((str(number), name) for number, name in self.names.items())
        self.wanted = set(map(int, choose(labels if labels.is_file() else path, known, categories)))
        if categories:
            self.unflagged = kinds.keys() - {line.kind for line in lines if line.flag != 0}

    def left_out(self, line: MotBox, truth: bool) -> LeftOut | None:
        """The reason for leaving a line out, or None.

        Raises:
            InputError: The line has no class, but other lines have.
        """
        if self.wanted is not None and line.kind not in self.wanted:
            if line.kind is None:
                raise InputError(
                    f"class {line.rest[0] if line.rest else 'missing'}", "must be a whole number"
                )
            name = self.names.get(line.kind)
            return LeftOut(f"of class {line.kind}" + (f" ({name})" if name else ""))
        counts = not truth or line.flag != 0 or line.kind in self.unflagged
        return None if counts else LeftOut("with flag 0")

    def visibility(self, line: MotBox, truth: bool) -> float | None:
        """The visible share of the person, 0 to 1, if the file states it."""
        return line.visibility if truth and self.wanted is not None else None


def _must_be_mots(path: Path, kinds: Counter[int]) -> None:
    """Check that a file uses MOT's class numbers.

    Raises:
        InputError: Too many boxes are of other classes.
    """
    if RARE * sum(count for kind, count in kinds.items() if kind not in CLASSES) > kinds.total():
        raise InputError(
            path,
            f"its classes {', '.join(map(str, sorted(kinds)[:20]))} are not MOT's (1 is a pedestrian); "
            "choose those that are people with --category, or name the classes in a file labels.txt "
            "beside it, one per line",
        )


def _has_classes(lines: Sequence[MotBox]) -> bool:
    """Whether column 8 is a class and column 9 a visibility in most lines.

    MOT15 and detections have ten columns, with −1 or a position in the world in columns 8 to 10. Such a
    position is rarely a whole number followed by a number from 0 to 1. Files with fewer than eight columns
    have no classes.
    """
    without = [
        not line.rest
        or line.rest[0] == -1
        or (len(line.rest) > 2 and (line.kind is None or line.visibility is None))
        for line in lines
    ]
    return 2 * sum(without) <= len(lines)


class _Frames:
    """The pictures of a sequence, by the frame numbers of its list.

    A picture's number is the one in its name that distinguishes it from the others (``frame_000012.png`` is
    12). Among several such numbers it is the one that is a frame of the list. A list numbers its frames from
    0 if it has a frame 0, otherwise from 1, and so do the pictures. If one starts at 0 and the other at 1,
    the numbers of frame and picture differ by one.
    """

    def __init__(self, path: Path, frames: set[int]) -> None:
        self.sequence, self.folder, suffix = _sequence(path)
        pictures = frames_in(self.folder)
        preferred = [file for file in pictures if file.suffix.lower() == suffix]
        self.pictures: dict[int, list[Path]] = {}
        self.shift, best = 0, (0, 0)
        for numbered in numberings(preferred or pictures):
            shift = _shift(frames, set(numbered))
            found = (len(numbered), sum(frame + shift in numbered for frame in frames))
            if found > best:
                self.pictures, self.shift, best = numbered, shift, found
        if not self.pictures:
            raise InputError(path, f"has no pictures with numbers in their names in {self.folder}")
        if self.shift:
            first = min(self.pictures)
            name = self.pictures[first][0].name
            log.info("%s: frame %d is assumed to be %s/%s", path, first - self.shift, self.folder.name, name)

    def picture(self, frame: int) -> Path:
        """The picture of a frame.

        Raises:
            InputError: There is none, or there are several.
        """
        found = self.pictures.get(frame + self.shift, [])
        if len(found) > 1:
            names = some_of([file.name for file in found])
            raise InputError(f"frame {frame}", f"several pictures have this number: {names}")
        if not found:
            raise InputError(f"frame {shown(frame)}", f"has no picture in {self.folder}")
        return found[0]


def _sequence(path: Path) -> tuple[Path, Path, str]:
    """A sequence's folder, the folder of its frames, and their suffix from ``seqinfo.ini``."""
    path = path.absolute()
    for sequence in (path.parent.parent, path.parent):
        settings = read_seqinfo(sequence)
        for name in (settings.get("imdir") or FRAMES, FRAMES):
            if is_folder(sequence / name):
                return sequence, sequence / name, "." + settings.get("imext", "").lower().lstrip(".")
    raise InputError(path, f"its sequence has no folder {FRAMES} with the frames beside gt or det")


def read_seqinfo(sequence: Path) -> dict[str, str]:
    """The settings in a sequence's ``seqinfo.ini``, by their names in lower case; empty without the file."""
    info = sequence / "seqinfo.ini"
    settings: dict[str, str] = {}
    for line in read_lines(info) if info.is_file() else ():
        key, _, value = line.partition("=")
        settings[key.strip().lower()] = value.strip()
    return settings


def frames_in(folder: Path) -> list[Path]:
    """The pictures in a folder, sorted by name, without hidden files and folders below.

    Raises:
        InputError: The folder cannot be read.
    """
    try:
        return sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        )
    except OSError as error:
        raise InputError(folder, f"cannot be read ({error.strerror or error})") from None


def numberings(pictures: Sequence[Path]) -> Iterator[dict[int, list[Path]]]:
    """Pictures by the last number in their names, by the last but one, and so on."""
    found = {file: [int(digits) for digits in re.findall(r"[0-9]+", file.stem)] for file in pictures}
    for place in range(1, max(map(len, found.values()), default=0) + 1):
        numbered = defaultdict(list)
        for file, numbers in found.items():
            if place <= len(numbers):
                numbered[numbers[-place]].append(file)
        yield dict(numbered)


def _shift(frames: set[int], pictures: set[int]) -> int:
    """The difference between the numbers of a picture and of its frame."""
    from_zero = 0 if 0 in pictures else 1  # if the list counts from 0
    from_one = from_zero - 1
    if 0 not in frames:
        return from_one
    others = frames - {0}
    if _all_there(others, pictures, from_one) and not _all_there(others, pictures, from_zero):
        return from_one  # every other frame has a picture, so the line with frame 0 is a mistake
    return from_zero


def _all_there(frames: set[int], pictures: set[int], shift: int) -> bool:
    return all(frame + shift in pictures for frame in frames)
