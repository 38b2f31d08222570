"""Embedders that ``kronreid export`` wrote in OpenVINO's format: ``NAME.xml`` with weights in ``NAME.bin``.

The graph is that of the ONNX file: it takes uint8 pictures, and its metadata hold the places.
"""

import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch

from kronreid.errors import InputError, one_line
from kronreid.extras import explained
from kronreid.models.onnx import SEAL, WRITER, OnnxEmbedder, own_embedder

#: Where the metadata lie in the file.
ROOT = "kronreid"


class OpenVinoSession:
    """A graph in OpenVINO with the methods of ``onnxruntime.InferenceSession`` that `OnnxNetwork` calls.

    Args:
        compiled: A compiled model.
    """

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled

    def get_inputs(self) -> list[SimpleNamespace]:
        """The inputs with their names and types."""
        return [
            SimpleNamespace(name=one.get_any_name(), type="tensor(uint8)") for one in self.compiled.inputs
        ]

    def run(self, outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs of these names."""
        results = self.compiled(inputs)
        return [results[name] for name in outputs]


def load_openvino(path: Path, device: str | None = None) -> OnnxEmbedder:
    """Open an export in OpenVINO's format as an embedder; see `kronreid.load`.

    Args:
        path: The ``.xml`` file.
        device: ``cpu``, or None.

    Raises:
        InputError: OpenVINO is not installed, a file is missing or damaged, kronreid did not write it, or
            the device is another one.
    """
    if device not in (None, "cpu"):
        raise InputError(f"device {device}", f"{path} runs in OpenVINO on the CPU; use cpu")
    with explained(str(path)):
        openvino = importlib.import_module("openvino")
    weights = path.with_suffix(".bin")
    for file in (path, weights):
        if not file.is_file():
            raise InputError(file, "no such file; an OpenVINO model is NAME.xml and NAME.bin")
    core = openvino.Core()
    # Threads as torch has them, and no bfloat16: vectors have to be those of the model.
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    try:
        model = core.read_model(str(path))
        compiled = core.compile_model(model, "CPU", options)
        card = read_card(path)
    except Exception as error:  # OpenVINO's and the XML parser's errors have no common ancestor
        raise InputError(path, f"is not an OpenVINO model, or is damaged ({one_line(error)[:200]})") from None
    if card.get("kind") != "embedder" or WRITER not in card:
        raise InputError(path, "was not exported by kronreid; load the ONNX file that it was made of instead")
    embedder, found = own_embedder(OpenVinoSession(compiled), card, path), seal(path)
    if card.get(SEAL) != found:  # it was quantised or changed: its vectors are not the model's
        embedder.fingerprint = found
    return embedder


def read_card(path: Path) -> dict[str, str]:
    """The metadata that kronreid wrote into a graph; empty without any."""
    entries = ElementTree.parse(path).getroot().iterfind(f".//{ROOT}/*")
    return {entry.tag: entry.get("value", "") for entry in entries}


def seal(path: Path) -> str:
    """A hash of a graph, its metadata and its weights, without the seal itself."""
    root = ElementTree.parse(path).getroot()
    for card in root.iterfind(f".//{ROOT}"):
        for one in card.findall(SEAL):
            card.remove(one)
    text = ElementTree.canonicalize(ElementTree.tostring(root, encoding="unicode"), strip_text=True)
    return hashlib.sha256(text.encode() + path.with_suffix(".bin").read_bytes()).hexdigest()
