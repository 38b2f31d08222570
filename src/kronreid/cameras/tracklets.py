"""Tracklets: tracks become rows of a gallery, with pictures, so that a stored tracklet is always whole.

Each recording (a file, a folder, a stream) has a folder of its own below the crops. It holds the pictures of
its tracklets as JPEG files and ``progress.json``: the time up to which everything is stored. A tracklet is
written in this order: its pictures' files, their entries in the gallery, its row. So a row that is there is
whole. A process that is killed leaves at most pictures without a row; the next one that follows the same
recording removes them, and everything that began after the progress, and follows the recording again from
there.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kronreid.cameras.frames import Source
from kronreid.cameras.looks import Look, choose
from kronreid.cameras.tracks import Track
from kronreid.data.files import written_whole
from kronreid.errors import InputError
from kronreid.gallery import Gallery, Selection
from kronreid.gallery.crops import PROGRESS, commented
from kronreid.gallery.entries import Entry
from kronreid.gallery.tracklets import TRACK, Tracklet, Tracklets

#: A tracklet has so many pictures, if it has been seen often enough.
MOST_PICTURES, LEAST_PICTURES = 6, 3


@dataclass(frozen=True)
class Progress:
    """How far a recording has been followed.

    Attributes:
        until: Everything that began before this time is stored, in seconds since 1970.
        done: Whether the recording has been followed to its end.
    """

    until: float = -np.inf
    done: bool = False


class Recording:
    """What is stored of one recording.

    Args:
        gallery: Where pictures go.
        tracklets: Where tracklets go.
        folder: The recording's own folder, for its crops and its progress.
        source: The source.
        settings: What the tracks depend on, such as the detector. A recording that was followed with other
            settings is followed anew, and what was stored of it is replaced.
        min_seconds: Shorter tracks are left out.

    Attributes:
        stored: Number of tracklets stored so far by this object.
        short: Number of tracks that were left out.
    """

    def __init__(
        self,
        gallery: Gallery,
        tracklets: Tracklets,
        folder: Path,
        source: Source,
        settings: dict[str, Any],
        min_seconds: float,
    ) -> None:
        self._gallery, self._tracklets = gallery, tracklets
        self.folder, self._source, self._camera = folder.absolute(), source.name, source.camera
        self._settings, self._min_seconds = settings, min_seconds
        self._pictures: dict[str, list[tuple[str, Path]]] = {}
        self.stored = self.short = 0

    # ── progress ────────────────────────────────────────────────────────────────────────────────────

    def progress(self) -> Progress:
        """How far the recording was followed, with the same settings."""
        try:
            said = json.loads((self.folder / PROGRESS).read_text(encoding="utf-8"))
            if said["settings"] != self._settings:
                return Progress()
            return Progress(float(said["until"]), bool(said["done"]))
        except FileNotFoundError:
            return Progress()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                self.folder / PROGRESS, f"cannot be read ({error}); remove it to follow the recording anew"
            ) from None

    def advance(self, progress: Progress) -> None:
        """Note that everything before this is stored."""
        said = {
            "source": self._source,
            "camera": self._camera,
            "settings": self._settings,
            "until": progress.until,
            "done": progress.done,
        }
        with written_whole(self.folder / PROGRESS) as new:
            new.write_text(json.dumps(said, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    def clean(self, since: float) -> None:
        """Remove what a killed process has left, and what began at `since` or later."""
        here = Selection(path=self.folder)
        kept: set[str] = set()
        again = []
        for tracklet in self._tracklets.all(here):
            if tracklet.start >= since:
                again.append(tracklet.id)
            else:
                kept.update(tracklet.pictures)
        self._tracklets.delete(again)
        entries = list(self._gallery.entries(here))
        self._remove([entry.id for entry in entries if entry.id not in kept])
        files = {entry.path for entry in entries if entry.id in kept}
        for file in self.folder.glob("*.jpg*"):
            if file not in files:
                file.unlink()

    # ── tracklets ───────────────────────────────────────────────────────────────────────────────────

    def store(self, tracks: Sequence[Track], whole: bool = True) -> None:
        """Store tracks as tracklets, in place of what was stored of them before.

        Args:
            tracks: The tracks.
            whole: Whether they have ended. One that is too short for a tracklet is counted then.
        """
        fit = [track for track in tracks if self._is_long(track)]
        if whole:
            self.short += len(tracks) - len(fit)
        if not fit:
            return
        tracklets = [self._written(track) for track in fit]
        entries = [
            Entry(path, camera=self._camera, time=time, source=self._source, attributes={TRACK: tracklet.id})
            for tracklet, files in tracklets
            for path, time in files
        ]
        report = self._gallery.add(entries, progress=False)
        if report.unreadable:
            raise InputError(report.unreadable[0].path, report.unreadable[0].reason)
        self._tracklets.upsert([tracklet for tracklet, _ in tracklets])
        for tracklet, files in tracklets:
            self.stored += tracklet.id not in self._pictures
            self._replace(tracklet, [path for path, _ in files])
            if whole:
                self._pictures.pop(tracklet.id, None)

    def _is_long(self, track: Track) -> bool:
        return bool(track.looks) and track.end - track.start >= self._min_seconds

    def _written(self, track: Track) -> tuple[Tracklet, list[tuple[Path, float]]]:
        """Write a track's pictures; the tracklet, and their files with their times."""
        ids, files = [], []
        for look in choose(track.looks, MOST_PICTURES, LEAST_PICTURES):
            path, content = self._file(track, look)
            if not path.exists():
                with written_whole(path) as new:
                    new.write_bytes(content)
            ids.append(hashlib.sha256(content).hexdigest())
            files.append((path, look.time))
        mean = track.mean
        assert mean is not None
        tracklet = Tracklet(
            id=track.id,
            camera=self._camera,
            source=self._source,
            start=track.start,
            end=track.end,
            vector=mean,
            pictures=tuple(ids),
            path=files[0][0],
            boxes=track.boxes,
        )
        return tracklet, files

    def _file(self, track: Track, look: Look) -> tuple[Path, bytes]:
        """The file of a look, and its content."""
        content = commented(look.jpeg, track.id, look.time)
        return self.folder / f"{track.id[:16]}-{round((look.time - track.start) * 1000):08d}.jpg", content

    def _replace(self, tracklet: Tracklet, files: list[Path]) -> None:
        """Remove the pictures that a tracklet had before and has no longer."""
        now = list(zip(tracklet.pictures, files))
        before = [one for one in self._pictures.get(tracklet.id, []) if one not in now]
        self._remove([id for id, _ in before])
        for _, file in before:
            file.unlink(missing_ok=True)
        self._pictures[tracklet.id] = now

    def _remove(self, ids: Sequence[str]) -> None:
        if ids:
            self._gallery.delete(Selection(id=list(ids)), purge=False)
