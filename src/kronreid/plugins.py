"""Plug-ins: modules outside the package that add to its registries when they are imported."""

import importlib
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from kronreid.errors import InputError, one_line

log = logging.getLogger(__name__)

#: The plug-ins of this process, for processes that it starts on other machines. Files are absolute paths.
loaded: list[str] = []


def load_plugins(names: Sequence[str]) -> None:
    """Import plug-ins; each is imported once.

    Args:
        names: Modules by name, which are installed or in the current folder, and files whose path ends in
            ``.py``. A file is imported under its own name, and may import its neighbours.

    Raises:
        InputError: There is no such module, or it fails. The line names the plug-in.
    """
    for name in names:
        load_plugin(name, f"--plugin {name}")


def load_plugin(name: str, source: str) -> ModuleType:
    """Import a plug-in, as `load_plugins` does, and return it.

    Args:
        name: A module by name, or a file whose path ends in ``.py``.
        source: Where the name was given, for messages.

    Raises:
        InputError: There is no such module, or it fails.
    """
    importlib.invalidate_caches()
    file = Path(name).resolve() if name.endswith(".py") else None
    try:
        module = _load(file.stem if file else name, file)
    except InputError as error:  # also a registry's, which refuses a name
        raise error.within(source) from error
    loaded.append(str(file or name))
    return module


def _load(name: str, file: Path | None) -> ModuleType:
    """Import a module, which has to be the one of `file` if that is given."""
    if file and not file.is_file():
        raise InputError("", "no such file")
    folder = str(file.parent if file else Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)  # at the end: the current folder hides no installed module
    try:
        module = importlib.import_module(name)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a plug-in fails in any way
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise InputError("", "no such module is installed or in the current folder") from None
        frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
        if frames[-1].is_relative_to(Path(__file__).parent) and frames[-1] != Path(__file__):
            raise  # our own bug
        raise InputError("", _failure(error)) from error
    found = Path(getattr(module, "__file__", None) or name)
    if file and found.resolve() != file:
        raise InputError("", f"another module has the name {name} ({found}); rename the file")
    log.info("plug-in %s: %s", name, found)
    return module


def _failure(error: BaseException) -> str:
    """What a plug-in raised, and in which of its lines."""
    machinery = ("<frozen importlib", importlib.__file__, __file__)
    own = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(machinery)]
    where = f", {Path(own[0].filename).name} line {own[0].lineno}" if own else ""
    return f"cannot be imported ({type(error).__name__}: {one_line(error)}{where})"
