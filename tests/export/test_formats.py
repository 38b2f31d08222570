"""Formats of other runtimes: the same vectors and places, and nothing written that is wrong."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from kronreid.cli import main
from kronreid.errors import InputError
from kronreid.export import FORMATS, export, formats
from kronreid.export.int8 import backbone_nodes
from kronreid.export.rounding import LARGEST
from kronreid.models.inference import Embedder
from kronreid.models.loading import load
from kronreid.models.places import PlaceMatching, PlacesOptions

#: The operators that TensorRT's ONNX parser takes, as far as networks of timm and kronreid's heads may need
#: them (onnx-tensorrt, docs/operators.md of TensorRT 10.15). It takes opsets 9 to 24; uint8 only as an input.
TENSORRT = {
    *("Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Constant"),
    *("ConstantOfShape", "Conv", "ConvTranspose", "Cos", "DequantizeLinear", "Div", "Einsum", "Equal", "Erf"),
    *("Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm"),
    *("GlobalAveragePool", "GlobalMaxPool", "Greater", "HardSigmoid", "HardSwish", "Identity"),
    *("InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less", "Log", "MatMul", "Max", "MaxPool"),
    *("Min", "Mish", "Mod", "Mul", "Neg", "Not", "Pad", "Pow", "QuantizeLinear", "Range", "Reciprocal"),
    *("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape"),
    *("Resize", "Round", "Shape", "Sigmoid", "Sin", "Slice", "Softmax", "Softplus", "Split", "Sqrt"),
    *("Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where"),
}


@pytest.fixture(scope="module")
def embedder(home: Path, random_places: Callable[..., PlaceMatching]) -> Embedder:
    """HOReID with places."""
    tool = load(home / "horeid", device="cpu")
    assert isinstance(tool, Embedder)
    tool.places = random_places(PlacesOptions(numbers=8), [(16, 4, 2)])
    return tool


@pytest.fixture(scope="module")
def graph(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its ONNX file."""
    file = tmp_path_factory.mktemp("graph") / "horeid.onnx"
    export(embedder, file)
    return file


