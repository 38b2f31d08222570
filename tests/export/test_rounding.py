"""Weights in int8: neighbours on the grid, and outputs whose mean stays."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from kronreid.export.rounding import LARGEST, round_weights, rounded_rows


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.floats(0, 1))
def test_a_row_keeps_its_mean_output(seed: int, weights: int, constant: float) -> None:
    numbers = np.random.default_rng(seed)
    rows = numbers.normal(size=(6, weights)) * numbers.uniform(0.01, 10, (6, 1))
    rows[0] = 0  # a dead channel
    means = constant * 5 + (1 - constant) * numbers.normal(size=rows.shape)
    found = rounded_rows(rows, means)
    step = np.abs(rows).max(axis=1, keepdims=True) / LARGEST
    assert (np.abs(found - rows) <= step * (1 + 1e-9)).all(), "one of the two neighbours"
    scaled = found[1:] / step[1:]
    np.testing.assert_allclose(scaled, np.round(scaled), atol=1e-6)
    np.testing.assert_allclose(np.abs(scaled).max(axis=1), LARGEST)
    np.testing.assert_array_equal(found[0], 0)
    nearest = np.round(rows[1:] / step[1:]) * step[1:]
    shift, plain = (np.abs(((one - rows[1:]) * means[1:]).sum(axis=1)) for one in (found[1:], nearest))
    assert (shift <= plain + 1e-9).all()
    if constant == 1 and weights > 4:
        assert (shift <= step[1:, 0] * 5).all(), "less than what one weight makes"


def graph(kind: str) -> onnx.ModelProto:
    """Two layers of a kind, with a ReLU between them."""
    numbers = np.random.default_rng(0)
    shapes = {
        "convolution": [(8, 4, 3, 3), (6, 8, 1, 1)],
        "depthwise": [(8, 4, 1, 1), (8, 1, 3, 3)],
        "groups": [(8, 2, 3, 3), (6, 4, 1, 1)],
        "without bias": [(8, 4, 3, 3), (6, 8, 1, 1)],
        "Gemm": [(4, 8), (8, 6)],
        "turned Gemm": [(8, 4), (6, 8)],
        "MatMul": [(4, 8), (8, 6)],
    }[kind]
    flat = len(shapes[0]) == 2
    nodes, tensors, name = [], [], "x"
    for number, shape in enumerate(shapes):
        inputs = [name, f"w{number}"]
        tensors.append(numpy_helper.from_array(numbers.normal(size=shape).astype(np.float32), inputs[1]))
        outputs = shape[0] if not flat or kind.startswith("turned") else shape[1]
        if kind not in ("MatMul", "without bias"):
            bias = numbers.normal(size=outputs).astype(np.float32)
            inputs.append(f"b{number}")
            tensors.append(numpy_helper.from_array(bias, inputs[-1]))
        attributes = {"group": (8 if number else 4) // shape[1]} if not flat else {}
        if kind.endswith("Gemm"):
            attributes = {"transB": int(kind.startswith("turned"))}
        operator = "Conv" if not flat else "MatMul" if kind == "MatMul" else "Gemm"
        nodes.append(helper.make_node(operator, inputs, [f"y{number}"], f"layer{number}", **attributes))
        name = f"y{number}"
        if number == 0:
            nodes.append(helper.make_node("Relu", [name], ["r"], "relu"))
            name = "r"
    given = ["N", 4] if flat and kind != "MatMul" else ["N", 5, 4] if flat else ["N", 4, 9, 7]
    made = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, None) for number in range(2)],
        tensors,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(proto: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y0", "y1"], {"x": x})


@pytest.mark.parametrize(
    "kind", ["convolution", "depthwise", "groups", "without bias", "Gemm", "turned Gemm", "MatMul"]
)
def test_mean_outputs_stay(kind: str) -> None:
    model = graph(kind)
    shape = [one.dim_value or 40 for one in model.graph.input[0].type.tensor_type.shape.dim]
    x = (3 + np.random.default_rng(1).normal(size=shape)).astype(np.float32)
    exact = run(model, x)
    plain, names = onnx.ModelProto(), ["layer0", "layer1", "relu"]
    plain.CopyFrom(model)
    for tensor in plain.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if tensor.name.startswith("w"):
            axes = (0,) if kind in ("Gemm", "MatMul") else tuple(range(1, weight.ndim))
            step = np.abs(weight).max(axis=axes, keepdims=True) / LARGEST
            tensor.CopyFrom(numpy_helper.from_array(np.round(weight / step) * step, tensor.name))
    round_weights(model, names, [{"x": x[:16]}, {"x": x[16:]}])
    axes = (0, 1) if kind == "MatMul" else (0, 2, 3) if x.ndim == 4 else (0,)
    for layer, found, nearest, expected in zip(names, run(model, x), run(plain, x), exact):
        errors = [np.abs((one - expected).mean(axis=axes)).mean() for one in (found, nearest)]
        assert errors[0] < errors[1]
        if layer == "layer0" and len(model.graph.node[0].input) == 3:
            assert errors[0] < 0.02 * errors[1], "the bias takes what is left"
        assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_other_numbers_are_left_alone() -> None:
    model = graph("convolution")
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    shared = helper.make_node("Conv", ["r", "w1"], ["z"], "shared")  # one weight of two layers
    model.graph.node.append(shared)
    x = np.ones((2, 4, 9, 7), dtype=np.float32)
    round_weights(model, ["layer0", "layer1", "relu", "shared"], [{"x": x}])
    after = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"w0", "b0"}
    round_weights(model, ["relu"], [{"x": x}])
    assert model.graph.node[0].input[1] == "w0"
