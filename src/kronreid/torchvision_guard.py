"""Make torchvision importable with a CPU-only torch.

The published torchvision wheel links CUDA libraries. With a CPU build of torch its compiled operators do not
load, and ``import torchvision`` fails on ``torchvision::nms``, because it registers shape functions for
undefined operators. kronreid uses only the transforms. On exactly this error the two missing schemas are
defined and the import is repeated. Other installations are not changed.
"""

import importlib
import sys

import torch

_library = None  # keeps the object alive, since its definitions vanish with it


def import_torchvision() -> None:
    """Import torchvision, defining the missing operators if necessary.

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
