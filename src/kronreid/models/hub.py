"""Models on the Hugging Face hub, by their id: ``org/name``, or ``org/name@revision``."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

from kronreid.errors import InputError, one_line
from kronreid.models.calibration import CALIBRATION, load_calibration
from kronreid.models.card import card, own_card, write_card
from kronreid.models.folders import CARD, CONFIG, HUB_ID, WEIGHTS, names_a_path
from kronreid.models.places import PLACES, load_places, places_fingerprint
from kronreid.models.storage import load_folder

#: All files of a model on the hub.
FILES = (CONFIG, WEIGHTS, PLACES, CALIBRATION, CARD)


def is_hub_id(path: str) -> bool:
    """Whether a path that names no folder can be a hub id.

    If there is a folder ``runs``, then ``runs/horied`` is a misspelt path and is not sent to the hub.
    """
    match = HUB_ID.fullmatch(path)
    return match is not None and not Path(match["name"]).parent.is_dir()


def download(hub_id: str, files: Sequence[str] = FILES) -> Path:
    """Download a model's files, or find them in the hub's cache. No other file is downloaded.

    Args:
        hub_id: ``org/name`` or ``org/name@revision``.
        files: Names or patterns of the files. Those of kronreid's own models are the default.

    Returns:
        The folder that holds those of the files that the model has.

    Raises:
        InputError: There is no such model or revision, or no connection.
    """
    match = HUB_ID.fullmatch(hub_id)
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


def push(folder: Path, hub_id: str, private: bool = False) -> str:
    """Upload a model: its options and weights, its card, and its places and calibration if it has them.

    Nothing else in the folder is uploaded. Files of these names that the repository has and the folder has
    not are deleted there, in the same commit: they are of another model.

    Args:
        folder: The model's folder.
        hub_id: ``org/name``. The repository is created if it is missing.
        private: Only people whom you allow may see it.

    Returns:
        The address of the commit.

    Raises:
        InputError: It is no model folder, or a file in it does not fit the others. Or the id is no id, there
            is no token, the hub refuses it or cannot be reached, or an existing repository is not private.
    """
    files = _files(folder, hub_id)
    token = get_token()
    if token is None:
        raise InputError("HF_TOKEN", "is not set; put a token with the right to write into the environment")
    api = HfApi(token=token, library_name="kronreid")
    with _refusals(hub_id):
        api.create_repo(hub_id, private=private or None, exist_ok=True)
        there = api.model_info(hub_id)
        if private and not there.private:
            raise InputError(
                hub_id, "is a public repository; make it private on the hub first, or choose another name"
            )
        old = {one.rfilename for one in there.siblings or []} & set(FILES) - files.keys()
        changes: list[Any] = [CommitOperationAdd(name, content) for name, content in files.items()]
        changes += [CommitOperationDelete(name) for name in sorted(old)]
        made = api.create_commit(hub_id, changes, commit_message="A model of kronreid")
    return made.commit_url


def _files(folder: Path, hub_id: str) -> dict[str, Path | bytes]:
    """The files to upload, by name: where they lie, or their content.

    Raises:
        InputError: See `push`.
    """
    if "@" in hub_id or not HUB_ID.fullmatch(hub_id):
        raise InputError(hub_id, "is no name on the hub; give one like org/name")
    if not folder.is_dir():
        raise InputError(folder, "no such model folder")
    _, _, model = load_folder(folder)
    for text in _texts(json.loads((folder / CONFIG).read_text())):
        if names_a_path(text):
            raise InputError(
                folder / CONFIG,
                f"has a path of this machine, {text!r}; replace it by a file's name, then fit the places and "
                "calibrate again, if the model has them",
            )
    write_card(folder)
    files: dict[str, Path | bytes] = {CONFIG: folder / CONFIG, WEIGHTS: folder / WEIGHTS}
    if load_places(folder, model) is not None:
        files[PLACES] = folder / PLACES
    if load_calibration(folder, model, places_fingerprint(folder)) is not None:
        files[CALIBRATION] = folder / CALIBRATION
    files[CARD] = own_card(folder) or card(folder, hub_id).encode()
    return files


def _texts(value: Any) -> Iterator[str]:
    """All texts in plain values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


@contextmanager
def _refusals(hub_id: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line."""
    try:
        yield
    except InputError:
        raise
    except (OSError, HTTPError, RuntimeError, ValueError) as error:
        # The client raises an OSError if the hub refuses, a ValueError for a bad name or a bad header of the
        # card, and its HTTP library's or its storage library's own errors if there is no connection.
        if getattr(error, "response", None) is None and not isinstance(error, ValueError):
            raise InputError(
                hub_id, f"the Hugging Face hub cannot be reached ({one_line(error)[:200]})"
            ) from None
        raise InputError(hub_id, f"the Hugging Face hub refuses it: {one_line(error)[:300]}") from None
