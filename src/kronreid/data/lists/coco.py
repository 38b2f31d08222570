"""Boxes in the pictures of COCO's annotations."""

import json
from pathlib import Path

from kronreid.data.lists.rows import Row
from kronreid.data.records import parse_box
from kronreid.data.values import label
from kronreid.errors import InputError


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
                identity=label(annotation.get("track_id", annotation.get("instance_id"))),
                source=path.stem,
                attributes={"annotation": annotation["id"]},
            )
            for number, annotation in enumerate(content["annotations"], start=1)
            if not persons or annotation.get("category_id") in persons
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not COCO's annotations ({type(error).__name__}: {error})") from None
    return sorted(rows, key=lambda row: row.path)