@pytest.fixture
def written_once(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other formats begin with that file, which takes seconds to write. Random weights round badly."""
    monkeypatch.setattr(formats, "INT8_COSINE", 0.8)
    monkeypatch.setattr(formats, "write_onnx", lambda tool, file: [Path(shutil.copy(graph, file))])


def test_the_graph_suits_tensorrt(graph: Path) -> None:
    model = onnx.load(graph)
    assert {node.op_type for node in model.graph.node} <= TENSORRT
    assert {node.domain for node in model.graph.node} == {""}
    assert [9 <= one.version <= 24 for one in model.opset_import] == [True]
    (one,) = model.graph.input
    first, *rest = one.type.tensor_type.shape.dim
    assert one.name == "images"
    assert first.dim_param
    assert [axis.dim_value for axis in rest] == [3, 64, 32], "only the number of pictures is free"
    readers = [node for node in model.graph.node if "images" in node.input]
    assert {node.op_type for node in readers} <= {"Cast", "Shape"}, "uint8 is turned into float at once"
    for output in model.graph.output:
        assert output.type.tensor_type.shape.dim[0].dim_param == first.dim_param


@pytest.mark.usefixtures("written_once")
def test_openvino(embedder: Embedder, paths: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    report = export(embedder, tmp_path / "horeid.xml", "openvino")
    assert sorted(tmp_path.iterdir()) == sorted(report.files)
    assert report.difference < 1e-3
    loaded = load(tmp_path / "horeid.xml")
    assert isinstance(loaded, Embedder)
    assert loaded.fingerprint == embedder.fingerprint
    for batch_size in (1, 3, 64):
        np.testing.assert_allclose(loaded.embed(paths, batch_size), embedder.embed(paths), atol=1e-4)
    scores = [tool.needed_matcher().score(paths[:2], paths) for tool in (loaded, embedder)]
    np.testing.assert_allclose(*scores, atol=1e-3)
    weights = tmp_path / "horeid.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1  # a changed file is another model
    weights.write_bytes(content)
    assert load(tmp_path / "horeid.xml").fingerprint != embedder.fingerprint
    with pytest.raises(InputError, match="device cuda"):
        load(tmp_path / "horeid.xml", device="cuda")
    weights.unlink()
    with pytest.raises(InputError, match=r"horeid.bin: no such file"):
        load(tmp_path / "horeid.xml")
    weights.write_bytes(content)
    for text in ("", "<net", "<net/>", "<a>" * 50):
        (tmp_path / "horeid.xml").write_text(text)
        with pytest.raises(InputError, match=r"horeid.xml: is not an OpenVINO model, or is damaged"):
            load(tmp_path / "horeid.xml")


@pytest.mark.usefixtures("written_once")
def test_int8(embedder: Embedder, graph: Path, pedestrians: Path, paths: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "int8.onnx"
    pictures = sorted((pedestrians / "bounding_box_train").glob("*.jpg"))
    report = export(embedder, file, "onnx-int8", pictures)
    assert list(tmp_path.iterdir()) == [file]
    assert formats.INT8_COSINE < report.cosine < 1
    loaded = load(file)
    assert isinstance(loaded, Embedder)
    assert loaded.places is not None
    assert loaded.fingerprint != embedder.fingerprint, "other vectors are another model's"
    assert (loaded.embed(paths) * embedder.embed(paths)).sum(axis=1).mean() > formats.INT8_COSINE
    model = onnx.load(file)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    scales = {
        node.input[0]: constants[node.input[1]].dims
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    quantised = {name for name in scales if name.startswith("model.backbone.") and "weight" in name}
    assert quantised, "the backbone's weights are in int8"
    for name in quantised:  # `round_weights` rounded to the same grid
        largest = np.abs(onnx.numpy_helper.to_array(constants[name]).astype(int)).max(axis=(1, 2, 3))
        assert set(largest) == {LARGEST}
    before = onnx.load(graph)
    names = set(backbone_nodes(before.graph))
    relus = [node.name for node in before.graph.node if node.op_type == "Relu"]
    left = [node.name for node in model.graph.node if node.op_type == "Relu"]
    assert left == [name for name in relus if name not in names], "convolutions in int8 apply the others"
    assert all(list(scales[name]) == [constants[name].dims[0]] for name in quantised), "a scale per channel"
    kept = [name for name in constants if name.startswith(("model.ghp", "model.lhp", "model.reduce"))]
    assert kept
    assert all(constants[name].data_type == onnx.TensorProto.FLOAT for name in kept)


def test_what_is_quantised(graph: Path) -> None:
    model = onnx.load(graph)
    names = set(backbone_nodes(model.graph))
    kinds = [node.op_type for node in model.graph.node if node.name in names]
    constants = {tensor.name for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert set(kinds) == {"Conv", "Add", "Relu"}
    assert 0 < kinds.count("Conv") < len(convolutions)
    first = next(node for node in model.graph.node if node.op_type == "Add")
    assert constants.intersection(first.input), "the normalisation of the pictures"
    assert first.name not in names


@pytest.mark.usefixtures("written_once")
def test_int8_that_differs_is_not_written(
    embedder: Embedder, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "int8.onnx"
    file.write_text("as it was")
    monkeypatch.setattr(formats, "INT8_COSINE", 1.0)
    with pytest.raises(InputError, match=r"int8.onnx: was not written: the mean cosine .* is 0\.\d+ on"):
        export(embedder, file, "onnx-int8", [*paths, *paths])
    assert file.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.usefixtures("written_once")
def test_pictures_that_cannot_be_read_are_left_out(
    embedder: Embedder, paths: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    report = export(embedder, tmp_path / "int8.onnx", "onnx-int8", [*paths, *paths, broken])
    assert "broken.jpg" in caplog.text
    assert report.pictures == 3
    with pytest.raises(InputError, match="--calibrate: 7 readable pictures; give at least 8"):
        export(embedder, tmp_path / "int8.onnx", "onnx-int8", [*paths, broken, broken])


def test_pt2(home: Path, tmp_path: Path) -> None:
    tool = load(home / "pooled", device="cpu")
    file = tmp_path / "pooled.pt2"
    report = export(tool, file, "pt2")
    assert report.files == (file,)
    assert report.difference < 1e-3
    assert b"kronreid/export" not in file.read_bytes(), "no trace of source files"


def _message(name: str, fields: dict[str, tuple[int, str, bool]]) -> descriptor_pb2.DescriptorProto:
    """A message of protobuf; a field is its number, its type and whether it is repeated."""
    kinds = descriptor_pb2.FieldDescriptorProto
    made = descriptor_pb2.DescriptorProto(name=name)
    for field, (number, kind, repeated) in fields.items():
        label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        one = made.field.add(name=field, number=number, label=label)
        plain = {"string": kinds.TYPE_STRING, "int32": kinds.TYPE_INT32, "int64": kinds.TYPE_INT64}
        if kind in plain:
            one.type = plain[kind]
        else:
            one.type = kinds.TYPE_ENUM if kind == "DataType" else kinds.TYPE_MESSAGE
            one.type_name = f".inference.{kind}"
    return made


@pytest.fixture(scope="module")
def schema() -> type:
    """Triton's ModelConfig, as far as kronreid writes it (its protobuf/model_config.proto)."""
    file = descriptor_pb2.FileDescriptorProto(name="config.proto", package="inference", syntax="proto3")
    types = file.enum_type.add(name="DataType")
    for number, name in enumerate(("INVALID", "BOOL", "UINT8")):
        types.value.add(name=f"TYPE_{name}", number=number)
    types.value.add(name="TYPE_FP32", number=11)
    tensor = {"name": (1, "string", False), "data_type": (2, "DataType", False)}
    file.message_type.extend(
        [
            _message("ModelInput", {**tensor, "dims": (4, "int64", True)}),
            _message("ModelOutput", {**tensor, "dims": (3, "int64", True)}),
            _message(
                "ModelDynamicBatching",
                {
                    "preferred_batch_size": (1, "int32", True),
                    "max_queue_delay_microseconds": (2, "int64", False),
                },
            ),
            _message("ModelParameter", {"string_value": (1, "string", False)}),
            _message("Entry", {"key": (1, "string", False), "value": (2, "ModelParameter", False)}),
            _message(
                "ModelConfig",
                {
                    "name": (1, "string", False),
                    "max_batch_size": (4, "int32", False),
                    "input": (5, "ModelInput", True),
                    "output": (6, "ModelOutput", True),
                    "dynamic_batching": (11, "ModelDynamicBatching", False),
                    "parameters": (14, "Entry", True),
                    "backend": (17, "string", False),
                },
            ),
        ]
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


@pytest.mark.usefixtures("written_once")
def test_triton(embedder: Embedder, tmp_path: Path, schema: type) -> None:
    report = export(embedder, tmp_path / "repository", "triton")
    folder = tmp_path / "repository" / "horeid"
    assert report.files == (folder / "config.pbtxt", folder / "1" / "model.onnx")
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == set(report.files)
    config = text_format.Parse((folder / "config.pbtxt").read_text(), schema())
    assert (config.name, config.backend) == ("horeid", "onnxruntime")
    assert 0 < max(config.dynamic_batching.preferred_batch_size) <= config.max_batch_size
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    assert {one.key: one.value.string_value for one in config.parameters} == {
        "fingerprint": embedder.fingerprint
    }
    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    types = {2: "tensor(uint8)", 11: "tensor(float)"}
    for told, there in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [(one.name, types[one.data_type], list(one.dims)) for one in told] == [
            (one.name, one.type, one.shape[1:]) for one in there
        ], "the server adds the axis of the batch"


def test_a_scorer_in_triton_is_not_batched(tmp_path: Path, schema: type) -> None:
    """Queries and candidates are different numbers of pictures."""
    shapes = {"query_maps_1": ["queries", 4, 8], "candidate_maps_1": ["candidates", 4, 8]}
    inputs = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    output = onnx.helper.make_tensor_value_info("logits", 1, ["queries", "candidates"])
    nodes = [
        onnx.helper.make_node("Flatten", ["query_maps_1"], ["q"]),
        onnx.helper.make_node("Flatten", ["candidate_maps_1"], ["c"]),
        onnx.helper.make_node("Gemm", ["q", "c"], ["logits"], transB=1),
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "scorer", inputs, [output]),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=10,
    )
    model.metadata_props.add(key="fingerprint", value='odd "text"\n')
    file = tmp_path / "kpm-scorer" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    onnx.save(model, file)
    config = text_format.Parse(formats.write_configuration(file).read_text(), schema())
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert [list(one.dims) for one in config.input] == [[-1, 4, 8], [-1, 4, 8]]
    assert list(config.output[0].dims) == [-1, -1]
    assert config.parameters[0].value.string_value == 'odd "text"\n'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["horeid", "--format", "openvino", "--out", "out.onnx"], "out.onnx: the name must end in .xml"),
        (["horeid", "--format", "pt2", "--out", "out.onnx"], "out.onnx: the name must end in .pt2"),
        (["horeid", "--format", "triton", "--out", "no/folder"], "there is no folder no"),
        (["horeid", "--format", "onnx-int8", "--out", "out.onnx"], "--calibrate: an int8 format needs it"),
        (["horeid", "--out", "out.onnx", "--calibrate", "."], "--calibrate: only int8 formats take it"),
        (
            ["horeid", "--format", "openvino-int8", "--out", "out.xml", "--calibrate", "nowhere.jpg"],
            "--calibrate: 0 readable pictures; give at least 8",
        ),
        (["kpm", "--format", "openvino", "--out", "out.xml"], "--format openvino: takes embedders only"),
        (["kpm", "--format", "pt2", "--out", "out.pt2"], "a matcher becomes one of onnx, triton"),
    ],
)
def test_bad_input(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(home / arguments[0]), *arguments[1:]]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_a_missing_engine_names_its_extra(
    embedder: Embedder, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    package = {"onnx": "onnxruntime", "openvino": "openvino"}[form]
    extra = {"onnx": "export", "openvino": "openvino"}[form]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"--format {form} needs .*kronreid\[{extra}\].*pip install"):
        export(embedder, tmp_path / f"out{FORMATS[form].suffix}", form)
    model = tmp_path / f"model{FORMATS[form].suffix}"
    shutil.copy(graph, model)
    model.with_suffix(".bin").touch()
    with pytest.raises(InputError, match=rf"kronreid\[{extra}\]"):
        load(model)
