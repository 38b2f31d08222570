"""torch.export's programs, ``.pt2``: a graph of torch's operators that runs without kronreid's code."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from kronreid.export.onnx import card_of
from kronreid.export.tracing import plans, quiet, trace
from kronreid.models.inference import Embedder, Matcher
from kronreid.models.onnx import OnnxEmbedder, own_embedder

#: The file of the archive that holds the metadata.
CARD = "kronreid.json"


class _Session:
    """A program with the methods of ``onnxruntime.InferenceSession`` that `OnnxNetwork` calls."""

    def __init__(self, program: torch.export.ExportedProgram, outputs: Sequence[str]) -> None:
        self.module, self.outputs = program.module(), outputs

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="images", type="tensor(uint8)")]

    def run(self, outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = self.module(torch.from_numpy(inputs["images"]))
        named = dict(zip(self.outputs, found if isinstance(found, tuple) else (found,)))
        return [named[name].numpy() for name in outputs]


def write_program(tool: Embedder | Matcher, file: Path) -> OnnxEmbedder:
    """Write an embedder as a program with the inputs and outputs of its ONNX file.

    Returns:
        The written file, opened.

    Raises:
        InputError: The network cannot be exported.
    """
    (plan,) = plans(tool)
    program = trace(plan)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # lines of our source code
    card = card_of(plan, tool)
    with quiet():
        torch.export.save(program, file, extra_files={CARD: json.dumps(card)})
        return own_embedder(_Session(torch.export.load(file), plan.outputs), card, file)
