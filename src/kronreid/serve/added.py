"""The pictures that clients have added, in a folder of the server's own.

A picture is a file and a row of the gallery, which cannot change in one step. Marks beside the file say what
was begun: ``.new-NAME`` while its row is not there yet, and ``.gone-NAME`` is the file itself while its row
may still be there. After a crash, `Added.finish` brings both to one state.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kronreid.errors import InputError
from kronreid.serve.files import UNFINISHED, failure, make_private
from kronreid.serve.opened import OutOfOrder
from kronreid.serve.uploads import Upload, file_of, keep

log = logging.getLogger(__name__)

NEW, GONE = ".new-", ".gone-"


class Added:
    """The folder of added pictures. Its methods are called by one thread at a time.

    Args:
        folder: The folder; it is made when it is needed.
        used: How many of the gallery's pictures come from a file.
    """

    def __init__(self, folder: Path, used: Callable[[Path], int]) -> None:
        self.folder = folder
        self._used = used

    @contextmanager
    def storing(self, uploads: Sequence[Upload]) -> Iterator[list[Path]]:
        """Store uploads while their rows are written. Files that have no row at the end are removed.

        Yields:
            Their files.

        Raises:
            OutOfOrder: They cannot be stored. Then none is.
        """
        paths = [file_of(self.folder, upload) for upload in uploads]
        new = {path for path in paths if not path.exists()}
        try:
            try:
                make_private(self.folder.parent)
                make_private(self.folder)
                for path in new:
                    self._mark(path).touch(mode=0o600)
                for path, upload in zip(paths, uploads):
                    keep(path, upload)
            except (OSError, InputError) as error:
                raise OutOfOrder("", f"the picture cannot be stored ({failure(error)})") from error
            yield paths
        finally:
            # If the gallery does not answer, or the disk fails, the marks stay for the next start.
            with suppress(OutOfOrder, OSError):
                for path in new:
                    self._settle(path)

    @contextmanager
    def removing(self, path: Path, rows: int = 1) -> Iterator[None]:
        """Remove a picture's file while its `rows` are deleted, if it is one of these and has no other row.

        Raises:
            OutOfOrder: The file cannot be removed. Then the row must stay.
        """
        if path.parent != self.folder or not path.exists() or self._used(path) > rows:
            yield
            return
        gone = path.with_name(GONE + path.name)
        try:
            path.rename(gone)
        except OSError as error:
            raise OutOfOrder("", f"the picture's file cannot be removed ({error.strerror})") from error
        try:
            yield
        except BaseException:
            with suppress(OSError):
                gone.rename(path)
            raise
        try:
            gone.unlink()
        except OSError as error:
            log.error("%s cannot be removed (%s); the next start tries again", gone, error.strerror)

    def finish(self) -> None:
        """Finish or undo what was at work when the server stopped."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.iterdir()):
            try:
                if path.name.startswith(UNFINISHED):
                    path.unlink()
                elif path.name.startswith(NEW):
                    self._settle(path.with_name(path.name.removeprefix(NEW)))
                elif path.name.startswith(GONE):
                    there = path.with_name(path.name.removeprefix(GONE))
                    if self._used(there):
                        path.rename(there)
                    else:
                        path.unlink()
            except OSError as error:
                log.error("%s: a change that was interrupted cannot be finished (%s)", path, error.strerror)

    def _mark(self, path: Path) -> Path:
        return path.with_name(NEW + path.name)

    def _settle(self, path: Path) -> None:
        """Remove a new file that has no row, and its mark."""
        if not self._used(path):
            path.unlink(missing_ok=True)
        self._mark(path).unlink(missing_ok=True)
