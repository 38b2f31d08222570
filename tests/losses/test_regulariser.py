"""DSR against loops written from HOReID."""

import math

import pytest
import torch

from kronreid.losses.regulariser import sampler_regulariser


def test_sampler_regulariser_eq_13() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures, channels, count, margin = 3, 4, 5, 0.1
    parts = [torch.randn(pictures, channels, count, generator=generator) + 0.3 for _ in range(2)]
    total = 0.0
    for picture in range(pictures):
        double_sum = 0.0
        for level in parts:
            for i in range(count):
                for j in range(count):
                    if i != j:
                        a, b = level[picture, :, i].double(), level[picture, :, j].double()
                        cosine = float((a * b).sum()) / math.sqrt(float((a * a).sum() * (b * b).sum()))
                        double_sum += max(0.0, cosine - margin)
        total += double_sum / (2 * len(parts) * count * (count - 1))
    result = sampler_regulariser(parts, margin)
    assert total > 0.05
    assert float(result) == pytest.approx(total / pictures, abs=1e-6)


def test_sampler_regulariser_bounds() -> None:
    """Zero for parts that differ and for a single one; (1 − m) / 2 where all are the same."""
    different = torch.eye(4)[None]
    same = torch.ones(2, 4, 3)
    assert float(sampler_regulariser([different, different], 0.2)) == 0
    assert float(sampler_regulariser([same[:, :, :1]], 0.2)) == 0
    assert float(sampler_regulariser([same, same], 0.2)) == pytest.approx(0.4)
    assert sampler_regulariser([same.bfloat16()]).dtype == torch.float32
