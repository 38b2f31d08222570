"""Training on a CPU: the convolutions that leave autocast, and memory that is kept."""

import copy

import pytest
import torch
from torch import nn

from kronreid.models.backbone import Backbone, BackboneOptions
from kronreid.models.half_precision import InFullPrecision
from kronreid.training.cpu import precision_here, strided_depthwise_in_full_precision


def small(pad_type: str = "same") -> Backbone:
    """MobileNetV2 with random weights, as the real split's recipe has it."""
    torch.manual_seed(0)
    return Backbone(BackboneOptions("mobilenetv2_050", "none", 1, {"pad_type": pad_type}))


@pytest.mark.parametrize("pad_type", ["same", ""])
def test_only_depthwise_convolutions_with_a_stride_leave_autocast(pad_type: str) -> None:
    network = small(pad_type)
    strided_depthwise_in_full_precision(network)
    chosen = [m for m in network.modules() if isinstance(vars(m).get("forward"), InFullPrecision)]
    assert len(chosen) == 3  # 1/4, 1/8 and 1/16 of the input; the stem is no depthwise one
    assert all(m.groups == m.in_channels and m.stride == (2, 2) for m in chosen)


@pytest.mark.parametrize("pad_type", ["same", ""])
def test_full_precision_is_the_same_network(pad_type: str) -> None:
    plain = small(pad_type)
    changed = copy.deepcopy(plain)
    strided_depthwise_in_full_precision(changed)
    assert changed.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(2, 3, 64, 32)
    for network in (plain, changed):
        network(images)[0].square().sum().backward()
    torch.testing.assert_close(changed(images)[0], plain(images)[0])
    for one, other in zip(changed.parameters(), plain.parameters()):
        torch.testing.assert_close(one.grad, other.grad)


def test_under_autocast_it_computes_in_fp32_and_answers_in_the_input_s_dtype() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False)
    x = torch.randn(2, 8, 9, 5).bfloat16()
    exact = conv(x.float())
    strided_depthwise_in_full_precision(conv)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv(x), exact.bfloat16())
        assert torch.equal(conv(x.float()), exact)


def test_a_copy_computes_with_its_own_weights() -> None:
    """Weight averaging copies the network: the copy must not answer with the original's weights."""
    conv = nn.Conv2d(4, 4, 3, stride=2, groups=4)
    strided_depthwise_in_full_precision(conv)
    twin = copy.deepcopy(conv)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    x = torch.randn(1, 4, 7, 7)
    assert not twin(x).any()
    assert conv(x).any()


@pytest.mark.parametrize("fast", [True, False])
def test_emulated_bfloat16_is_not_used(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: fast)
    assert precision_here("bf16-mixed", "cpu") == ("bf16-mixed" if fast else "32-true")
    assert precision_here("bf16-mixed", "gpu") == "bf16-mixed"
    assert precision_here("32-true", "cpu") == "32-true"
