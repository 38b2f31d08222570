"""The GPU kernel against the reference; `test_places_triton.py` runs this in a process of its own."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kronreid.ops import places, places_triton
from kronreid.ops.places import Places, keep, score_block, score_lists, score_reference
from kronreid.ops.places_triton import scores

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
# The interpreter's bfloat16 product is wrong, so that type is for real GPUs.
TYPES = ["int8", "fp32", "fp16", *(["bf16"] if ON_GPU else [])]


def make_places(seed: int, count: int, m: int, d: int, kind: str) -> Places:
    unit = F.normalize(torch.randn(count, m, d, generator=torch.Generator().manual_seed(seed)), dim=2)
    kept = keep(unit, torch.zeros(count, m), "fp32" if kind == "fp16" else kind)  # type: ignore[arg-type]
    if kind == "fp16":
        kept = Places(kept.numbers.half(), kept.scales, kept.common)
    return kept.to(DEVICE)


def make_weight(seed: int, places: Places) -> Tensor:
    """A weight for every place of every picture."""
    shape = places.numbers.shape[:2]
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize(
    ("kind", "m_x", "m_y", "d"),
    [
        *((kind, 12, 33, 35) for kind in TYPES),
        ("int8", 1, 1, 1),
        ("int8", 72, 72, 64),
        ("int8", 130, 20, 65),
        ("fp32", 20, 40, 5),
    ],
)
def test_the_kernel_equals_the_reference(kind: str, m_x: int, m_y: int, d: int) -> None:
    """With every edge masked, with either side the one that is there as a whole, and by lists."""
    x, y = make_places(0, 2, m_x, d, kind), make_places(1, 2, m_y, d, kind)
    weight_x, weight_y = make_weight(2, x), make_weight(3, y)
    expected = score_reference(x, y, weight_x, weight_y)
    found = scores(x, y, weight_x, weight_y)
    assert found.dtype == torch.float32
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(found, expected, **tolerance)
    lists = torch.tensor([[1, 1], [0, 1]], device=DEVICE)
    chosen = scores(x, y, weight_x, weight_y, lists)
    torch.testing.assert_close(chosen, expected.gather(1, lists), **tolerance)


@pytest.mark.parametrize(
    ("kind", "m_x", "m_y"),
    [*((kind, 17, 33) for kind in TYPES), ("int8", 33, 18), ("int8", 16, 33), ("int8", 33, 16)],
)
def test_maps_larger_than_a_program_equal_the_reference(
    kind: str, m_x: int, m_y: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a program could hold 16 places: in chunks where both maps have more."""
    monkeypatch.setattr(places_triton, "_WHOLE_LIMIT", 16)
    x, y = make_places(0, 1, m_x, 9, kind), make_places(1, 2, m_y, 9, kind)
    weight_x, weight_y = make_weight(2, x), make_weight(3, y)
    expected = score_reference(x, y, weight_x, weight_y)
    torch.testing.assert_close(scores(x, y, weight_x, weight_y), expected, rtol=1e-4, atol=1e-4)
    lists = torch.tensor([[1]], device=DEVICE)
    chosen = scores(x, y, weight_x, weight_y, lists)
    torch.testing.assert_close(chosen, expected.gather(1, lists), rtol=1e-4, atol=1e-4)


def test_many_pairs_are_several_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch takes whole queries, at least one."""
    x, y = make_places(0, 5, 3, 4, "int8"), make_places(1, 2, 4, 4, "int8")
    weight_x, weight_y = make_weight(2, x), make_weight(3, y)
    expected = score_reference(x, y, weight_x, weight_y)
    lists = torch.tensor([[1], [0], [1], [0], [1]], device=DEVICE)
    for pairs in (1, 5):
        monkeypatch.setattr(places_triton, "_PAIRS_PER_LAUNCH", pairs)
        torch.testing.assert_close(scores(x, y, weight_x, weight_y), expected, rtol=1e-4, atol=1e-4)
        chosen = scores(x, y, weight_x, weight_y, lists)
        torch.testing.assert_close(chosen, expected.gather(1, lists), rtol=1e-4, atol=1e-4)


def test_matches_below_zero_are_no_edges() -> None:
    """Where all cosines are negative, the zeros beyond the edges do not win."""
    x = keep(F.normalize(torch.rand(1, 5, 3) + 0.1, dim=2), torch.zeros(1, 5)).to(DEVICE)
    y = Places(-x.numbers, x.scales, x.common)
    weight = torch.ones(1, 5, device=DEVICE)
    expected = score_reference(x, y, weight, weight)
    assert float(expected) < 0
    torch.testing.assert_close(scores(x, y, weight, weight), expected, rtol=1e-4, atol=1e-4)


def test_views_are_scored_as_their_copies() -> None:
    """A slice of pictures, and weights that lie apart in memory."""
    x, y = make_places(0, 5, 7, 8, "int8"), make_places(1, 1, 7, 8, "int8")
    weight_x, weight_y = make_weight(2, make_places(0, 5, 14, 1, "int8"))[:, ::2], make_weight(3, y)
    expected = score_reference(x, y, weight_x, weight_y)[2:5]
    found = scores(x[2:5], y, weight_x[2:5], weight_y)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    turned = Places(x.numbers.transpose(1, 2).contiguous().transpose(1, 2), x.scales, x.common)
    found = scores(turned[2:5], y, weight_x[2:5], weight_y)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not ON_GPU, reason="no CUDA GPU: scoring takes the kernel only there")
@pytest.mark.parametrize("kind", ["int8", "bf16", "fp32"])
def test_scores_on_the_gpu_equal_those_on_the_cpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = make_places(0, 5, 40, 30, kind), make_places(1, 70, 36, 30, kind)
    weight_x, weight_y = make_weight(2, x), make_weight(3, y)
    lists = torch.randint(70, (5, 9), device=DEVICE)
    cpu = score_block(x.to("cpu"), y.to("cpu"), weight_x, weight_y).to(DEVICE)
    for fused in (places._fused(), None):
        monkeypatch.setattr(places, "_fused", lambda fused=fused: fused)
        torch.testing.assert_close(score_block(x, y, weight_x, weight_y), cpu, rtol=1e-3, atol=1e-3)
        chosen = score_lists(x, y, lists, weight_x, weight_y)
        torch.testing.assert_close(chosen, cpu.gather(1, lists), rtol=1e-3, atol=1e-3)
