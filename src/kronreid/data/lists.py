"""Lists of pictures: CSV and Parquet, and boxes in full frames as MOT and COCO have them."""

import configparser
import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kronreid.data.records import Box, parse_box
from kronreid.errors import InputError

#: Endings of the lists that `read_rows` reads.
LIST_SUFFIXES = (".csv", ".parquet", ".json", ".txt")

#: The columns of a box; w and h may be called width and height.
_SIDES = {"x": "x", "y": "y", "w": "width", "h": "height", "width": "width", "height": "height"}
_FIELDS = {"path", "box", "camera", "time", "identity", "source", "attributes", "id", *_SIDES}


@dataclass(frozen=True)
class Row:
    """One picture of a list.

    Attributes:
        number: Which row of the list, from 1; a line of a MOT file.
        path: The file; those of a list are relative to it.
        box: The part of the file that shows the person; None for all of it.
        camera: Name or number of the camera; None where unknown, like all below.
        identity: Who it shows.
        time: When it was taken, as the list has it.
        source: Where it comes from: a recording, a delivery.
        visibility: How much of the person is not hidden, 0 to 1, where MOT says so.
        attributes: All other columns.
    """

    number: int
    path: Path
    box: Box | None = None
    camera: str | None = None
    identity: str | None = None
    time: Any = None
    source: str | None = None
    visibility: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def read_rows(path: Path) -> list[Row]:
    """A list of pictures, told apart by its name.

    * ``*.csv`` and ``*.parquet``: a column ``path`` (relative to the list), and any of ``camera``, ``time``,
      ``identity``, ``source``, ``box`` (``x,y,width,height``, or the four columns ``x``, ``y``, ``w``, ``h``
      or ``x``, ``y``, ``width``, ``height``) and ``attributes`` (JSON); other columns become attributes.
    * ``*.json``: COCO; each annotation with a box of a person.
    * ``gt.txt`` or ``det.txt`` of a MOT sequence.

    Raises:
        InputError: The file is missing or is none of these; the message names the row or line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such list")
    if path.suffix == ".csv":
        return _rows(path, _csv(path))
    if path.suffix == ".parquet":
        return _rows(path, _parquet(path))
    if path.suffix == ".json":
        return read_coco(path)
    if path.suffix == ".txt":
        return read_mot(path)
    raise InputError(f"{path}: a list is .csv, .parquet, COCO's .json or MOT's gt.txt")


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            yield from csv.DictReader(file)
        except csv.Error as error:
            raise InputError(f"{path}: not a CSV file that can be read ({error})") from None


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: not a Parquet file that can be read ({error})") from error


def _rows(path: Path, values: Iterator[Mapping[str, Any]]) -> list[Row]:
    folder = path.absolute().parent
    rows = []
    for number, row in enumerate(values, start=1):
        try:
            rows.append(_row(number, folder, row))
        except InputError as error:
            raise InputError(f"{path}: row {number}: {error}") from None
    return rows


def _row(number: int, folder: Path, row: Mapping[str, Any]) -> Row:
    if not row.get("path"):
        raise InputError("no path; the list needs a column named path")
    if None in row:
        raise InputError("more values than columns")
    attributes = row.get("attributes")
    try:
        decoded = json.loads(attributes) if attributes else {}
    except json.JSONDecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise InputError(f"attributes {attributes!r}: a JSON object expected, or a column for each")
    more = {name: value for name, value in row.items() if name not in _FIELDS and not _is_empty(value)}
    time = row.get("time")
    return Row(
        number,
        folder / row["path"],
        box=_box(row),
        camera=_text(row.get("camera")),
        identity=_text(row.get("identity")),
        time=None if _is_empty(time) else time,
        source=_text(row.get("source")),
        attributes={**decoded, **more},
    )


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value != value  # the last: NaN, how pandas writes nothing


def _text(value: Any) -> str | None:
    """A label as text; 7.0, which is what pandas makes of 7 in a column with gaps, as 7."""
    if _is_empty(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _box(row: Mapping[str, Any]) -> Box | None:
    if row.get("box"):
        return parse_box(str(row["box"]))
    given = {side: row[name] for name, side in _SIDES.items() if not _is_empty(row.get(name))}
    if not given:
        return None
    sides = ("x", "y", "width", "height")
    missing = [side for side in sides if side not in given]
    if missing:
        raise InputError(f"box: {', '.join(given)} given, but not {', '.join(missing)}")
    return parse_box(",".join(str(given[side]) for side in sides))


def read_mot(path: Path) -> list[Row]:
    """The boxes of a MOT sequence: ``<sequence>/gt/gt.txt`` or ``det/det.txt``, with frames in ``img1``.

    In ground truth only boxes of pedestrians that are to be considered count (class 1, flag 1). Frame and
    track become attributes, the track's name also the identity: the sequence's name and the number.

    Raises:
        InputError: No frames, or a line that is not one of MOT's; the message names it.
    """
    sequence = path.absolute().parent.parent
    settings = configparser.ConfigParser()
    try:
        settings.read(sequence / "seqinfo.ini", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())
        raise InputError(
            f"{sequence / 'seqinfo.ini'}: not MOT's description of a sequence ({what})"
        ) from None
    options = settings["Sequence"] if settings.has_section("Sequence") else {}
    frames = sequence / options.get("imDir", "img1")
    if not frames.is_dir():
        raise InputError(f"{path}: the sequence has no folder {frames.name} with its frames")
    suffix = options.get("imExt", ".jpg")
    rows = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        try:
            one, other, *numbers = (float(part) for part in line.split(","))
            frame, track = int(one), int(other)
            left, top, width, height, flag = numbers[:5]
        except (ValueError, OverflowError):  # the latter: infinity is no frame
            raise InputError(
                f"{path}: line {number}: frame,track,left,top,width,height,flag,… expected"
            ) from None
        truth = path.stem == "gt"
        if truth and (flag == 0 or (len(numbers) > 5 and numbers[5] != 1)):
            continue
        attributes: dict[str, Any] = {"frame": frame}
        identity = None
        if track > 0:
            identity = f"{sequence.name}/{track}"
            attributes["track"] = identity
        try:
            box = parse_box(f"{left - 1},{top - 1},{width},{height}")  # MOT counts pixels from 1
        except InputError as error:
            raise InputError(f"{path}: line {number}: {error}") from None
        rows.append(
            Row(
                number,
                frames / f"{frame:06d}{suffix}",
                box=box,
                identity=identity,
                source=sequence.name,
                visibility=numbers[6] if truth and len(numbers) > 6 else None,
                attributes=attributes,
            )
        )
    return sorted(rows, key=lambda row: row.path)


def read_coco(path: Path) -> list[Row]:
    """COCO's annotations of persons; the pictures lie beside the file or in a folder ``images`` there.

    An annotation's ``track_id`` or ``instance_id``, which COCO itself does not have, is its identity.

    Raises:
        InputError: Not COCO's layout.
    """
    folder = path.absolute().parent
    folder = folder / "images" if (folder / "images").is_dir() else folder
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = {image["id"]: image["file_name"] for image in content["images"]}
        persons = {c["id"] for c in content.get("categories", []) if c["name"] == "person"}
        rows = [
            Row(
                number,
                folder / files[annotation["image_id"]],
                box=parse_box(",".join(map(str, annotation["bbox"]))),
                identity=_text(annotation.get("track_id", annotation.get("instance_id"))),
                source=path.stem,
                attributes={"annotation": annotation["id"]},
            )
            for number, annotation in enumerate(content["annotations"], start=1)
            if not persons or annotation.get("category_id") in persons
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not COCO's annotations ({type(error).__name__}: {error})") from None
    return sorted(rows, key=lambda row: row.path)
