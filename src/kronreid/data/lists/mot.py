"""Boxes in the frames of MOT sequences."""

import configparser
from pathlib import Path
from typing import Any

from kronreid.data.lists.rows import Row
from kronreid.data.records import parse_box
from kronreid.errors import InputError


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
