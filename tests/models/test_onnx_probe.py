"""Graphs that look like embedders: those that are none are refused for their reason, sound ones are taken."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnxruntime import quantization

from kronreid.data.transforms import InputOptions, normalise
from kronreid.errors import InputError
from kronreid.models.loading import load
from kronreid.models.onnx import OnnxEmbedder
from kronreid.models.onnx_probe import padded, probe_pictures

HEIGHT, WIDTH, D = 48, 24, 8
RANDOM = np.random.default_rng(3)
NUMBERS: dict[str, np.ndarray] = {
    "kernel": RANDOM.normal(size=(D, 3, 3, 3)).astype(np.float32),
    "head": RANDOM.normal(size=(D, D)).astype(np.float32),
    "bias": RANDOM.normal(size=D).astype(np.float32),
    "ones": np.ones(D, np.float32),
    "zeros": np.zeros(D, np.float32),
    "zero": np.float32(0),
    "half": np.float32(0.5),
    "nan": np.float32("nan"),
    "big": np.float32(1e38),
    "true": np.array(True),
    "none": np.array([0], np.int64),
    "one row": np.array([1, -1], np.int64),
    "one picture": np.array([1, D], np.int64),
    "two rows": np.array([2, -1], np.int64),
    "rows": np.array([0, D], np.int64),
}


def node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs, [output], **attributes)


def norm(inputs: str, output: str, training: int) -> NodeProto:
    """Batch normalisation with the running statistics of a network that has learned nothing."""
    outputs = [output, f"{output} mean", f"{output} var"] if training else [output]
    names = [inputs, "ones", "zeros", "zeros", "ones"]
    return helper.make_node("BatchNormalization", names, outputs, training_mode=training)


#: From pictures to the map "c" (N, D, h, w), and from the map "m" to the vector "v" (N, D).
STEM = [node("Conv", ["images", "kernel", "bias"], "c", pads=[1, 1, 1, 1], strides=[2, 2])]
POOL = [node("Relu", ["m"], "r"), node("GlobalAveragePool", ["r"], "p"), node("Flatten", ["p"], "v")]
SAME_MAP = [node("Identity", ["c"], "m")]


def write(
    path: Path, between: Sequence[NodeProto], behind: Sequence[NodeProto], batch: int | str = "n"
) -> Path:
    """A graph that does something with the map ("c" to "m") and with the vector ("v" to "out")."""
    nodes = [*STEM, *(between or SAME_MAP), *POOL, *(behind or [node("Identity", ["v"], "out")])]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, HEIGHT, WIDTH])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    used = {name for one in nodes for name in one.input}
    numbers = [numpy_helper.from_array(NUMBERS[name], name) for name in NUMBERS if name in used]
    graph = helper.make_graph(nodes, "tiny", [images], [out], numbers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


MIXED = "alone and in a batch: pictures of a batch influence each other"
TRAINED = r"it was exported in training mode \({}\); export it after model.eval\(\)"
TIMES = "the same picture gives different vectors each time: "

#: What lies between map and pooling, what behind the vector, and what is said of it.
REFUSED: dict[str, tuple[list[NodeProto], list[NodeProto], str]] = {
    # onnxruntime normalises by statistics that each run changes.
    "batch normalisation of maps": ([norm("c", "m", 1)], [], TIMES + TRAINED.format("BatchNormalization")),
    "batch normalisation": ([], [norm("v", "out", 1)], TIMES + TRAINED.format("BatchNormalization")),
    "dropout": ([], [node("Dropout", ["v", "half", "true"], "out")], TIMES + TRAINED.format("Dropout")),
    "dropout with a seed": (
        [],
        [node("Dropout", ["v", "half", "true"], "out", seed=3)],
        TRAINED.format("Dropout"),
    ),
    "noise": (
        [],
        [node("RandomNormalLike", ["v"], "noise"), node("Add", ["v", "noise"], "out")],
        rf"{TIMES}it draws random numbers \(RandomNormalLike\)",
    ),
    "noise with a seed": (
        [],
        [node("RandomUniform", [], "noise", shape=[D], seed=2.0), node("Mul", ["v", "noise"], "out")],
        r"random numbers \(RandomUniform\)",
    ),
    "a random choice": (
        [],
        [
            node("Sigmoid", ["v"], "s"),
            node("Bernoulli", ["s"], "b"),
            node("Add", ["v", "b"], "out"),
        ],
        r"random numbers \(Bernoulli\)",
    ),
    "a batch's mean": (
        [],
        [node("ReduceMean", ["v"], "mean", axes=[0]), node("Sub", ["v", "mean"], "out")],
        MIXED,
    ),
    "a batch's statistics": (
        [
            node("ReduceMean", ["c"], "mean", axes=[0, 2, 3]),
            node("Sub", ["c", "mean"], "d"),
            node("ReduceL2", ["d"], "length", axes=[0, 2, 3]),
            node("Div", ["d", "length"], "m"),
        ],
        [],
        MIXED,
    ),
    "a batch's maximum": (
        [],
        [node("ReduceMax", ["v"], "most", axes=[0]), node("Div", ["v", "most"], "out")],
        MIXED,
    ),
    "a softmax over the batch": ([], [node("Softmax", ["v"], "out", axis=0)], MIXED),
    "sums of the pictures so far": ([], [node("CumSum", ["v", "none"], "out")], MIXED),
    "the first picture of the batch": (
        [],
        [node("Gather", ["v", "none"], "first", axis=0), node("Add", ["v", "first"], "out")],
        MIXED,
    ),
    "a constant": (
        [],
        [node("Mul", ["v", "zero"], "z"), node("Add", ["z", "bias"], "out")],
        "out is the same for different pictures",
    ),
    "zeros": ([], [node("Mul", ["v", "zero"], "out")], "out is all zeros for a normal picture"),
    "no numbers": ([], [node("Mul", ["v", "nan"], "out")], "out holds NaN or infinity for a normal picture"),
    "too large numbers": (
        [],
        [node("Add", ["v", "big"], "w"), node("Mul", ["w", "big"], "out")],
        "NaN or infinity",
    ),
    "two pictures built in": (
        [],
        [node("Reshape", ["v", "two rows"], "out")],
        "takes two pictures but not one",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_graphs_that_are_no_embedders(kind: str, tmp_path: Path) -> None:
    between, behind, reason = REFUSED[kind]
    path = write(tmp_path / "net.onnx", between, behind)
    with pytest.raises(InputError, match=reason) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


FIXED = [kind for kind in REFUSED if kind != "two pictures built in"]


@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("kind", FIXED)
def test_the_same_with_a_fixed_batch(kind: str, batch: int, tmp_path: Path) -> None:
    between, behind, reason = REFUSED[kind]
    with pytest.raises(InputError, match=reason):
        load(write(tmp_path / "net.onnx", between, behind, batch))


@pytest.mark.parametrize("kind", ["batch normalisation of maps", "batch normalisation", "dropout"])
def test_training_mode_shows_with_a_batch_of_one_too(kind: str, tmp_path: Path) -> None:
    between, behind, reason = REFUSED[kind]
    with pytest.raises(InputError, match=reason):
        load(write(tmp_path / "net.onnx", between, behind, 1))


#: Graphs that take any pictures at once, and give each its vector.
SOUND: dict[str, tuple[list[NodeProto], list[NodeProto]]] = {
    "nothing more": ([], []),
    "batch normalisation": ([norm("c", "m", 0)], [norm("v", "out", 0)]),
    "dropout": ([node("Dropout", ["c", "half"], "m")], []),
    # onnxruntime leaves it out where its mask is not used.
    "dropout in training mode inside": ([node("Dropout", ["c", "half", "true"], "m")], []),
    "instance normalisation": ([node("InstanceNormalization", ["c", "ones", "bias"], "m")], []),
    "layer normalisation": ([], [node("LayerNormalization", ["v", "ones"], "out")]),
    "lengths of one": ([], [node("LpNormalization", ["v"], "out", axis=1)]),
    "a last layer": ([], [node("MatMul", ["v", "head"], "out")]),
    "four axes": ([], [node("Unsqueeze", ["v", "behind"], "out")]),
}
NUMBERS["behind"] = np.array([2, 3], np.int64)


def every_size(embedder: OnnxEmbedder, paths: list[Path]) -> list[np.ndarray]:
    """The same pictures in runs of several sizes, and in another order."""
    vectors = [embedder.embed(paths, batch_size=size) for size in (1, 3, 64)]
    return [*vectors, embedder.embed(paths[::-1])[::-1]]


@pytest.mark.parametrize("batch", ["n", 1, 3])
@pytest.mark.parametrize("kind", SOUND)
def test_sound_graphs(kind: str, batch: int | str, tmp_path: Path, paths: list[Path]) -> None:
    embedder = load(write(tmp_path / "net.onnx", *SOUND[kind], batch))
    assert isinstance(embedder, OnnxEmbedder)
    assert not embedder.model.alone
    expected, *others = every_size(embedder, paths)
    for vectors in others:
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


#: Graphs that give a picture its vector as long as it comes alone.
ALONE: dict[str, list[NodeProto]] = {
    "one row": [node("Reshape", ["v", "one row"], "out")],
    "one picture": [node("Reshape", ["v", "one picture"], "out")],
    "the first picture": [node("Gather", ["v", "none"], "out", axis=0)],
}


@pytest.mark.parametrize("kind", ALONE)
def test_graphs_that_take_one_picture_at_a_time(
    kind: str, tmp_path: Path, paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="kronreid"):
        embedder = load(write(tmp_path / "net.onnx", [], ALONE[kind]))
    assert [line for line in caplog.messages if "one picture at a time" in line]
    assert isinstance(embedder, OnnxEmbedder)
    assert embedder.model.alone
    expected = load(write(tmp_path / "plain.onnx", [], [])).embed(paths)
    for vectors in every_size(embedder, paths):
        np.testing.assert_allclose(vectors, expected, atol=1e-5)


class Calibration(quantization.CalibrationDataReader):
    """The probe pictures as a graph with this batch takes them."""

    def __init__(self, batch: int) -> None:
        size = InputOptions(HEIGHT, WIDTH)
        pictures = normalise(probe_pictures(HEIGHT, WIDTH), size).numpy()
        self.left = [{"images": np.repeat(picture[None], batch, axis=0)} for picture in pictures]

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        return self.left.pop() if self.left else None


LAST_LAYER = [node("MatMul", ["v", "head"], "out")]


@pytest.mark.parametrize("batch", ["n", 4])
@pytest.mark.parametrize("way", ["dynamic", "static"])
def test_quantised_graphs(
    way: str, batch: int | str, tmp_path: Path, paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Dynamic quantisation takes the range of a whole batch, so that its pictures change each other."""
    plain, path = write(tmp_path / "plain.onnx", [], LAST_LAYER, batch), tmp_path / "net.onnx"
    if way == "dynamic":
        quantization.quantize_dynamic(plain, path)
    else:
        quantization.quantize_static(str(plain), str(path), Calibration(4 if batch == 4 else 1))
    with caplog.at_level(logging.INFO, logger="kronreid"):
        embedder = load(path)
    assert isinstance(embedder, OnnxEmbedder)
    assert embedder.model.alone == (way == "dynamic")
    assert any("gets one at a time" in line for line in caplog.messages) == (way == "dynamic")
    first, *others = every_size(embedder, paths)
    for vectors in others:
        np.testing.assert_allclose(vectors, first, atol=1e-6)
    assert (first * load(plain).embed(paths)).sum(1).min() > 0.95


