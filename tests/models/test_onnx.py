"""Networks of others in ONNX: each way of wanting a picture gives the vectors of a computation by hand."""

import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from kronreid.data.images import open_rgb
from kronreid.data.transforms import InputOptions, resize, to_tensor
from kronreid.errors import InputError
from kronreid.models.loading import load
from kronreid.models.onnx import OnnxEmbedder, OnnxOptions

HEIGHT, WIDTH, D = 48, 24, 6
TYPES = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}

rng = np.random.default_rng(5)
WEIGHT = rng.normal(size=(D, 3, 3, 3)).astype(np.float32)
BIAS = rng.normal(size=D).astype(np.float32)


def tiny(
    path: Path,
    shape: tuple[int | str, ...] = ("n", 3, HEIGHT, WIDTH),
    kind: str = "float",
    flat: bool = True,
    factor: float = 1.0,
    heads: int = 1,
    pictures: int | None = None,
    inputs: int = 1,
) -> Path:
    """A graph of a convolution, ReLU and average pooling.

    `pictures` builds a number of pictures into it, `flat` ends in (N, D) instead of (N, D, 1, 1), `factor`
    multiplies the vectors, and each further head gives twice the vectors of the one before.
    """
    half = kind == "float16"
    number = np.float16 if half else np.float32
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TYPES["float16" if half else "float"]),
        helper.make_node("Conv", ["x", "weight", "bias"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Reshape", ["p", "shape"], ["v"]),
    ]
    target = [pictures or 0, D] if flat else [pictures or 0, D, 1, 1]
    constants = {
        "weight": WEIGHT.astype(number),
        "bias": BIAS.astype(number),
        "shape": np.array(target, np.int64),
    }
    outputs = []
    for head in range(heads):
        constants[f"factor{head}"] = np.array(factor * 2**head, number)
        nodes.append(helper.make_node("Mul", ["v", f"factor{head}"], [f"out{head}"]))
        outputs.append(
            helper.make_tensor_value_info(f"out{head}", TYPES["float16" if half else "float"], None)
        )
    names = ["images", *(f"more{i}" for i in range(1, inputs))]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TYPES[kind], list(shape)) for name in names],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def by_hand(
    paths: list[Path],
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    std: tuple[float, ...] = (0.229, 0.224, 0.225),
    scale: float = 1,
    bgr: bool = False,
) -> np.ndarray:
    """What the graph of `tiny` should give."""
    size = InputOptions(HEIGHT, WIDTH)
    vectors = []
    for path in paths:
        image = resize(to_tensor(open_rgb(path)), size).permute(1, 2, 0).numpy() / 255
        if bgr:
            image = image[:, :, ::-1]
        image = (scale * image - np.array(mean)) / np.array(std)
        x = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
        y = F.conv2d(x, torch.from_numpy(WEIGHT).double(), torch.from_numpy(BIAS).double(), 2, 1)
        vectors.append(F.normalize(y.relu().mean((2, 3)))[0].numpy())
    return np.stack(vectors)


def sidecar(path: Path, **values: Any) -> Path:
    Path(f"{path}.json").write_text(json.dumps(values))
    return path


def test_imagenet_is_taken_and_said(
    tmp_path: Path, paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    file = tiny(tmp_path / "net.onnx")
    with caplog.at_level(logging.INFO, logger="kronreid"):
        embedder = load(file)
    assert len(caplog.messages) == 1
    assert "ImageNet" in caplog.messages[0]
    assert "net.onnx.json" in caplog.messages[0]
    assert isinstance(embedder, OnnxEmbedder)
    assert (embedder.height, embedder.width, embedder.dimension) == (HEIGHT, WIDTH, D)
    assert embedder.path == file
    vectors = embedder.embed(paths, batch_size=3)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, by_hand(paths), atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    np.testing.assert_allclose(embedder.embed(Image.open(paths[2])), vectors[2:3], atol=1e-5)
    assert embedder.embed([]).shape == (0, D)
    with pytest.raises(InputError, match="parts"):
        embedder.part_maps(paths[0])


MEAN, STD = (0.1, 0.4, 0.7), (0.2, 0.3, 0.5)
BIG_MEAN, BIG_STD = (103.5, 116.3, 123.7), (57.4, 57.1, 58.4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"colours": "bgr"}, {"bgr": True, "mean": (0.406, 0.456, 0.485), "std": (0.225, 0.224, 0.229)}),
        ({"mean": MEAN, "std": STD}, {"mean": MEAN, "std": STD}),
        ({"mean": MEAN, "std": STD, "colours": "bgr"}, {"mean": MEAN, "std": STD, "bgr": True}),
        ({"scale": 255}, {"scale": 255, "mean": (0, 0, 0), "std": (1, 1, 1)}),
        (
            {"scale": 255, "mean": BIG_MEAN, "std": BIG_STD, "colours": "bgr"},
            {"scale": 255, "mean": BIG_MEAN, "std": BIG_STD, "bgr": True},
        ),
    ],
)
def test_sidecar_and_options(
    tmp_path: Path, paths: list[Path], values: dict[str, Any], expected: dict[str, Any]
) -> None:
    file = tiny(tmp_path / "net.onnx")
    by_option = load(file, onnx=OnnxOptions(**values))
    np.testing.assert_allclose(by_option.embed(paths), by_hand(paths, **expected), atol=1e-5)
    by_default = load(file)
    by_file = load(sidecar(file, **values))
    np.testing.assert_array_equal(by_file.embed(paths), by_option.embed(paths))
    assert by_file.fingerprint == by_option.fingerprint != by_default.fingerprint
    assert np.abs(by_file.embed(paths) - by_default.embed(paths)).max() > 1e-3


