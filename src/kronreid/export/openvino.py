"""OpenVINO's format: the graph in ``NAME.xml`` and its weights in ``NAME.bin``."""

import importlib
from pathlib import Path

from kronreid.models.onnx import SEAL
from kronreid.models.openvino import ROOT, seal


def write_openvino(graph: Path, file: Path) -> list[Path]:
    """Convert an exported ONNX file, with its metadata.

    Args:
        graph: The ONNX file.
        file: Where the graph is written, a name that ends in ``.xml``.

    Returns:
        The two written files.
    """
    openvino, onnx = importlib.import_module("openvino"), importlib.import_module("onnx")
    model = openvino.Core().read_model(str(graph))
    card = {entry.key: entry.value for entry in onnx.load(str(graph)).metadata_props}
    for key, value in card.items():
        if key != SEAL:
            model.set_rt_info(value, [ROOT, key])
    openvino.save_model(model, str(file), compress_to_fp16=False)
    if SEAL in card:  # the vectors are the model's
        model.set_rt_info(seal(file), [ROOT, SEAL])
        openvino.save_model(model, str(file), compress_to_fp16=False)
    return [file, file.with_suffix(".bin")]