def test_half_precision(tmp_path: Path, paths: list[Path]) -> None:
    plain = write(tmp_path / "plain.onnx", [], [node("MatMul", ["v", "head"], "out")])
    model = onnx.load(plain)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, tmp_path / "net.onnx")
    embedder = load(tmp_path / "net.onnx")
    assert isinstance(embedder, OnnxEmbedder)
    assert not embedder.model.alone
    np.testing.assert_allclose(embedder.embed(paths), load(plain).embed(paths), atol=1e-2)


def test_the_probe_pictures_are_different_and_the_same_each_time() -> None:
    pictures = probe_pictures(HEIGHT, WIDTH)
    assert pictures.shape == (2, 3, HEIGHT, WIDTH)
    np.testing.assert_array_equal(pictures, probe_pictures(HEIGHT, WIDTH))
    dark, bright = (picture.float() for picture in pictures)
    assert bright.mean() > 2 * dark.mean()
    assert bright.std() > 2 * dark.std()


def test_padding() -> None:
    pixels = np.ones((2, 3, 4, 5), np.float16)
    assert padded(pixels, None).shape == padded(pixels, 2).shape == pixels.shape
    filled = padded(pixels, 5)
    assert (filled.shape, filled.dtype) == ((5, 3, 4, 5), np.float16)
    assert (filled[:2] == 1).all()
    assert not filled[2:].any()
