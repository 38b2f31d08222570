"""Under autocast, depthwise convolutions stay in float32, and only those."""

import pytest
import torch
from torch import nn

from kronreid.models.half_precision import for_autocast, with_same_weights


@torch.no_grad()
def cancelling(weights: int) -> nn.Sequential:
    """Channels that hardly change, and a depthwise convolution whose weights nearly cancel, as in a trained
    MobileNet."""
    torch.manual_seed(weights)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.ReLU6(), nn.Conv2d(16, 16, weights, groups=16), nn.Conv2d(16, 8, 1)
    )
    network[0].bias.fill_(6)
    network[2].weight -= 0.99 * network[2].weight.mean((2, 3), keepdim=True)
    return network.eval()


@pytest.mark.parametrize("weights", [2, 3, 5])
@torch.no_grad()
def test_it_is_nearer_to_float32(weights: int) -> None:
    network, x = cancelling(weights), torch.rand(4, 3, 17, 17)
    exact = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        plain, found = network(x), for_autocast(network)(x)
    errors = [float((one.float() - exact).mean((2, 3)).pow(2).mean()) for one in (found, plain)]
    assert 0 < errors[0] < errors[1] / 4


@torch.no_grad()
def test_depthwise_convolutions_alone_compute_in_float32() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 1, 1)
    )
    form, x = for_autocast(network), torch.randn(2, 4, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        first = network[0](x)
        with torch.autocast("cpu", enabled=False):
            exact = network[1](first.float()).bfloat16()
        expected = network[3](network[2](exact))
        assert torch.equal(form(x), expected)
        assert form(x).dtype == torch.bfloat16


def test_it_shares_the_weights_and_leaves_the_model_alone() -> None:
    model = cancelling(3)
    form = for_autocast(model)
    assert form is not model
    for one, other in zip(form.state_dict().values(), model.state_dict().values(), strict=True):
        assert one.data_ptr() == other.data_ptr()
    assert not any("forward" in vars(module) for module in model.modules())
    plain = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(1, 4, 1))
    assert for_autocast(plain) is plain, "nothing to keep in float32"
    assert with_same_weights(plain)[0].weight is plain[0].weight
