"""The files of a model folder and of a run's folder, and what may leave this machine of the paths in them."""

import hashlib
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

#: A model folder: the model's options, its weights, and its card.
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
#: What a run's folder holds besides: what it was trained on, all its options, and a line for each epoch.
RECORD, OPTIONS, HISTORY = "run.json", "config.yaml", "history.csv"

#: The id of a repository on the Hugging Face hub, perhaps with a revision.
HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def fingerprint(folder: Path) -> str:
    """A hash of a model's options and weights, 64 hexadecimal digits."""
    return hashlib.sha256((folder / CONFIG).read_bytes() + (folder / WEIGHTS).read_bytes()).hexdigest()


def names_a_path(text: str) -> bool:
    """Whether text says where a file lies on a machine, and is no plain name and no id on the hub."""
    if text.startswith("~") or PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute():
        return True
    if not {"/", "\\"} & set(text):
        return False
    known = re.sub(r"^hf[-_]hub:", "", text)
    return HUB_ID.fullmatch(known) is None or known.startswith(".") or Path(known).exists()


def without_folders(value: Any) -> Any:
    """Plain values in which paths are replaced by the names of their files."""
    if isinstance(value, dict):
        return {key: without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(inner) for inner in value]
    return PureWindowsPath(value).name if isinstance(value, str) and names_a_path(value) else value
