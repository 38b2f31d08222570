"""What makes training on a CPU as fast as the processor allows. A GPU needs none of it.

The figures were measured on two cores, with MobileNetV2 at 192×96 in bf16 (`benchmarks/training.py`).
"""

import logging
from typing import Literal, TypeAlias

import torch
from torch import nn

from kronreid.models.half_precision import InFullPrecision, depthwise

log = logging.getLogger(__name__)

Precision: TypeAlias = Literal["32-true", "bf16-mixed", "16-mixed"]


def strided_depthwise_in_full_precision(network: nn.Module) -> None:
    """Keep depthwise convolutions with a stride out of bf16 autocast.

    oneDNN has no fast backward pass for them in bf16: three such layers take a quarter of MobileNetV2's step,
    and a fifth of that time in fp32. Parameters and their names stay as they are.
    """
    for conv in depthwise(network):
        if conv.stride != (1, 1):
            conv.forward = InFullPrecision(conv)  # type: ignore[method-assign,assignment]


def precision_here(precision: Precision, accelerator: str) -> Precision:
    """The precision to train in: ``bf16-mixed`` becomes ``32-true`` on a CPU without fast bfloat16.

    Such a CPU, as in most laptops, emulates bfloat16. A convolution then takes about ten times as long as in
    float32, and is less precise.

    Args:
        precision: The config's precision.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
    """
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    if precision == "bf16-mixed" and on_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        log.info("training.precision bf16-mixed: this CPU has no fast bfloat16; float32 is used")
        return "32-true"
    return precision
