"""Follows a street and says what it is about to do at each step of writing; made to be killed."""

import runpy
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kronreid.cameras import pipeline, tracklets
from kronreid.cameras.pipeline import Options, follow
from kronreid.gallery import Gallery
from kronreid.gallery.tracklets import Tracklets

SHARED = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
walk = SHARED["walk"]
#: Three sections; in the last one a person stays so long that the tracklet is stored again and again.
STREET = SHARED["Street"](
    [
        walk(0, 4, (0, 280)),
        walk(1, 5, (280, 0), 100, 60),
        walk(16, 20, (20, 250)),
        walk(32, 44, (20, 250), 150),
    ],
    48,
    rate=5,
)


def run(folder: Path) -> None:
    """Follow the street into a gallery in this folder."""
    pipeline.OPEN_SECONDS, pipeline.STORE_SECONDS = 2.0, 0.0
    with Gallery(folder / "people.gallery", SHARED["Colours"]()) as gallery:
        follow(gallery, [(STREET, SHARED["Known"](STREET))], Options(folder / "crops", progress=False))


def main(folder: Path, say: Connection) -> None:
    """Says the name of each step before it is taken, and after it."""

    def announced(owner: Any, name: str) -> None:
        plain: Callable[..., Any] = getattr(owner, name)

        def loud(*arguments: Any, **more: Any) -> Any:
            say.send(name)
            found = plain(*arguments, **more)
            say.send(name)
            return found

        setattr(owner, name, loud)

    for owner, name in (
        (tracklets, "written_whole"),
        (Gallery, "add"),
        (Gallery, "delete"),
        (Tracklets, "upsert"),
        (Tracklets, "delete"),
    ):
        announced(owner, name)
    run(folder)


if __name__ == "__crash__":
    main(*(globals()[name] for name in ("folder", "say")))
