"""Pictures that come with a description: CSV and Parquet lists, and boxes in full frames (MOT, COCO)."""

import configparser
import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kronreid.errors import InputError
from kronreid.gallery.entries import Box, Entry, parse_box
from kronreid.gallery.filters import parse_time

#: Endings of the lists that `read_list` reads.
LIST_SUFFIXES = (".csv", ".parquet", ".json", ".txt")

_BOX = ("x", "y", "width", "height")
_FIELDS = {"path", "box", "camera", "time", "identity", "source", "attributes", "id", *_BOX}


def read_list(path: Path) -> list[Entry]:
    """A list of pictures, told apart by its name.

    * ``*.csv`` and ``*.parquet``: a column ``path`` (relative to the list), and any of ``camera``, ``time``,
      ``identity``, ``source``, ``box`` (``x,y,width,height``, or four columns of those names) and
      ``attributes`` (JSON); every other column becomes an attribute. What `Gallery.export` writes.
    * ``*.json``: COCO; each annotation with a box of a person.
    * ``gt.txt`` or ``det.txt`` of a MOT sequence.

    Raises:
        InputError: The file is missing or is none of these; the message names the line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such list")
    if path.suffix == ".csv":
        return list(_rows(path, _csv(path)))
    if path.suffix == ".parquet":
        return list(_rows(path, _parquet(path)))
    if path.suffix == ".json":
        return read_coco(path)
    if path.suffix == ".txt":
        return read_mot(path)
    raise InputError(f"{path}: a list is .csv, .parquet, COCO's .json or MOT's gt.txt")


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        yield from csv.DictReader(file)


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: not a Parquet file that can be read ({error})") from error


def _rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Iterator[Entry]:
    folder = path.absolute().parent
    for number, row in enumerate(rows, start=1):
        try:
            yield _entry(folder, row)
        except InputError as error:
            raise InputError(f"{path}: row {number}: {error}") from None


def _entry(folder: Path, row: Mapping[str, Any]) -> Entry:
    if not row.get("path"):
        raise InputError("no path; the list needs a column named path")
    if None in row:
        raise InputError("more values than columns")
    known = {name: row[name] for name in ("camera", "identity", "source") if row.get(name) not in (None, "")}
    time, attributes = row.get("time"), row.get("attributes")
    more = {name: value for name, value in row.items() if name not in _FIELDS and value not in (None, "")}
    try:
        decoded = json.loads(attributes) if attributes else {}
    except json.JSONDecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise InputError(f"attributes {attributes!r}: a JSON object expected, or a column for each")
    return Entry(
        folder / row["path"],
        box=_box(row),
        time=parse_time(time) if time not in (None, "") else None,
        attributes={**decoded, **more},
        **{name: str(value) for name, value in known.items()},
    )


def _box(row: Mapping[str, Any]) -> Box | None:
    if row.get("box"):
        return parse_box(str(row["box"]))
    if all(row.get(side) not in (None, "") for side in _BOX):
        return parse_box(",".join(str(row[side]) for side in _BOX))
    return None


def read_mot(path: Path) -> list[Entry]:
    """The boxes of a MOT sequence: ``<sequence>/gt/gt.txt`` or ``det/det.txt``, with frames in ``img1``.

    In ground truth only boxes of pedestrians that are to be considered count (class 1, flag 1). Frame and
    track become attributes, the track's name also the identity: the sequence's name and the number.

    Raises:
        InputError: No frames, or a line that is not one of MOT's; the message names it.
    """
    sequence = path.absolute().parent.parent
    settings = configparser.ConfigParser()
    settings.read(sequence / "seqinfo.ini")
    options = settings["Sequence"] if settings.has_section("Sequence") else {}
    frames = sequence / options.get("imDir", "img1")
    if not frames.is_dir():
        raise InputError(f"{path}: the sequence has no folder {frames.name} with its frames")
    suffix = options.get("imExt", ".jpg")
    entries = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            frame, track, *numbers = (float(part) for part in line.split(","))
            left, top, width, height, flag = numbers[:5]
        except ValueError:
            raise InputError(
                f"{path}: line {number}: frame,track,left,top,width,height,flag,… expected"
            ) from None
        if path.stem == "gt" and (flag == 0 or (len(numbers) > 5 and numbers[5] != 1)):
            continue
        attributes: dict[str, Any] = {"frame": int(frame)}
        identity = None
        if track > 0:
            identity = f"{sequence.name}/{int(track)}"
            attributes["track"] = identity
        entries.append(
            Entry(
                frames / f"{int(frame):06d}{suffix}",
                box=parse_box(f"{left - 1},{top - 1},{width},{height}"),  # MOT counts pixels from 1
                identity=identity,
                source=sequence.name,
                attributes=attributes,
            )
        )
    return sorted(entries, key=lambda entry: entry.path)


def read_coco(path: Path) -> list[Entry]:
    """COCO's annotations of persons; the pictures lie beside the file or in a folder ``images`` there.

    Raises:
        InputError: Not COCO's layout.
    """
    folder = path.absolute().parent
    folder = folder / "images" if (folder / "images").is_dir() else folder
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = {image["id"]: image["file_name"] for image in content["images"]}
        persons = {c["id"] for c in content.get("categories", []) if c["name"] == "person"}
        entries = [
            Entry(
                folder / files[annotation["image_id"]],
                box=parse_box(",".join(map(str, annotation["bbox"]))),
                source=path.stem,
                attributes={"annotation": annotation["id"]},
            )
            for annotation in content["annotations"]
            if not persons or annotation.get("category_id") in persons
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not COCO's annotations ({type(error).__name__}: {error})") from None
    return sorted(entries, key=lambda entry: entry.path)
