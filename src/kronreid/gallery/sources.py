"""The folders that a gallery's pictures lie in. A stored path that leads elsewhere is not opened.

A gallery in a folder remembers the folders that it was filled from, and the videos in which its people were
followed, in a file of its own (a JSON list). Rows are not believed: whoever manages to change one must not
make a server read any other file of its machine. A gallery elsewhere has no such file; its server can be told
the folders.
"""

import json
import os
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path

from filelock import FileLock

from kronreid.data.files import written_whole
from kronreid.errors import InputError
from kronreid.gallery.entries import path_to_text, text_to_path
from kronreid.gallery.store import SOURCES
from kronreid.locks import LOCK


class Sources:
    """The folders whose pictures may be opened.

    Args:
        file: The file that names them; None if there is none.
        folders: Allow these folders, whatever the file says. With neither, every picture may be opened.
    """

    def __init__(self, file: Path | None = None, folders: Sequence[Path] = ()) -> None:
        self._file = file
        self._only = frozenset(map(_plain, folders))
        self._folders: frozenset[Path] | None = None
        self._read_at: tuple[int, int] | None = None

    @classmethod
    def of(cls, uri: str, folders: Sequence[Path] = ()) -> "Sources":
        """Those of the gallery with this address."""
        return cls(None if "://" in uri else Path(uri).absolute() / SOURCES, folders)

    @property
    def unnoted(self) -> bool:
        """Whether the folders could be noted and have not been yet."""
        self._refresh()
        return self._file is not None and self._folders is None

    @property
    def noted(self) -> frozenset[Path]:
        """The folders that the file names."""
        self._refresh()
        return self._folders or frozenset()

    def allow(self, path: Path) -> bool:
        """Whether this picture or video may be opened."""
        if not self._only:
            self._refresh()
        allowed = self._only or self._folders
        return allowed is None or not allowed.isdisjoint(_at_or_above(path))

    def add(
        self,
        pictures: Iterable[Path],
        given: Iterable[str | PathLike[str]] = (),
        recordings: Iterable[Path] = (),
    ) -> None:
        """Remember the folders of pictures that are about to be stored.

        Args:
            pictures: Their files.
            given: What the user named; a folder among it is remembered in place of all folders below it.
            recordings: Videos and folders of frames. They are remembered themselves, not the folders that
                they lie in.

        Raises:
            InputError: The file cannot be written.
        """
        if self._file is None:
            return
        folders = {_plain(folder) for folder in {*(picture.parent for picture in pictures), *recordings}}
        if not folders:
            return
        wide = {_plain(Path(one)) for one in given if Path(one).is_dir()}
        with self._turn():
            self._refresh()
            known = self._folders or frozenset()
            together = _outermost(known | folders | {one for one in wide if _any_below(one, folders)})
            if self._folders is None or together != known:
                self._write(together)

    def forget(self, left: Iterable[Path]) -> None:
        """Remember only what still is, or holds, one of the pictures and recordings that are `left`."""
        if self._file is None:
            return
        with self._turn():
            self._refresh()
            if self._folders is None:
                return
            used: set[Path] = set()
            for picture in left:
                used.update(self._folders.intersection(_at_or_above(picture)))
                if len(used) == len(self._folders):
                    return
            self._write(frozenset(used))

    def _turn(self) -> FileLock:
        """The lock that writers of the gallery take."""
        assert self._file is not None
        return FileLock(self._file.with_name(LOCK), mode=0o666, poll_interval=0.005)

    def _refresh(self) -> None:
        """Read the file again, if another process has changed it."""
        if self._file is None:
            return
        try:
            status = self._file.stat()
            if (status.st_mtime_ns, status.st_size) == self._read_at:
                return
            listed = json.loads(self._file.read_text())
            if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
                raise ValueError("no list of folders")
            self._folders = frozenset(map(text_to_path, listed))
            self._read_at = (status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            self._folders = self._read_at = None
        except (OSError, ValueError) as error:
            raise InputError(
                self._file, f"cannot be read ({error}); remove it and add the pictures again"
            ) from None

    def _write(self, folders: frozenset[Path]) -> None:
        assert self._file is not None
        try:
            with written_whole(self._file) as new:
                new.write_text(json.dumps(sorted(map(path_to_text, folders)), indent=1) + "\n")
        except OSError as error:
            raise InputError(self._file, f"cannot be written ({error.strerror or error})") from error
        self._folders, self._read_at = folders, None


def _plain(path: Path) -> Path:
    """An absolute path without ``..``. Links stay: a folder of links is as good as any."""
    return Path(os.path.normpath(path.absolute()))


def _at_or_above(path: Path) -> tuple[Path, ...]:
    """A path and all folders that it lies in."""
    plain = _plain(path)
    return plain, *plain.parents


def _any_below(folder: Path, folders: Iterable[Path]) -> bool:
    return any(folder == other or folder in other.parents for other in folders)


def _outermost(folders: frozenset[Path]) -> frozenset[Path]:
    """The folders that lie in no other one."""
    return frozenset(folder for folder in folders if folders.isdisjoint(folder.parents))


#: No limit.
EVERYWHERE = Sources()
