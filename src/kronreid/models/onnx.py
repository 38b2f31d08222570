"""Embedders in ONNX files, run by onnxruntime: kronreid's own exports and other re-identification networks.

An ONNX graph states the size of its input picture, but not how to normalise the picture. Files exported by
kronreid take uint8 pictures and hold everything else in their metadata (`kronreid.export`). For other files
the sidecar file ``model.onnx.json`` beside ``model.onnx``, or `OnnxOptions`, states it (docs/export.md).
"""

import base64
import copy
import dataclasses
import hashlib
import importlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from kronreid.data.transforms import InputOptions, normalise
from kronreid.errors import InputError, one_line
from kronreid.extras import explained
from kronreid.models.embedding import Embedding
from kronreid.models.inference import Embedder
from kronreid.models.onnx_probe import Behaviour, Probe, first_line, padded, probe_pictures, shape_text
from kronreid.models.places import PlaceMatching, places_from_bytes, places_to_bytes
from kronreid.options import checked

log = logging.getLogger(__name__)

_IMAGENET = InputOptions()

Triple: TypeAlias = tuple[float, float, float]

#: The types that an input picture may have, by onnxruntime's names.
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}

#: Metadata keys of kronreid's own files: the version that wrote the file, a hash of all the rest, and the
#: places.
WRITER, SEAL, PLACES_CARD = "kronreid_version", "seal", "places"


@dataclasses.dataclass(frozen=True)
class OnnxOptions:
    """What a network expects of its input but its graph does not state. The sidecar file has the same names.

    A channel enters the network as (scale · p − mean) / std, where p is the pixel's value, 0 to 1.

    Attributes:
        mean: Mean per channel, in the network's order of channels. By default ImageNet's, or none at scale
            255.
        std: Standard deviation per channel, positive. Give both mean and std, or neither.
        scale: Value of white before mean and std: 1 or 255.
        colours: The network's order of channels, "rgb" or "bgr".
        height: Input height in pixels, if the graph leaves it open.
        width: Input width in pixels, if the graph leaves it open.
        output: Name of the output with the vectors, if several outputs could be it.

    Raises:
        InputError: A value is out of range, or only one of mean and std is given.
    """

    mean: Triple | None = None
    std: Triple | None = None
    scale: Literal[1, 255] = 1
    colours: Literal["rgb", "bgr"] = "rgb"
    height: int | None = None
    width: int | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise InputError("mean and std", "they go together; give both or neither")
        if self.mean is not None and self.std is not None:
            finite = all(map(math.isfinite, (*self.mean, *self.std)))
            if len(self.mean) != 3 or len(self.std) != 3 or not finite or min(self.std) <= 0:
                raise InputError(
                    f"mean {self.mean} and std {self.std}", "give three finite numbers each, std above 0"
                )
        if self.scale not in (1, 255) or self.colours not in ("rgb", "bgr"):
            raise InputError(
                f"scale {self.scale} and colours {self.colours!r}",
                "scale must be 1 or 255, colours 'rgb' or 'bgr'",
            )