@pytest.mark.parametrize("batch", [1, 4, "n", None])
@pytest.mark.parametrize("flat", [True, False])
def test_fixed_and_free_batches(
    tmp_path: Path, paths: list[Path], batch: int | str | None, flat: bool
) -> None:
    pictures = batch if isinstance(batch, int) else None
    file = tiny(tmp_path / "net.onnx", (batch, 3, HEIGHT, WIDTH), flat=flat, pictures=pictures)  # type: ignore[arg-type]
    embedder = load(file)
    assert isinstance(embedder, OnnxEmbedder)
    assert embedder.model.batch == pictures
    expected = by_hand(paths)
    for size in (1, 5, 64):
        np.testing.assert_allclose(embedder.embed(paths, batch_size=size), expected, atol=1e-5)


def test_a_batch_that_is_free_in_name_only(
    tmp_path: Path, paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    file = tiny(tmp_path / "net.onnx", pictures=1)
    with caplog.at_level(logging.INFO, logger="kronreid"):
        embedder = load(file)
    assert "one picture at a time" in caplog.messages[0]
    np.testing.assert_allclose(embedder.embed(paths), by_hand(paths), atol=1e-5)


def test_half_precision_and_bytes(tmp_path: Path, paths: list[Path]) -> None:
    half = load(tiny(tmp_path / "half.onnx", kind="float16"))
    np.testing.assert_allclose(half.embed(paths), by_hand(paths), atol=2e-2)
    raw = load(tiny(tmp_path / "raw.onnx", kind="uint8"))
    np.testing.assert_allclose(raw.embed(paths), by_hand(paths, (0, 0, 0), (1, 1, 1), 255), atol=1e-5)
    bgr = load(sidecar(tmp_path / "raw.onnx", colours="bgr"))
    expected = by_hand(paths, (0, 0, 0), (1, 1, 1), 255, bgr=True)
    np.testing.assert_allclose(bgr.embed(paths), expected, atol=1e-5)


def test_the_size_that_a_graph_leaves_open(tmp_path: Path, paths: list[Path]) -> None:
    file = tiny(tmp_path / "net.onnx", ("n", 3, "h", "w"))
    embedder = load(file, onnx=OnnxOptions(height=HEIGHT, width=WIDTH))
    np.testing.assert_allclose(embedder.embed(paths), by_hand(paths), atol=1e-5)


def test_a_named_output(tmp_path: Path, paths: list[Path]) -> None:
    file = tiny(tmp_path / "net.onnx", heads=2)
    with pytest.raises(InputError, match=r"several outputs .*out0 \(2, 6\), out1 \(2, 6\).*net.onnx.json"):
        load(file)
    one, other = (load(file, onnx=OnnxOptions(output=f"out{head}")) for head in range(2))
    np.testing.assert_allclose(one.embed(paths), by_hand(paths), atol=1e-5)
    assert one.fingerprint != other.fingerprint


class OSNetLike(nn.Module):
    """Depthwise streams of several depths, gated and added, as in OSNet; then a neck with BN."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 7, 2, 3)
        self.streams = nn.ModuleList(
            nn.Sequential(*[nn.Conv2d(16, 16, 3, padding=1, groups=16) for _ in range(depth)])
            for depth in (1, 2)
        )
        self.gate = nn.Conv2d(16, 16, 1)
        self.neck = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images).relu()
        streams = [stream(x) for stream in self.streams]
        x = x + sum(s * self.gate(s.mean((2, 3), keepdim=True)).sigmoid() for s in streams)
        return self.neck(x.mean((2, 3)))


@pytest.mark.parametrize("free", [False, True])
def test_an_osnet_like_export_of_torch(tmp_path: Path, paths: list[Path], free: bool) -> None:
    torch.manual_seed(0)
    model, file = OSNetLike().eval(), tmp_path / "osnet.onnx"
    example = torch.zeros(2 if free else 1, 3, 64, 32)
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    torch.onnx.export(model, (example,), file, dynamo=True, dynamic_shapes=shapes, verbose=False)
    embedder = load(sidecar(file, colours="bgr", scale=255))
    pictures = torch.stack([resize(to_tensor(open_rgb(path)), InputOptions(64, 32)) for path in paths])
    with torch.no_grad():
        expected = F.normalize(model(pictures.flip(1).float()))
    np.testing.assert_allclose(embedder.embed(paths), expected.numpy(), atol=1e-4)


def test_fingerprints(tmp_path: Path) -> None:
    a, b = tiny(tmp_path / "a.onnx"), tiny(tmp_path / "b.onnx", factor=2)
    assert load(a).fingerprint == load(a).fingerprint != load(b).fingerprint
    assert len(load(a).fingerprint) == 64
    imagenet = InputOptions()
    said = load(sidecar(a, mean=imagenet.mean, std=imagenet.std, colours="rgb"))
    a.with_name("a.onnx.json").unlink()
    assert said.fingerprint == load(a).fingerprint, "it is the same computation"


def damaged(path: Path) -> Path:
    tiny(path)
    path.write_bytes(path.read_bytes()[:400])
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def text(path: Path) -> Path:
    path.write_text("not a graph\n")
    return path


def no_picture(path: Path) -> Path:
    """A graph that takes vectors."""
    vectors = [helper.make_tensor_value_info(name, TYPES["float"], ["n", 5]) for name in ("vectors", "out")]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["vectors"], ["out"])], "no", vectors[:1], vectors[1:]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


#: How to make a file that cannot be used, and what is said about it.
REFUSED: list[tuple[Callable[[Path], Path], str]] = [
    (damaged, "is not an ONNX file"),
    (empty, "not an ONNX file"),
    (text, "not an ONNX file"),
    (lambda path: path, "cannot be read"),
    (lambda path: tiny(path, inputs=2), r"takes images tensor\(float\) \(n, 3, 48, 24\), more1"),
    (lambda path: tiny(path, ("n", 4, HEIGHT, WIDTH)), "one picture input"),
    (lambda path: tiny(path, ("n", HEIGHT, WIDTH, 3)), "one picture input"),
    (no_picture, r"takes vectors tensor\(float\) \(n, 5\), but must take one picture input"),
    (lambda path: tiny(path, ("n", 3, "h", WIDTH)), r"leaves the height open; set it in net.onnx.json"),
    (lambda path: tiny(path, ("n", 3, 16, 8)), "16 × 8 is too small"),
    (lambda path: tiny(path, heads=3), "several outputs"),
    (lambda path: sidecar(tiny(path), output="none"), r"has no output 'none'; its outputs are out0 \(2, 6\)"),
    (lambda path: sidecar(tiny(path), height=100), "its height is 48, not 100"),
    (lambda path: sidecar(tiny(path, kind="uint8"), mean=MEAN, std=STD), "takes uint8 pictures"),
    (lambda path: sidecar(tiny(path, kind="uint8"), scale=255), "takes uint8 pictures"),
    (lambda path: sidecar(tiny(path), mean=MEAN), "mean and std: they go together"),
    (lambda path: sidecar(tiny(path), mean=MEAN, std=(1, 0, 1)), "std above 0"),
    (lambda path: sidecar(tiny(path), mean=(1, 2), std=(1, 1)), "mean"),
    (lambda path: sidecar(tiny(path), scale=256), "scale"),
    (lambda path: sidecar(tiny(path), colours="grb"), "colours"),
    (lambda path: sidecar(tiny(path), colors="bgr"), "'colors' is unknown; one of mean, std"),
    (lambda path: sidecar(tiny(path), height="tall"), "height"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_refused(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    file = make(tmp_path / "net.onnx")
    with pytest.raises(InputError, match=words) as caught:
        load(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[1]", "{", "\udcff", '"bgr"'])
def test_sidecars_that_are_none(tmp_path: Path, content: str) -> None:
    file = tiny(tmp_path / "net.onnx")
    Path(f"{file}.json").write_text(content, errors="surrogateescape")
    with pytest.raises(InputError, match=r"^.*net.onnx.json: (is not JSON|must be a JSON object)"):
        load(file)


def test_options_for_what_is_no_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not an .onnx file"):
        load(tmp_path, onnx=OnnxOptions())
    with pytest.raises(InputError, match="device 'tpu'"):
        load(tiny(tmp_path / "net.onnx"), device="tpu")


def test_vectors_that_are_not_finite(tmp_path: Path, paths: list[Path]) -> None:
    """A graph that passes the probe and fails on a white picture: the root of a negative number."""
    file = tiny(tmp_path / "net.onnx", kind="uint8")
    model = onnx.load(file)
    constant = helper.make_node("Constant", [], ["grey"], value_float=200.0)
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0)
    left = helper.make_node("Sub", ["grey", "mean"], ["left"])
    root = helper.make_node("Sqrt", ["left"], ["root"])
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    model.graph.node[-1].input[1] = "roots"
    roots = helper.make_node("Concat", ["root", "root"], ["roots"], axis=1)
    model.graph.node.extend([constant, mean, left, root, roots])
    model.graph.node.extend([model.graph.node.pop(5)])
    onnx.save(model, file)
    embedder = load(file)
    black, white = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    assert np.isfinite(embedder.embed(black)).all()
    with pytest.raises(InputError, match=r"net.onnx: output out0 holds NaN or infinity for 2 of 3 pictures"):
        embedder.embed([white, black, white])


def test_an_operator_that_is_unknown(tmp_path: Path) -> None:
    file = tiny(tmp_path / "net.onnx")
    model = onnx.load(file)
    model.graph.node[2].op_type = "Nonsense"
    onnx.save(model, file)
    with pytest.raises(InputError, match=r"net.onnx: onnxruntime cannot run it \(.*Nonsense"):
        load(file)


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    file = tiny(tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, name, None)
    line = f"net.onnx needs the packages of kronreid[export] ({name} is missing): pip install"
    with pytest.raises(InputError, match=re.escape(line)):
        load(file)


def external(path: Path, location: str) -> Path:
    """A graph whose weights are said to be in the file `location`."""
    model = onnx.load(tiny(path))
    tensor = next(one for one in model.graph.initializer if one.name == "weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_in_a_file_beside(tmp_path: Path, paths: list[Path]) -> None:
    file = external(tmp_path / "net.onnx", "net.data")
    with pytest.raises(InputError, match=r"its weights are in net.data, which is missing beside it"):
        load(file)
    (tmp_path / "net.data").write_bytes(WEIGHT.tobytes())
    embedder = load(file)
    np.testing.assert_allclose(embedder.embed(paths), by_hand(paths), atol=1e-5)
    (tmp_path / "net.data").write_bytes((2 * WEIGHT).tobytes())
    assert load(file).fingerprint != embedder.fingerprint


@pytest.mark.parametrize(
    "location", ["../secret", "/secret", "sub/secret", "..", "", "link", "sub/../../secret"]
)
def test_no_file_of_another_folder_is_read(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for secret in (tmp_path / "secret", folder / "sub" / "secret"):
        secret.write_bytes(WEIGHT.tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    if location == "/secret":
        location = str(tmp_path / "secret")
    with pytest.raises(InputError, match="may only use files in its own folder"):
        load(external(folder / "net.onnx", location))


def test_tensors_within_attributes_are_looked_at_too(tmp_path: Path) -> None:
    file = tiny(tmp_path / "net.onnx")
    model = onnx.load(file)
    constant = helper.make_node("Constant", [], ["unused"], value=numpy_helper.from_array(np.zeros(2)))
    constant.attribute[0].t.data_location = TensorProto.EXTERNAL
    constant.attribute[0].t.external_data.add(key="location", value="../secret")
    model.graph.node.append(constant)
    file.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"refers to the file '../secret'"):
        load(file)


def test_a_detector_is_refused(shared: Path) -> None:
    with pytest.raises(
        InputError, match=r"fastestdet.onnx: its outputs are 758 \(1, 85, 22, 22\); an embedder"
    ):
        load(shared / "weights" / "fastestdet.onnx")
