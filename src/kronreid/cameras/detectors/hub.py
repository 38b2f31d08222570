"""Detectors of the Hugging Face hub, through transformers: RT-DETR, D-FINE, DETR and their kin.

Weights are read as safetensors only, so nothing is unpickled, and no code of a repository is run.
"""

import logging
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kronreid.torchvision_guard  # noqa: F401  (before transformers imports torchvision)
from kronreid.errors import InputError, one_line
from kronreid.models.hub import download

# isort: split
import transformers

log = logging.getLogger(__name__)

#: The files of a detector.
FILES = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
)
#: Height and width of the input, for tiles, where the settings do not say it.
_USUAL_SIZE = 640

_opened: "weakref.WeakValueDictionary[Path, HubNetwork]" = weakref.WeakValueDictionary()


def open_hub(text: str) -> "HubNetwork":
    """Open a detector of the hub. One that is open already is not opened again.

    Args:
        text: ``org/name`` or ``org/name@revision``, or a folder that holds `FILES`.

    Raises:
        InputError: There is no such detector, it has no safetensors, or it does not find people.
    """
    folder = (Path(text) if Path(text).is_dir() else download(text, FILES)).resolve()
    network = _opened.get(folder)
    if network is None:
        network = _opened[folder] = HubNetwork(folder, text)
    return network


class HubNetwork:
    """A detector of transformers; see `kronreid.cameras.detectors.tiles.Network`.

    Args:
        folder: The folder with its files.
        name: Its name in messages.

    Raises:
        InputError: As in `open_hub`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        transformers.utils.logging.disable_progress_bar()
        common: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        try:
            self.processor = transformers.AutoImageProcessor.from_pretrained(folder, **common)
            model, loaded = transformers.AutoModelForObjectDetection.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **common
            )
        except Exception as error:  # transformers raises errors of any class on files that it cannot use
            raise InputError(
                name, f"is no detector that transformers can read ({one_line(error)[:200]})"
            ) from None
        if loaded["missing_keys"] or loaded["mismatched_keys"]:
            raise InputError(name, "its weights are incomplete or do not fit its config.json")
        self.person = _person(model.config.id2label, name)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.eval().to(self.device)
        sides = dict(self.processor.size)
        shortest = sides.get("shortest_edge")
        height, width = sides.get("height") or shortest, sides.get("width") or shortest
        self.size: tuple[int, int] = height or _USUAL_SIZE, width or _USUAL_SIZE

    @torch.inference_mode()
    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `kronreid.cameras.detectors.tiles.Network`."""
        inputs = self.processor(images=np.ascontiguousarray(image), return_tensors="pt").to(self.device)
        outputs = self.model(**inputs)
        (found,) = self.processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=[image.shape[:2]]
        )
        people = found["labels"] == self.person
        boxes, scores = found["boxes"][people], found["scores"][people]
        return boxes.cpu().numpy().astype(np.float64), scores.cpu().numpy().astype(np.float64)


def _person(names: dict[int, str], source: str) -> int:
    """The class of people.

    Raises:
        InputError: The detector does not know people.
    """
    for number, name in names.items():
        if name.strip().lower() in ("person", "people", "pedestrian", "human"):
            return int(number)
    some = ", ".join(list(names.values())[:10])
    raise InputError(source, f"finds {some}, but no class person")
