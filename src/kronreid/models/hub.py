"""Models by their Hugging Face hub id: ``org/name``, or ``org/name@revision``."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from kronreid.errors import InputError, one_line
from kronreid.models.calibration import CALIBRATION
from kronreid.models.places import PLACES
from kronreid.models.storage import CONFIG, WEIGHTS

_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def is_hub_id(path: str) -> bool:
    """Whether a path that names no folder can be a hub id.

    If there is a folder ``runs``, then ``runs/horied`` is a misspelt path and is not sent to the hub.
    """
    match = _ID.fullmatch(path)
    return match is not None and not Path(match["name"]).parent.is_dir()


def download(hub_id: str, files: Sequence[str] = (CONFIG, WEIGHTS, PLACES, CALIBRATION)) -> Path:
    """Download a model's files, or find them in the hub's cache. No other file is downloaded.

    Args:
        hub_id: ``org/name`` or ``org/name@revision``.
        files: Names or patterns of the files. Those of kronreid's own models are the default.

    Returns:
        The folder that holds those of the files that the model has.

    Raises:
        InputError: There is no such model or revision, or no connection.
    """
    match = _ID.fullmatch(hub_id)
    assert match is not None
    try:
        folder = snapshot_download(match["name"], revision=match["revision"], allow_patterns=list(files))
    except LocalEntryNotFoundError:
        raise InputError(
            hub_id, "there is no such folder, and the Hugging Face hub cannot be reached to search there"
        ) from None
    except (OSError, HFValidationError) as error:  # the hub's own errors are OSErrors
        raise InputError(
            hub_id, f"there is no such folder, and the Hugging Face hub refuses it: {one_line(error)[:200]}"
        ) from None
    return Path(folder)
