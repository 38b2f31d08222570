"""Loading trained models from folders, ONNX files and the Hugging Face hub."""

from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from torch import nn

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError, one_line
from kronreid.models.calibration import load_calibration
from kronreid.models.folding import fold
from kronreid.models.hub import download, is_hub_id
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.onnx import OnnxOptions, load_onnx
from kronreid.models.openvino import load_openvino
from kronreid.models.pairs import PairModel
from kronreid.models.places import load_places, places_fingerprint
from kronreid.models.storage import load_folder

#: What runs the network of a model folder.
Engine: TypeAlias = Literal["auto", "torch"]


def wrap(model: nn.Module, input_options: InputOptions, fingerprint: str = "") -> Embedder | Matcher:
    """Wrap a network as a `Matcher` if it is a pair model, or as an `Embedder` if it is an embedding model.

    Args:
        model: The network.
        input_options: The size and normalisation of its input.
        fingerprint: A hash of its files.
    """
    if isinstance(model, PairModel):
        return Matcher(model, input_options, fingerprint)
    return Embedder(model, input_options, fingerprint)


def load(
    path: str | Path,
    device: str | None = None,
    folded: bool = True,
    onnx: OnnxOptions | None = None,
    engine: Engine = "auto",
) -> Embedder | Matcher:
    """Open a trained model.

    Args:
        path: A model or run folder (`config.json` and `model.safetensors`), an ``.onnx`` file, the ``.xml``
            file of an export to OpenVINO, or the id of a model folder on the Hugging Face hub: ``org/name``
            or ``org/name@revision``.
        device: The device to compute on, like ``cpu`` or ``cuda``. None takes a GPU if there is one.
        folded: Convert the network to its inference form (`kronreid.models.folding`), which gives the same
            outputs faster. Use False to inspect, train or save the network, the attribute `model`.
        onnx: The options of an ``.onnx`` file that kronreid did not export. None reads ``model.onnx.json``
            beside the file; without that file ImageNet's mean and std in RGB are taken.
        engine: ``auto`` runs a folded network on a CPU in its fast form (`kronreid.models.fusing`), ``torch``
            as the modules stand. Files of other runtimes have their own engine.

    Returns:
        A `Matcher` for a pair model, an `Embedder` otherwise.

    Raises:
        InputError: The model does not exist, or is incomplete or damaged; the message names the file. Or
            the device cannot be used, or the engine is unknown.

    Example:
        >>> embedder = kronreid.load("runs/horeid")
        >>> embedder = kronreid.load("osnet.onnx", onnx=OnnxOptions(colours="bgr"))
    """
    if engine not in get_args(Engine):
        raise InputError(f"engine {engine!r}", f"give one of {', '.join(get_args(Engine))}")
    folder = Path(path)
    if folder.suffix.lower() == ".onnx" and not folder.is_dir():
        return load_onnx(folder, onnx, device)
    if onnx is not None:
        raise InputError(path, "is not an .onnx file, so it takes no ONNX options; leave them out")
    if folder.suffix.lower() == ".xml" and not folder.is_dir():
        return load_openvino(folder, device)
    if not folder.is_dir():
        if folder.exists() or not is_hub_id(str(path)):
            raise InputError(path, "no such model folder, .onnx or .xml file, or hub id (org/name)")
        folder = download(str(path))
    tool = load_network(folder, device, folded, engine)
    if isinstance(tool, Embedder) and (places := load_places(folder, tool.fingerprint)):
        tool.places = places.to(tool.device)
    tool.calibration = load_calibration(folder, tool.fingerprint, places_fingerprint(folder))
    return tool


def load_network(
    folder: Path, device: str | None = None, folded: bool = True, engine: Engine = "auto"
) -> Embedder | Matcher:
    """Open a model folder without its places and calibration, which may be of another model; see `load`."""
    model, input_options, fingerprint = load_folder(folder)
    if folded:
        model = fold(model)
    try:
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (AssertionError, RuntimeError) as error:  # torch does not know the device, or does not have it
        raise InputError(f"device {device}", f"cannot be used ({one_line(error)})") from None
    tool = wrap(model, input_options, fingerprint)
    tool.path, tool.fast = folder.resolve(), folded and engine == "auto"
    return tool
