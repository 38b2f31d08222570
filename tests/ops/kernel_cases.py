"""The GPU kernel against the tensor form; `test_matching_triton.py` runs this in a process of its own."""

import pytest
import torch

from kronreid.ops.blocks import match_block, prepare
from kronreid.ops.matching_triton import column_sums

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
# The interpreter's bfloat16 product is wrong, so that dtype is for real GPUs.
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if ON_GPU else [])]


@pytest.mark.parametrize(
    ("dtype", "m_x", "m_y", "channels"),
    [
        (torch.float32, *sizes)
        for sizes in [(1, 1, 1), (8, 8, 16), (150, 130, 70), (70, 300, 20), (200, 520, 17)]
    ]
    + [(dtype, *sizes) for dtype in DTYPES for sizes in [(12, 20, 33), (20, 600, 20)]],
)
def test_kernel_equals_softmax_and_sum(dtype: torch.dtype, m_x: int, m_y: int, channels: int) -> None:
    """Whole rows up to 512 columns and two passes above, with every edge masked and pictures repeated."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, m_x, channels, generator=generator).to(DEVICE)
    y = torch.randn(2, m_y, channels, generator=generator).to(DEVICE)
    x = torch.nn.functional.normalize(x, dim=2).to(dtype)
    y = torch.nn.functional.normalize(y, dim=2).to(dtype)
    weight = 1 + torch.rand(2, m_x, generator=generator).to(DEVICE)
    i, j = torch.tensor([0, 1, 0], device=DEVICE), torch.tensor([1, 1, 0], device=DEVICE)
    v = column_sums(x, y, weight, i, j, 0.05)
    beta = torch.softmax(x[i].double() @ y[j].double().transpose(1, 2) / 0.05, dim=2)
    expected = (weight[i, None].double() @ beta)[:, 0]
    torch.testing.assert_close(v.double(), expected, rtol=1e-4, atol=1e-5)
    assert v.dtype == torch.float32


def test_bad_input() -> None:
    x, weight = torch.ones(1, 2, 3, device=DEVICE), torch.ones(1, 2, device=DEVICE)
    index = torch.zeros(1, dtype=torch.long, device=DEVICE)
    for y, temperature, message in (
        (torch.ones(1, 2, 4, device=DEVICE), 0.05, "channels"),
        (x.half(), 0.05, "dtypes"),
        (x, 0.0, "temperature"),
    ):
        with pytest.raises(ValueError, match=message):
            column_sums(x, y, weight, index, index, temperature)


def test_no_pairs() -> None:
    x, none = torch.ones(1, 2, 3, device=DEVICE), torch.zeros(0, dtype=torch.long, device=DEVICE)
    assert column_sums(x, x, torch.ones(1, 2, device=DEVICE), none, none, 0.05).shape == (0, 2)


@pytest.mark.skipif(not ON_GPU, reason="no CUDA GPU: block matching takes the kernel only there")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_on_the_gpu_equal_those_on_the_cpu(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 40, 30, generator=generator), torch.randn(5, 40, 30, generator=generator)
    on_cpu = match_block(prepare(x, dtype=dtype), prepare(y, dtype=dtype))
    on_gpu = match_block(prepare(x.cuda(), dtype=dtype), prepare(y.cuda(), dtype=dtype))
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=tolerance, atol=tolerance)
