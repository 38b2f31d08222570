"""Detectors in ONNX files."""

import importlib
import json
import logging
import re
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import pydantic
import torch

from kronreid.cameras.detectors.families import (
    UNDERSTOOD,
    Family,
    FamilyName,
    Fit,
    Outputs,
    Triple,
    recognise,
)
from kronreid.errors import InputError, one_line
from kronreid.extras import explained
from kronreid.models.onnx import external_files
from kronreid.options import NotNegative, Positive, checked

log = logging.getLogger(__name__)

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_WHOLE = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(bool)": np.bool_,
}
#: Height and width of the input where the graph leaves them open.
USUAL_SIZE = 640
_Above0 = Annotated[float, pydantic.Field(gt=0)]
_NAMES = re.compile(r"""["']?(\d{1,4})["']?\s*:\s*["']([^"']*)["']""")
#: What a letterbox is filled with.
_GREY = 114


@dataclass(frozen=True)
class Sidecar:
    """What a detector's graph does not state: ``detector.onnx.json``. None leaves what is recognised.

    Attributes:
        family: What the outputs mean, see `kronreid.cameras.detectors.families`.
        person: The class of people, from 0.
        height, width: Size of the input, if the graph leaves it open.
        fit: How a frame is brought to that size: stretched, or scaled and put in the middle or the corner.
        colours: ``rgb`` or ``bgr``.
        scale: What a pixel of 255 becomes: 1 or 255.
        mean: Subtracted afterwards, by the network's colours.
        std: The divisor afterwards.
    """

    family: FamilyName | None = None
    person: NotNegative | None = None
    height: Positive | None = None
    width: Positive | None = None
    fit: Fit | None = None
    colours: Literal["rgb", "bgr"] | None = None
    scale: Literal[1, 255] | None = None
    mean: Triple | None = None
    std: tuple[_Above0, _Above0, _Above0] | None = None


_opened: "weakref.WeakValueDictionary[tuple[object, ...], OnnxNetwork]" = weakref.WeakValueDictionary()


def open_network(path: Path) -> "OnnxNetwork":
    """Open an ONNX file as a detection network. A file that is open already is not opened again.

    Raises:
        InputError: onnxruntime is not installed, the file or its sidecar is damaged, or its inputs or outputs
            are not understood.
    """
    beside = path.with_name(path.name + ".json")
    try:
        status = [file.stat() for file in (path, beside) if file.is_file() or file == path]
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from None
    key = (path.resolve(), *((one.st_mtime_ns, one.st_size) for one in status))
    network = _opened.get(key)
    if network is None:
        network = _opened[key] = OnnxNetwork(path, read_sidecar(beside) if beside.is_file() else Sidecar())
    return network


