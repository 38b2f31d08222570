"""Import torchvision also beside a CPU-only torch.

The published torchvision wheel links CUDA libraries. Beside a CPU build of torch its compiled operators do
not load, and ``import torchvision`` fails on ``torchvision::nms``: it registers shape functions for operators
that nobody has defined. kronreid uses none of them, only the transforms, so on exactly that error the two
missing schemas are defined and the import runs again. Installations that import plainly are untouched.
"""

import importlib
import sys

import torch

_library = None  # kept alive: the definitions vanish with the object


def import_torchvision() -> None:
    """Make ``import torchvision`` work from here on.

    Raises:
        RuntimeError: torchvision fails for a reason other than the missing operators.
    """
    global _library
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _library = torch.library.Library("torchvision", "DEF")
        _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")


import_torchvision()
