"""Detectors in ONNX files: each family is recognised and read, and what is not understood is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from kronreid.cameras.detectors import named
from kronreid.cameras.detectors.onnx import open_network
from kronreid.cameras.detectors.tiles import NetworkDetector
from kronreid.errors import InputError

from .graphs import CELLS, SIZE, outputs_of, write_graph

#: Centre, width and height as shares of the input.
BOXES = np.array([[0.2, 0.3, 0.1, 0.4], [0.5, 0.6, 0.2, 0.7], [0.8, 0.4, 0.15, 0.5]])
SCORES = np.array([0.9, 0.8, 0.7])
FRAME = (80, 240)
#: How a family's outputs are recognised: its name, the class of people, the number of classes, and the fit.
CASES: dict[str, tuple[str, int, int, str]] = {
    "fastestdet": ("fastestdet", 0, 80, "stretch"),
    "yolox": ("yolox", 0, 80, "corner"),
    "yolox-decoded": ("yolox", 0, 1, "corner"),
    "yolov5": ("yolov5", 0, 80, "middle"),
    "yolov8": ("yolov8", 0, 80, "middle"),
    "end2end": ("end2end", 0, 80, "middle"),
    "end2end-7": ("end2end", 0, 80, "middle"),
    "detr": ("detr", 1, 92, "stretch"),
    "rt-detr": ("detr", 0, 80, "stretch"),
    "queries": ("queries", 0, 80, "stretch"),
    "ssd": ("ssd", 1, 81, "stretch"),
    "boxes-pixels": ("boxes", 1, 91, "stretch"),
    "tensorflow": ("boxes", 1, 91, "stretch"),
}


def in_frame(boxes: np.ndarray, fit: str, frame: tuple[int, int] = FRAME) -> np.ndarray:
    """Boxes, as shares of the input, as left, top, width and height in a frame."""
    height, width = frame
    if fit == "stretch":
        scale, pad = np.array([width, height]) / (SIZE[1], SIZE[0]), np.zeros(2)
    else:
        shrink = min(SIZE[0] / height, SIZE[1] / width)
        inner = np.round([width * shrink, height * shrink])
        scale = np.array([width, height]) / inner
        pad = (SIZE[::-1] - inner) // 2 if fit == "middle" else np.zeros(2)
    centres = (boxes[:, :2] * SIZE[::-1] - pad) * scale
    sides = boxes[:, 2:] * SIZE[::-1] * scale
    corners = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    corners = corners.clip(0, [width, height, width, height])
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


@pytest.mark.parametrize("family", CASES)
def test_each_family(tmp_path: Path, family: str) -> None:
    name, person, classes, fit = CASES[family]
    outputs = outputs_of(family, BOXES, SCORES, person, classes)
    path = write_graph(tmp_path / "a.onnx", outputs)
    network = open_network(path)
    assert (network.family.name, network.family.person, network.family.fit) == (name, person, fit)
    found = named(str(path), tiles="none")(np.zeros((*FRAME, 3), np.uint8))
    assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(found.scores, SCORES, atol=1e-3)
    np.testing.assert_allclose(found.boxes, in_frame(BOXES, fit), atol=0.6)


@pytest.mark.parametrize("family", CASES)
def test_other_classes_are_nobody(tmp_path: Path, family: str) -> None:
    _, person, classes, _ = CASES[family]
    outputs = outputs_of(family, BOXES, SCORES, person + (2 if classes > 2 else 0), max(classes, 3))
    write_graph(tmp_path / "a.onnx", outputs)
    if classes == 1:  # there is only one class
        return
    assert len(named(str(tmp_path / "a.onnx"))(np.zeros((*FRAME, 3), np.uint8))) == 0


@settings(max_examples=15)
@given(height=st.integers(20, 400), width=st.integers(20, 400), family=st.sampled_from(["yolov8", "rt-detr"]))
def test_frames_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, family: str
) -> None:
    _, person, classes, fit = CASES[family]
    path = tmp_path_factory.getbasetemp() / f"any-{family}.onnx"
    if not path.is_file():
        write_graph(path, outputs_of(family, BOXES[1:2], SCORES[1:2], person, classes))
    found = named(str(path), tiles="none")(np.zeros((height, width, 3), np.uint8))
    expected = in_frame(BOXES[1:2], fit, (height, width))
    if (expected[:, 2:] > 2).all():
        np.testing.assert_allclose(found.boxes, expected, atol=max(height, width) / 40)


def mean_of(channel: int, shape: tuple[int, ...]) -> list[Any]:
    """Nodes that make the score of a detection from the mean of one channel of the input."""
    axis = len(shape) - 3 if shape[-1] != 3 else len(shape) - 1
    return [
        helper.make_node("Constant", [], ["at"], value_ints=[channel]),
        helper.make_node("Cast", ["image"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["number", "at"], ["one"], axis=axis),
        helper.make_node("ReduceMean", ["one"], ["mean"], keepdims=0),
        helper.make_node("Constant", [], ["shape"], value_ints=[1]),
        helper.make_node("Reshape", ["mean", "shape"], ["scores"]),
    ]


@pytest.mark.parametrize(
    ("sidecar", "kind", "shape", "expected"),
    [
        ({}, TensorProto.FLOAT, (1, 3, *SIZE), 0.2),
        ({"colours": "bgr"}, TensorProto.FLOAT, (1, 3, *SIZE), 0.6),
        ({"mean": [0.1, 0, 0], "std": [0.5, 1, 1]}, TensorProto.FLOAT, (1, 3, *SIZE), 0.2),
        ({"scale": 255, "std": [255, 1, 1]}, TensorProto.FLOAT, (1, 3, *SIZE), 0.2),
        ({}, TensorProto.FLOAT, (3, *SIZE), 0.2),
        ({}, TensorProto.FLOAT16, (1, 3, *SIZE), 0.2),
        ({}, TensorProto.FLOAT, (1, *SIZE, 3), 0.2),
        ({"height": 32, "width": 64}, TensorProto.FLOAT, (1, 3, "h", "w"), 0.2),
        ({}, TensorProto.FLOAT, ("batch", 3, "h", "w"), 0.2),
    ],
)
def test_how_pictures_are_prepared(
    tmp_path: Path, sidecar: dict[str, Any], kind: int, shape: tuple[Any, ...], expected: float
) -> None:
    outputs = {
        "boxes": np.array([[0.1, 0.1, 0.9, 0.9]], np.float32),
        "labels": np.array([1]),
        "scores": np.zeros(1, np.float32),
    }
    path = write_graph(tmp_path / "a.onnx", outputs, shape, kind, nodes=mean_of(0, shape))
    if sidecar:
        (tmp_path / "a.onnx.json").write_text(json.dumps(sidecar))
    image = np.full((100, 150, 3), (51, 102, 153), np.uint8)
    found = named(str(path), threshold=0.0, tiles="none")(image)
    assert found.scores == pytest.approx([expected], abs=2e-3)


def test_inputs_beside_the_picture(tmp_path: Path) -> None:
    """RT-DETR's own export takes the size of the picture, DETR's a mask of its pixels."""
    outputs = outputs_of("boxes-pixels", BOXES, SCORES, 0, 80)
    sizes = {"orig_target_sizes": (TensorProto.INT64, (1, 2))}
    path = write_graph(tmp_path / "a.onnx", outputs, others=sizes)
    assert open_network(path).family.person == 0
    assert len(named(str(path))(np.zeros((*SIZE, 3), np.uint8))) == 3
    outputs = outputs_of("detr", BOXES, SCORES, 1, 92)
    masks = {"pixel_mask": (TensorProto.INT64, (1, *SIZE))}
    path = write_graph(tmp_path / "b.onnx", outputs, others=masks | sizes)
    assert open_network(path).family.name == "detr"


def test_maps_beside_the_boxes_are_left_out(tmp_path: Path) -> None:
    heads = {f"head{n}": np.zeros((1, 3, 8 // n, 12 // n, 85), np.float32) for n in (1, 2)}
    path = write_graph(tmp_path / "a.onnx", outputs_of("yolov5", BOXES, SCORES, 0, 80) | heads)
    assert len(named(str(path), tiles="none")(np.zeros((*SIZE, 3), np.uint8))) == 3
    masks = {"output1": np.zeros((1, 32, 16, 24), np.float32)}
    path = write_graph(tmp_path / "b.onnx", outputs_of("yolov8", BOXES, SCORES, 0, 112) | masks)
    assert len(named(str(path), tiles="none")(np.zeros((*SIZE, 3), np.uint8))) == 3


def test_the_class_of_people_from_metadata_and_sidecar(tmp_path: Path) -> None:
    outputs = outputs_of("yolov8", BOXES, SCORES, 2, 4)
    path = write_graph(tmp_path / "a.onnx", outputs, metadata={"names": "{0: 'car', 2: 'person'}"})
    assert open_network(path).family.person == 2
    assert len(named(str(path), tiles="none")(np.zeros((*SIZE, 3), np.uint8))) == 3
    (tmp_path / "a.onnx.json").write_text('{"person": 1, "fit": "stretch"}')
    network = open_network(path)
    assert (network.family.person, network.family.fit, network.family.name) == (1, "stretch", "yolov8")


def test_sources_share_a_network(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "a.onnx", outputs_of("yolov8", BOXES, SCORES, 0, 80))
    one, other = named(str(path)), named(str(path), threshold=0.9)
    assert isinstance(one, NetworkDetector)
    assert isinstance(other, NetworkDetector)
    assert one is not other
    assert one.network is other.network
    write_graph(path, outputs_of("yolov8", BOXES, SCORES, 0, 7))
    again = named(str(path))
    assert isinstance(again, NetworkDetector)
    assert again.network is not one.network, "the file was exchanged"


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        ({"out": np.zeros((1, 1000), np.float32)}, r"out \(1, 1000\)"),
        ({"out": np.zeros((1, 6), np.float32)}, r"out \(1, 6\)"),
        ({"out": np.zeros((1, 17, 3, 5, 7), np.float32)}, r"out \(1, 17, 3, 5, 7\)"),
        ({"out": np.zeros((1, 2000, 5), np.float32)}, r"out \(1, 2000, 5\)"),
        ({"a": np.zeros((1, 9), np.float32), "b": np.zeros((1, 8), np.float32)}, r"a \(1, 9\), b \(1, 8\)"),
        (
            {"boxes": np.zeros((1, 9, 4), np.float32), "more": np.zeros((1, 8, 3), np.float32)},
            r"boxes \(1, 9, 4\), more",
        ),
    ],
)
def test_outputs_that_are_not_understood(tmp_path: Path, outputs: dict[str, Any], told: str) -> None:
    path = write_graph(tmp_path / "a.onnx", outputs)
    line = rf"a\.onnx: its outputs are not understood: {told}.*; understood are FastestDet .*YOLOX.*SSD"
    with pytest.raises(InputError, match=line) as error:
        named(str(path))
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    with pytest.raises(InputError, match=r"a\.onnx: cannot be read \(No such file"):
        named(str(path))
    path.write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"a\.onnx: is not an ONNX file, or is damaged"):
        named(str(path))
    write_graph(path, {"out": np.zeros((1, 6), np.float32)}, shape=(1, 7))
    with pytest.raises(InputError, match=r"takes image tensor\(float\) \(1, 7\), but must take one picture"):
        named(str(path))
    write_graph(path, outputs_of("yolov8", BOXES, SCORES, 0, 4))
    sidecar = tmp_path / "a.onnx.json"
    for text, line in {
        "[1]": r"a\.onnx\.json: must be a JSON object with some of family, person",
        "{": r"a\.onnx\.json: is not JSON",
        '{"famly": "yolox"}': r"a\.onnx\.json: famly is unknown; did you mean family\?",
        '{"family": "ssd"}': r"a\.onnx: its outputs output0 .* are not those of ssd",
        '{"person": 4}': r"a\.onnx: its outputs .* are not those of yolov8 with people as class 4",
        '{"height": 640}': r"a\.onnx: its height is 64, not 640 as in its sidecar",
        '{"std": [0, 1, 1]}': r"a\.onnx\.json: std",
    }.items():
        sidecar.write_text(text)
        with pytest.raises(InputError, match=line):
            named(str(path))


def test_the_cells_of_the_grids() -> None:
    from kronreid.cameras.detectors.families import cells

    assert cells((640, 640)) == 8400
    assert cells((416, 416)) == 3549
    assert cells(SIZE) == CELLS
