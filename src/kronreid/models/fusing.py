"""The form in which a folded network runs on a CPU: as the folded one, with fewer passes over memory.

Three things make torch slow on a CPU where a network is small, like MobileNetV2. It brings the weights of
each convolution into the kernel's layout in every pass. Activation functions and additions read and write
whole maps again. The maps of a large batch leave the cache, and the system has to clear the memory that they
take. Here the weights get their layout once, oneDNN's kernels apply activations and additions while they
write, and `kronreid.models.inference` keeps the passes small.
"""

import logging
import operator
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

import kronreid.torchvision_guard  # noqa: F401

from timm.layers import Conv2dSame  # isort: skip
from timm.layers.padding import pad_same  # isort: skip

from kronreid.models.backbone import Backbone
from kronreid.models.half_precision import with_same_weights

log = logging.getLogger(__name__)

#: Activation functions by their names in oneDNN, with their numbers.
_ACTIVATIONS: dict[Any, tuple[str, list[float]]] = {
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu), ("relu", [])),
    **dict.fromkeys((nn.ReLU6, F.relu6), ("hardtanh", [0.0, 6.0])),
    **dict.fromkeys((nn.SiLU, F.silu), ("swish", [])),
    **dict.fromkeys((nn.Hardswish, F.hardswish), ("hardswish", [])),
}
_ADDITIONS = (operator.add, torch.add)  # tracing makes one of += too
_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
#: The fast form is not used if a vector's cosine to the model's is below this.
EQUAL = 0.9999

M = TypeVar("M", bound=nn.Module)
Sizes = dict[str, torch.Size]


def can_fuse(model: nn.Module) -> bool:
    """Whether this torch has oneDNN's kernels, and the model lies on the CPU in float32."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return there and all(
        one.device.type == "cpu" and one.dtype == torch.float32 for one in model.parameters()
    )


@torch.no_grad()
def fuse(model: M, run: Callable[[M], Tensor]) -> M:
    """A form of a model in eval mode that computes the same faster, on the CPU and without gradients.

    It shares the weights of the model, except those of the convolutions. A backbone whose code cannot be
    traced keeps its activations apart. If the vectors of both forms differ, the model itself is returned.

    Args:
        model: The model; it is not changed.
        run: Passes pictures through a model, as many as later passes will have, and returns their vectors.
    """
    twin = with_same_weights(model)
    sizes, expected = _watched(twin, run)
    for name, module in list(twin.named_modules()):
        if isinstance(module, Backbone):
            module.network = _fused_graph(module.network, sizes, name)
    for name, module in list(twin.named_modules()):
        if name in sizes and type(module) in _CONVOLUTIONS:
            twin.set_submodule(name, FusedConvolution(cast(nn.Conv2d, module), sizes[name]))
    cosine = float(F.cosine_similarity(expected, run(twin)).min())
    if not cosine >= EQUAL:
        log.warning("the fast form of the model gives other vectors (cosine %.4f) and is not used", cosine)
        return model
    return twin


def _watched(model: M, run: Callable[[M], Tensor]) -> tuple[Sizes, Tensor]:
    """The shapes of the inputs of all convolutions and backbones, by name; and what `run` returned."""
    sizes: Sizes = {}
    hooks = []
    for name, module in model.named_modules():
        convolution = type(module) in _CONVOLUTIONS and cast(nn.Conv2d, module).padding_mode == "zeros"
        if convolution or isinstance(module, Backbone):
            inner = module.network if isinstance(module, Backbone) else module

            def note(_: nn.Module, given: tuple[Tensor], name: str = name) -> None:
                sizes[name] = given[0].shape

            hooks.append(inner.register_forward_pre_hook(note))
    vectors = run(model)
    for hook in hooks:
        hook.remove()
    return sizes, vectors


class FusedConvolution(nn.Module):
    """A convolution whose weights have the kernel's layout, with what follows it.

    Args:
        conv: The convolution.
        given: The shape of its input.
        activation: The name of an activation function in oneDNN and its numbers.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        given: torch.Size,
        activation: tuple[str, list[float]] = ("none", []),
    ) -> None:
        super().__init__()
        self.pads = isinstance(conv, Conv2dSame)
        self.kernel_size, self.stride, self.dilation = conv.kernel_size, conv.stride, conv.dilation
        self.groups = conv.groups
        padding = (0, 0) if self.pads else cast(tuple[int, ...], conv.padding)
        self.layout = [list(padding), list(conv.stride), list(conv.dilation), conv.groups]
        self.activation = activation
        if self.pads:
            given = self._padded(torch.empty(given, device="meta")).shape
        weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self.bias = conv.bias.detach() if conv.bias is not None else None
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.layout, list(given))

    def _padded(self, x: Tensor) -> Tensor:
        return pad_same(x, self.kernel_size, self.stride, self.dilation)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Convolve (N, C, H, W), add the other map if there is one, and apply the activation function."""
        x = self._padded(x) if self.pads else x
        name, numbers = self.activation
        arguments = (self.weight, self.bias, *self.layout)
        if other is None:
            return torch.ops.mkldnn._convolution_pointwise(x, *arguments, name, numbers, "")
        unary = None if name == "none" else name
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, other, *arguments, "add", None, unary, numbers, None
        )


class _Tracer(fx.Tracer):
    """Traces down to convolutions, and to modules that contain none."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or not any(isinstance(inner, nn.Conv2d) for inner in m.modules())


