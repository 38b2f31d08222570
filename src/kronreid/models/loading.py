"""Opening a trained model, whatever it is kept in."""

from pathlib import Path

import torch
from torch import nn

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError, one_line
from kronreid.models.calibration import load_calibration
from kronreid.models.folding import fold
from kronreid.models.hub import download, is_hub_id
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.onnx import OnnxOptions, load_onnx
from kronreid.models.pairs import PairModel
from kronreid.models.places import load_places, places_fingerprint
from kronreid.models.storage import load_folder


def wrap(model: nn.Module, input_options: InputOptions, fingerprint: str = "") -> Embedder | Matcher:
    """A network with the face that fits it: a pair model's or an embedding model's."""
    if isinstance(model, PairModel):
        return Matcher(model, input_options, fingerprint)
    return Embedder(model, input_options, fingerprint)


def load(
    path: str | Path, device: str | None = None, folded: bool = True, onnx: OnnxOptions | None = None
) -> Embedder | Matcher:
    """Open a trained model.

    Args:
        path: A model or run folder (`config.json` and `model.safetensors`), an ``.onnx`` file, or the id of
            a model folder on the Hugging Face hub: ``org/name`` or ``org/name@revision``.
        device: Where it computes; None takes a GPU if there is one.
        folded: Give the network its inference form (`kronreid.models.folding`): the same answers, sooner.
            Switch it off to look at, train or save the network itself, the attribute `model`.
        onnx: What the graph of someone else's ``.onnx`` file does not say; None reads ``model.onnx.json``
            beside it, and takes ImageNet's mean and std in RGB where there is none.

    Raises:
        InputError: There is no such model, or it is incomplete or damaged; the message names the file. Or
            there is no such device.

    Example:
        >>> embedder = kronreid.load("runs/horeid")
        >>> embedder = kronreid.load("osnet.onnx", onnx=OnnxOptions(colours="bgr"))
    """
    folder = Path(path)
    if folder.suffix.lower() == ".onnx" and not folder.is_dir():
        return load_onnx(folder, onnx, device)
    if onnx is not None:
        raise InputError(path, "is no .onnx file: it knows its own mean, std and outputs")
    if not folder.is_dir():
        if folder.exists() or not is_hub_id(str(path)):
            raise InputError(path, "no such model folder, and no .onnx file or hub id (org/name)")
        folder = download(str(path))
    model, input_options, fingerprint = load_folder(folder)
    if folded:
        model = fold(model)
    try:
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (AssertionError, RuntimeError) as error:  # no such kind of device, or none of it here
        raise InputError(f"device {device}", f"cannot be used ({one_line(error)})") from None
    tool = wrap(model, input_options, fingerprint)
    tool.path = folder.resolve()
    if isinstance(tool, Embedder) and (places := load_places(folder, fingerprint)):
        tool.places = places.to(tool.device)
    tool.calibration = load_calibration(folder, fingerprint, places_fingerprint(folder))
    return tool
