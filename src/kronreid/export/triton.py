"""Model repositories of the Triton Inference Server: ``NAME/config.pbtxt`` and ``NAME/1/model.onnx``."""

import importlib
import json
from pathlib import Path
from typing import Any

#: The most pictures that the server joins to one pass, the sizes that it prefers, and how long it waits.
_BATCH, _PREFERRED, _WAIT_MICROSECONDS = 64, (8, 16, 32), 2000

_TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}


def write_configuration(model: Path) -> Path:
    """Write ``config.pbtxt`` for an exported graph that lies in ``NAME/1/model.onnx``.

    The server joins requests to batches, unless the graph's inputs have axes of different lengths, like those
    of a scorer.

    Returns:
        The written file.
    """
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    batched = len({str(one.shape[0]) for one in inputs}) == 1
    parts = [
        f"name: {_quoted(model.parent.parent.name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {_BATCH if batched else 0}",
        *(_tensor("input", one, batched) for one in inputs),
        *(_tensor("output", one, batched) for one in outputs),
    ]
    if batched:
        sizes = ", ".join(map(str, _PREFERRED))
        parts.append(
            f"dynamic_batching {{\n  preferred_batch_size: [{sizes}]\n"
            f"  max_queue_delay_microseconds: {_WAIT_MICROSECONDS}\n}}"
        )
    fingerprint = session.get_modelmeta().custom_metadata_map["fingerprint"]
    parts.append(
        f'parameters {{\n  key: "fingerprint"\n  value {{ string_value: {_quoted(fingerprint)} }}\n}}'
    )
    file = model.parent.parent / "config.pbtxt"
    file.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return file


def _tensor(kind: str, one: Any, batched: bool) -> str:
    """An input or output; the server adds the axis of the batch itself."""
    shape = [size if isinstance(size, int) else -1 for size in one.shape][batched:]
    dims = ", ".join(map(str, shape))
    return f"{kind} {{\n  name: {_quoted(one.name)}\n  data_type: {_TYPES[one.type]}\n  dims: [{dims}]\n}}"


def _quoted(text: str) -> str:
    """A string of protobuf's text format."""
    return json.dumps(text)