def _fused_graph(network: nn.Module, sizes: Sizes, backbone: str) -> nn.Module:
    """The network of a backbone, with convolutions that apply the activations and additions behind them."""
    try:
        graph = _Tracer().trace(network)
        module = fx.GraphModule(network, graph)
        ShapeProp(module).propagate(torch.zeros(sizes[backbone]))
    except Exception as error:  # a network's own code may fail in any way on a proxy for a tensor
        log.info("activations of %s are not fused: %s", type(network).__name__, error)
        return network
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    kinds = {target: type(module.get_submodule(str(target))) for target in calls}
    for node in list(graph.nodes):
        if node.op == "call_module" and kinds[node.target] in (nn.Identity, nn.Dropout):
            _skip(node, node.args[0])
    for node in list(graph.nodes):
        if node.op != "call_module" or kinds[node.target] not in _CONVOLUTIONS:
            continue
        name = f"{backbone}.network.{node.target}"
        if calls[node.target] == 1 and name in sizes:
            target, activation = str(node.target), _activation(module, node)
            if activation is None and _only_user(node) is not None:
                activation = _add(module, node)
            conv = cast(nn.Conv2d, module.get_submodule(target))
            module.set_submodule(target, FusedConvolution(conv, sizes[name], activation or ("none", [])))
    module.delete_all_unused_submodules()
    graph.lint()
    module.recompile()
    return module


def _skip(node: fx.Node, by: Any) -> None:
    """Take a node out; its users get another one."""
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _activation(
    module: fx.GraphModule, node: fx.Node, after_addition: bool = False
) -> tuple[str, list[float]] | None:
    """Take the activation function behind a node out, and return it; None if there is none that can be fused.

    After an addition, oneDNN's kernels apply only ReLU.
    """
    user = _only_user(node)
    if user is None or user.args != (node,):
        return None
    kind = type(module.get_submodule(str(user.target))) if user.op == "call_module" else user.target
    found = _ACTIVATIONS.get(kind)
    if found is None or (after_addition and found[0] != "relu"):
        return None
    _skip(user, node)
    return found


def _add(module: fx.GraphModule, node: fx.Node) -> tuple[str, list[float]] | None:
    """Let a convolution do the addition behind it, and return the activation function behind that."""
    addition = _only_user(node)
    assert addition is not None
    if addition.target not in _ADDITIONS or len(addition.args) != 2 or addition.kwargs:
        return None
    other = addition.args[1] if addition.args[0] is node else addition.args[0]
    if not isinstance(other, fx.Node) or other is node or _shape(other) != _shape(node):
        return None
    with node.graph.inserting_before(addition):
        fused = node.graph.call_module(str(node.target), (node.args[0], other))
    fused.meta = dict(addition.meta)
    _skip(addition, fused)
    node.graph.erase_node(node)
    return _activation(module, fused, after_addition=True)


def _shape(node: fx.Node) -> torch.Size | None:
    return getattr(node.meta.get("tensor_meta"), "shape", None)