def read_sidecar(path: Path) -> Sidecar:
    """Read the sidecar of a detector, a JSON object with the names of `Sidecar`.

    Raises:
        InputError: It is no JSON object, or a name is unknown or a value wrong.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"is not JSON ({one_line(error)})") from None
    if not isinstance(values, dict):
        raise InputError(path, f"must be a JSON object with some of {', '.join(asdict(Sidecar()))}")
    return checked(Sidecar, values, str(path))


class OnnxNetwork:
    """A detection network in onnxruntime; see `kronreid.cameras.detectors.tiles.Network`.

    Args:
        path: The file.
        sidecar: What the graph does not state.

    Raises:
        InputError: As in `open_network`.
    """

    def __init__(self, path: Path, sidecar: Sidecar) -> None:
        self.path = path
        self.session = _session(path)
        self._read_inputs(sidecar)
        raw = self._run(np.full((*self.size, 3), _GREY, np.uint8), Family("boxes"))
        told = ", ".join(f"{name} {_dimensions(one.shape)}" for name, one in raw.items())
        outputs = _single(raw)
        family = recognise(outputs, self.size, sized=self.sized)
        if sidecar.family is not None:
            family = family if family and family.name == sidecar.family else Family(sidecar.family)
        if family is None:
            raise InputError(path, f"its outputs are not understood: {told}; understood are {UNDERSTOOD}")
        self.family = self._described(family, sidecar)
        self._check(outputs, told)
        log.info("%s: is read as %s, people are class %d", path.name, self.family.name, self.family.person)

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `kronreid.cameras.detectors.tiles.Network`."""
        (height, width), (down, across) = image.shape[:2], self.size
        if self.family.fit == "stretch":
            fitted = cv2.resize(image, (across, down), interpolation=cv2.INTER_LINEAR)
            boxes, scores = self.family.read(_single(self._run(fitted, self.family)), self.size)
            return boxes * (width, height, width, height), scores
        scale = min(down / height, across / width)
        inner = max(round(width * scale), 1), max(round(height * scale), 1)
        left, top = 0, 0
        if self.family.fit == "middle":
            left, top = (across - inner[0]) // 2, (down - inner[1]) // 2
        fitted = np.full((down, across, 3), _GREY, np.uint8)
        fitted[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner)
        boxes, scores = self.family.read(_single(self._run(fitted, self.family)), self.size)
        boxes = boxes * (across, down, across, down) - (left, top, left, top)
        return boxes * ((width / inner[0], height / inner[1]) * 2), scores

    def _read_inputs(self, sidecar: Sidecar) -> None:
        """Find the input for pictures, its layout and its size, and what else the graph takes.

        Raises:
            InputError: There is none, or another input is not understood.
        """
        inputs = self.session.get_inputs()
        pictures = [
            one for one in inputs if len(one.shape) in (3, 4) and one.type in _TYPES and 3 in one.shape[-3:]
        ]
        others = [one for one in inputs if one not in pictures[:1]]
        if not pictures or not all(_is_size(one) or _is_mask(one) for one in others):
            told = ", ".join(f"{one.name} {one.type} {_dimensions(one.shape)}" for one in inputs) or "nothing"
            raise InputError(self.path, f"takes {told}, but must take one picture (1, 3, height, width)")
        self.input, self.others = pictures[0], others
        self.sized = any(_is_size(one) for one in others)
        shape = self.input.shape[-3:]
        self.channels_last = shape[0] != 3
        sides = shape[:2] if self.channels_last else shape[1:]
        size = []
        for name, side, given in (("height", sides[0], sidecar.height), ("width", sides[1], sidecar.width)):
            known = side if isinstance(side, int) and side > 0 else None
            if known and given not in (None, known):
                raise InputError(self.path, f"its {name} is {known}, not {given} as in its sidecar")
            size.append(known or given or USUAL_SIZE)
        self.size = size[0], size[1]

    def _described(self, family: Family, sidecar: Sidecar) -> Family:
        """A family with what the graph's metadata and the sidecar say."""
        names = self.session.get_modelmeta().custom_metadata_map.get("names", "")
        if (person := _person(names)) is not None:
            family = replace(family, person=person)
        given = {name: value for name, value in asdict(sidecar).items() if value is not None}
        if "colours" in given:
            given["bgr"] = given["colours"] == "bgr"
        wanted = ("person", "fit", "bgr", "scale", "mean", "std")
        return replace(family, **{name: given[name] for name in wanted if name in given})

    def _check(self, outputs: Outputs, told: str) -> None:
        """Check that the outputs can be read as the family's.

        Raises:
            InputError: They cannot: there is no such class, or another shape.
        """
        try:
            self.family.read(outputs, self.size)
        except (IndexError, ValueError, LookupError, AssertionError) as error:
            raise InputError(
                self.path,
                f"its outputs {told} are not those of {self.family.name} with people as class "
                f"{self.family.person} ({one_line(error) or type(error).__name__})",
            ) from None

    def _run(self, image: np.ndarray, family: Family) -> dict[str, np.ndarray]:
        """The outputs for a picture (H, W, 3) uint8 RGB of the input's size."""
        pixels = image[:, :, ::-1] if family.bgr else image
        kind = _TYPES[self.input.type]
        if kind != np.uint8:
            scaled = pixels.astype(np.float32) * (family.scale / 255)
            pixels = ((scaled - family.mean) / family.std).astype(kind)
        if not self.channels_last:
            pixels = pixels.transpose(2, 0, 1)
        if len(self.input.shape) == 4:
            pixels = pixels[None]
        feeds: dict[str, np.ndarray] = {self.input.name: np.ascontiguousarray(pixels)}
        for one in self.others:
            told = [self.size[::-1]] if _is_size(one) else np.ones((1, *self.size))
            feeds[one.name] = np.array(told, _WHOLE[one.type])
        try:
            outputs = self.session.run(None, feeds)
        except Exception as error:  # onnxruntime's exceptions have no common ancestor
            raise InputError(self.path, f"onnxruntime cannot run it ({one_line(error)[:200]})") from None
        named = zip((one.name for one in self.session.get_outputs()), outputs)
        return {name: np.asarray(one) for name, one in named}


def _session(path: Path) -> Any:
    """Open a file in onnxruntime.

    Raises:
        InputError: It is no ONNX file, or names files outside its folder.
    """
    with explained(str(path)):
        onnx, runtime = importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception:  # the errors differ between protobuf's implementations
        proto = None
    if proto is None or not proto.graph.node:
        raise InputError(path, "is not an ONNX file, or is damaged")
    external_files(onnx, proto, path)
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, so they need no log
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = [one for one in ("CUDAExecutionProvider",) if one in runtime.get_available_providers()]
    try:
        return runtime.InferenceSession(str(path), options, providers=[*wanted, "CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common ancestor
        raise InputError(path, f"onnxruntime cannot run it ({one_line(error)[:200]})") from None


def _is_size(one: Any) -> bool:
    """Whether an input is the size of the picture, (1, 2)."""
    return len(one.shape) == 2 and one.shape[1] == 2 and one.type in _WHOLE


def _is_mask(one: Any) -> bool:
    """Whether an input marks the pixels that belong to the picture, (1, height, width)."""
    return len(one.shape) == 3 and "mask" in one.name and one.type in _WHOLE


def _single(outputs: Outputs) -> Outputs:
    """Outputs without the axis of the batch, if they have one: those that have it have three axes or more.

    Maps beside a table of boxes (the heads of YOLOv5, the masks of a segmentation) are left out.
    """
    if all(one.ndim < 3 for one in outputs.values()):
        return outputs
    single = {name: one[0] if one.ndim >= 2 and len(one) == 1 else one for name, one in outputs.items()}
    tables = {name: one for name, one in single.items() if one.ndim <= 2}
    return tables or single


def _person(names: str) -> int | None:
    """The class of people by the names in a graph's metadata: ``{0: 'person', 1: 'bicycle'}``."""
    for number, name in _NAMES.findall(names):
        if name.strip().lower() in ("person", "people", "pedestrian", "human"):
            return int(number)
    return None


def _dimensions(shape: Sequence[object]) -> str:
    return f"({', '.join(str(one) for one in shape)})"
