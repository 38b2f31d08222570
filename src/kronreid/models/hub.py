"""Models by their Hugging Face hub id: ``org/name``, or ``org/name@revision``."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from kronreid.errors import InputError, one_line
from kronreid.models.places import PLACES
from kronreid.models.storage import CONFIG, WEIGHTS

_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def is_hub_id(path: str) -> bool:
    """Whether a text that names no folder can be a hub id.

    ``runs/horied`` in a place where there is a folder ``runs`` is a slip, and is not sent to anyone.
    """
    match = _ID.fullmatch(path)
    return match is not None and not Path(match["name"]).parent.is_dir()


def download(hub_id: str) -> Path:
    """Fetch a model's files, or find them in the hub's cache; nothing else of the repository is read.

    Returns:
        The folder that holds `config.json`, `model.safetensors` and, if the model has places,
        `places.safetensors`.

    Raises:
        InputError: There is no such model or revision, or no connection.
    """
    match = _ID.fullmatch(hub_id)
    assert match is not None
    try:
        folder = snapshot_download(
            match["name"], revision=match["revision"], allow_patterns=[CONFIG, WEIGHTS, PLACES]
        )
    except LocalEntryNotFoundError:
        raise InputError(
            hub_id, "no such folder here, and the Hugging Face hub cannot be reached to look for it there"
        ) from None
    except (OSError, HFValidationError) as error:  # the hub's own errors are OSErrors
        raise InputError(
            hub_id, f"no such folder here, and the Hugging Face hub refuses it: {one_line(error)[:200]}"
        ) from None
    return Path(folder)