class OnnxNetwork(nn.Module):
    """A graph in onnxruntime with the interface of a torch network.

    Args:
        path: The file, for messages.
        session: An ``onnxruntime.InferenceSession``.
        batch: Pictures per run if the graph fixes it, otherwise None.
        behaviour: Which output holds the vectors, and how the graph is run.
        reverse: Convert pictures from RGB to BGR.
        maps: The outputs that are maps whose places can be matched, by their names in `Embedding.maps`.
    """

    def __init__(
        self,
        path: Path,
        session: Any,
        batch: int | None,
        behaviour: Behaviour,
        reverse: bool,
        maps: dict[str, str],
    ) -> None:
        super().__init__()
        self.maps = maps
        self.path, self.session = path, session
        self.batch, self.alone, self.reverse = batch, behaviour.alone, reverse
        self.output, self.dimension = behaviour.output, behaviour.dimension
        self.input = session.get_inputs()[0].name
        self.dtype = _TYPES[session.get_inputs()[0].type]

    def forward(self, images: Tensor) -> Embedding:
        """Embed RGB pictures (N, 3, H, W), uint8 or normalised as the graph expects them.

        Returns:
            The embedding, whose descriptor is (N, dimension) float32, not yet normalised.

        Raises:
            InputError: A vector is not finite.
        """
        if self.reverse:
            images = images.flip(1)
        pixels = np.ascontiguousarray(images.numpy(), dtype=self.dtype)
        size = 1 if self.alone else self.batch or max(len(pixels), 1)
        if not len(pixels):
            return Embedding(torch.empty(0, self.dimension), {})
        starts = range(0, len(pixels), size)
        parts = list(zip(*(self._run(pixels[start : start + size]) for start in starts)))
        vectors, *maps = (np.concatenate(part) for part in parts)
        vectors = vectors.reshape(len(pixels), self.dimension)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise InputError(
                self.path,
                f"output {self.output} holds NaN or infinity for {len(bad)} of {len(vectors)} "
                "pictures; the network is damaged, or expects another mean, std or scale",
            )
        named = {name: torch.from_numpy(values) for name, values in zip(self.maps, maps)}
        return Embedding(torch.from_numpy(vectors), {}, maps=named)

    def _run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Run the graph once, for vectors and maps. Empty pictures fill up a larger fixed batch."""
        filled = padded(pixels, self.batch)
        outputs = self.session.run([self.output, *self.maps.values()], {self.input: filled})
        return [values[: len(pixels)].astype(np.float32) for values in outputs]


class OnnxEmbedder(Embedder):
    """An `Embedder` whose network is a graph in onnxruntime, or in another runtime with the same interface.

    The runtime manages the GPU, so `device` is the CPU.
    """

    model: OnnxNetwork
    per_pass = None

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def batch(self, pixels: Sequence[Tensor]) -> Tensor:
        """Stack the results of `pixels` to a batch (N, 3, H, W), uint8 if the graph itself normalises."""
        stacked = torch.stack(list(pixels))
        return stacked if self.model.dtype == np.uint8 else normalise(stacked, self.input)


def load_onnx(path: Path, options: OnnxOptions | None = None, device: str | None = None) -> OnnxEmbedder:
    """Open an ONNX file as an embedder; see `kronreid.load`.

    Args:
        path: The file.
        options: What its graph does not state; None reads the sidecar file, if there is one.
        device: ``cpu`` or ``cuda``; None takes the GPU if onnxruntime can use one.

    Raises:
        InputError: onnxruntime is not installed, the file or its sidecar is damaged, the graph takes no
            picture, or several outputs could hold the vectors.
    """
    onnx, runtime = _modules(path)
    content = _read(path)
    proto = _parse(onnx, content, path)
    data = external_files(onnx, proto, path)
    card = {entry.key: entry.value for entry in proto.metadata_props}
    own = WRITER in card
    sidecar = path.with_name(path.name + ".json")
    source = "the options" if options is not None else sidecar.name
    if options is None and sidecar.is_file():
        options = read_sidecar(sidecar)
    if own:
        if options is not None:
            raise InputError(path, f"is an export of kronreid, which needs no options; remove {source}")
        if card.get("kind") == "scorer":
            raise InputError(
                path, "scores pairs of maps and takes no pictures; load the file that was exported with it"
            )
        options = OnnxOptions(output=card.get("output"))
    options = options or OnnxOptions()
    session = _session(runtime, path, device)
    size = _size(session, path, sidecar, options)
    raw = session.get_inputs()[0].type == "tensor(uint8)"
    if own and not raw:
        raise InputError(
            path, "was changed after its export and no longer takes uint8 pictures; export it again"
        )
    try:
        input_options = InputOptions(*size, *_normalisation(path, options, raw))
    except InputError as error:
        raise error.within(path) from None
    places = read_places_card(card, path) if own else None
    maps = dict(zip(places.options.levels, places_outputs(places))) if places is not None else {}
    network = _network(onnx, proto, session, path, sidecar, input_options, options, maps)
    if not raw and options.mean is None and options.scale == 1:
        log.info(
            "%s: mean and std are not given; using ImageNet's and %s; %s can override this",
            path.name,
            options.colours.upper(),
            sidecar.name,
        )
    digest = hashlib.sha256(content)
    for file in data:
        digest.update(_read(file))
    digest.update(repr((input_options, options.colours, network.output)).encode())
    fingerprint = digest.hexdigest()
    if own and card.get("fingerprint") and card.get(SEAL) == seal(proto):
        fingerprint = card["fingerprint"]  # the exported model's: the graph gives the same vectors
    embedder = OnnxEmbedder(network, input_options, fingerprint)
    embedder.path = path.resolve()
    embedder.places = places
    return embedder


def own_embedder(session: Any, card: dict[str, str], path: Path) -> OnnxEmbedder:
    """The embedder in an export of kronreid for another runtime than onnxruntime.

    Args:
        session: The graph, with `onnxruntime.InferenceSession`'s methods ``get_inputs`` and ``run``.
        card: The file's metadata.
        path: The file.
    """
    places = read_places_card(card, path)
    maps = dict(zip(places.options.levels, places_outputs(places))) if places is not None else {}
    behaviour = Behaviour(card["output"], int(card["dimension"]), alone=False)
    network = OnnxNetwork(path, session, None, behaviour, False, maps)
    size = InputOptions(int(card["height"]), int(card["width"]))
    embedder = OnnxEmbedder(network, size, card["fingerprint"])
    embedder.path, embedder.places = path.resolve(), places
    return embedder


def places_outputs(places: PlaceMatching) -> list[str]:
    """What the outputs of an exported graph that are projected maps are called, level by level."""
    return [f"places_{number}" for number in range(1, len(places.options.levels) + 1)]


def places_card(places: PlaceMatching, fingerprint: str) -> str:
    """The place matching of an exported embedder, for the metadata of its graph.

    The graph projects the maps itself. What is left for the places of its outputs is the identity.
    """
    bare = copy.deepcopy(places).cpu()
    for projection in bare.projections:
        projection.data = torch.eye(projection.shape[1])
    bare.sizes = [(p.shape[1], *size[1:]) for p, size in zip(bare.projections, bare.sizes)]
    return base64.b64encode(places_to_bytes(bare, fingerprint)).decode()


def read_places_card(card: dict[str, str], path: Path) -> PlaceMatching | None:
    """What `places_card` wrote; None without places."""
    if PLACES_CARD not in card:
        return None
    content = base64.b64decode(card[PLACES_CARD], validate=False)
    return places_from_bytes(content, card.get("fingerprint", ""), path)


def seal(proto: Any) -> str:
    """A hash of a ModelProto and its metadata, without the seal itself.

    A file with a valid seal gives the same vectors as the model it was exported from, so it shares the
    model's fingerprint. A file that was quantised or edited since does not.
    """
    bare = type(proto)()
    bare.CopyFrom(proto)
    card = {entry.key: entry.value for entry in bare.metadata_props if entry.key != SEAL}
    del bare.metadata_props[:]
    text = json.dumps(card, sort_keys=True).encode()
    return hashlib.sha256(bare.SerializeToString(deterministic=True) + text).hexdigest()


def read_sidecar(path: Path) -> OnnxOptions:
    """Read ``model.onnx.json``, a JSON object with the names of `OnnxOptions`.

    Raises:
        InputError: The file is not a JSON object, or a name is unknown or a value wrong.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"is not JSON ({one_line(error)})") from None
    names = [field.name for field in dataclasses.fields(OnnxOptions)]
    if not isinstance(values, dict):
        raise InputError(path, f"must be a JSON object with some of {', '.join(names)}")
    if unknown := sorted(values.keys() - set(names)):
        raise InputError(path, f"{unknown[0]!r} is unknown; one of {', '.join(names)}")
    return checked(OnnxOptions, values, str(path))


def external_files(onnx: Any, proto: Any, path: Path) -> list[Path]:
    """The files beside a model that hold its large tensors.

    Raises:
        InputError: A file is missing, or lies outside the model's folder and is therefore not opened.
    """
    folder, files = path.resolve().parent, set()
    for tensor in _parts(proto, onnx.TensorProto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        file = folder / location
        if not location or Path(location).name != location or file.resolve().parent != folder:
            raise InputError(
                path, f"refers to the file {location!r}, but may only use files in its own folder"
            )
        if not file.is_file():
            raise InputError(path, f"its weights are in {location}, which is missing beside it")
        files.add(file)
    return sorted(files)


def _parts(message: Any, kind: type) -> Iterator[Any]:
    """All messages of one kind in a model, including those in subgraphs, attributes and functions."""
    if isinstance(message, kind):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _parts(inner, kind)


def _modules(path: Path) -> tuple[Any, Any]:
    """The packages onnx and onnxruntime."""
    with explained(str(path)):
        return importlib.import_module("onnx"), importlib.import_module("onnxruntime")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from None


def _parse(onnx: Any, content: bytes, path: Path) -> Any:
    try:
        proto = onnx.load_model_from_string(content)
    except Exception:  # the errors differ between protobuf's implementations
        proto = None
    if proto is None or not proto.graph.node:
        raise InputError(path, "is not an ONNX file, or is damaged")
    return proto


def _session(runtime: Any, path: Path, device: str | None) -> Any:
    """Open the file in onnxruntime, with as many threads as torch uses."""
    cuda = "CUDAExecutionProvider"
    if device is None:
        device = "cuda" if cuda in runtime.get_available_providers() else "cpu"
    elif device != "cpu" and (device != "cuda" or cuda not in runtime.get_available_providers()):
        raise InputError(path, f"device {device!r}; use 'cpu', or 'cuda' with onnxruntime-gpu installed")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, so they need no log
    options.intra_op_num_threads = torch.get_num_threads()
    # Spinning threads would take the cores from the threads that decode pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [cuda, "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    try:
        return runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions have no common ancestor
        raise InputError(path, f"onnxruntime cannot run it ({first_line(error)})") from None


def _size(session: Any, path: Path, sidecar: Path, options: OnnxOptions) -> tuple[int, int]:
    """Height and width of the picture that the graph takes."""
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 and inputs[0].type in _TYPES else []
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        told = ", ".join(f"{one.name} {one.type} {shape_text(one.shape)}" for one in inputs) or "nothing"
        raise InputError(path, f"takes {told}, but must take one picture input (N, 3, height, width)")
    size = []
    for name, known, given in (("height", shape[2], options.height), ("width", shape[3], options.width)):
        if isinstance(known, int) and given not in (None, known):
            raise InputError(path, f"its {name} is {known}, not {given} as in {sidecar.name} or the options")
        number = known if isinstance(known, int) else given
        if number is None:
            raise InputError(path, f"its graph leaves the {name} open; set it in {sidecar.name}")
        size.append(number)
    return size[0], size[1]


def _normalisation(path: Path, options: OnnxOptions, raw: bool) -> tuple[Triple, Triple]:
    """Mean and std in RGB for pixel values 0 to 1. A graph that takes uint8 pictures does not use them."""
    if raw and (options.mean is not None or options.scale != 1):
        raise InputError(path, "takes uint8 pictures and does not use mean, std and scale; leave them out")
    if options.mean is not None and options.std is not None:
        mean, std = options.mean, options.std
    elif raw or options.scale == 255:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    else:
        return _IMAGENET.mean, _IMAGENET.std
    order = (2, 1, 0) if options.colours == "bgr" else (0, 1, 2)
    in_rgb = [tuple(values[channel] / options.scale for channel in order) for values in (mean, std)]
    return cast(tuple[Triple, Triple], tuple(in_rgb))


def _network(
    onnx: Any,
    proto: Any,
    session: Any,
    path: Path,
    sidecar: Path,
    size: InputOptions,
    options: OnnxOptions,
    maps: dict[str, str],
) -> OnnxNetwork:
    """The graph as a network. Running it on probe pictures shows how it must be run."""
    one = session.get_inputs()[0]
    batch = one.shape[0] if isinstance(one.shape[0], int) else None
    reverse = options.colours == "bgr"
    kind = _TYPES[one.type]
    pictures = probe_pictures(size.height, size.width)
    images = pictures if kind == np.uint8 else normalise(pictures, size)
    pixels = np.ascontiguousarray((images.flip(1) if reverse else images).numpy(), dtype=kind)
    probe = Probe(path, session, _parts(proto, onnx.NodeProto), pixels, batch)
    return OnnxNetwork(path, session, batch, probe.behaviour(options.output, sidecar.name), reverse, maps)
