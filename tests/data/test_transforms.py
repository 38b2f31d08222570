"""From a picture to the network's input: sizes, bounds and shares of the random changes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from kronreid.data.transforms import (
    AugmentOptions,
    InputOptions,
    TrainTransform,
    normalise,
    resize,
    to_tensor,
)
from kronreid.errors import InputError

NONE = AugmentOptions(flip=0, erase=0)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_to_tensor() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    tensor = to_tensor(Image.fromarray(pixels))
    assert tensor.dtype == torch.uint8
    for row, column, channel in ((0, 0, 0), (4, 1, 2), (2, 3, 1)):
        assert tensor[channel, row, column] == pixels[row, column, channel]


def test_resize() -> None:
    options = InputOptions(64, 32)
    picture = noise(64, 32)
    assert torch.equal(resize(picture, options), picture)
    # Antialiased: stripes average out; plain bilinear sampling would alias to 0 or 255.
    stripes = torch.zeros(3, 256, 128, dtype=torch.uint8)
    stripes[:, ::2] = 255
    assert (resize(stripes, options)[:, 4:-4].int() - 127).abs().max() <= 2


def test_normalise() -> None:
    options = InputOptions(64, 32, mean=(0.5, 0.25, 0.1), std=(0.5, 0.2, 0.4))
    batch = torch.stack([noise(64, 32, seed) for seed in (1, 2)])
    result = normalise(batch, options)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    for n, channel, row, column in ((0, 0, 0, 0), (1, 1, 63, 31), (1, 2, 5, 7)):
        value = float(batch[n, channel, row, column]) / 255
        expected = (value - options.mean[channel]) / options.std[channel]
        assert float(result[n, channel, row, column]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"height": 16}, {"width": 8}, {"std": (0.2, 0.0, 0.2)}], ids=["height", "width", "std"]
)
def test_input_options_refuse(wrong: dict) -> None:
    with pytest.raises(InputError, match="input"):
        InputOptions(**wrong)


def test_without_changes_it_is_a_plain_resize() -> None:
    options = InputOptions(96, 48)
    picture = noise(128, 64)
    assert torch.equal(TrainTransform(options, NONE)(picture), resize(picture, options))


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 60)),
    low=st.floats(0.05, 1.0),
    aspect=st.floats(0.5, 3.0),
    chances=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 1)),
    seed=st.integers(0, 2**32),
)
def test_any_picture_becomes_the_networks_size(
    size: tuple[int, int], low: float, aspect: float, chances: tuple[float, ...], seed: int
) -> None:
    flip, erase, shift, colour = chances
    augment = AugmentOptions((low, 1.0), (aspect, aspect + 1), flip, shift, erase, colour)
    transform = TrainTransform(InputOptions(64, 32), augment)
    picture = noise(*size)
    before = picture.clone()
    torch.manual_seed(seed)
    result = transform(picture)
    assert result.shape == (3, 64, 32)
    assert result.dtype == torch.uint8
    assert torch.equal(picture, before), "the decoded picture is kept and must stay as it was"
    torch.manual_seed(seed)
    assert torch.equal(transform(picture), result)


def test_crop_box_of_the_paper() -> None:
    """HOReID, Sec. VI-B: area 0.64 to 1, height:width 2 to 3 in the network's pixels, anywhere."""
    transform = TrainTransform(InputOptions(384, 128), AugmentOptions((0.64, 1.0), (2.0, 3.0)))
    torch.manual_seed(0)
    boxes = np.array([transform._crop_box() for _ in range(2000)])
    top, left, height, width = boxes.T
    assert (boxes >= 0).all()
    assert max((top + height).max(), (left + width).max()) <= 1 + 1e-6
    area, aspect = height * width, height * 384 / (width * 128)
    assert area.min() >= 0.64 - 1e-6
    assert aspect.min() >= 2 - 1e-6
    assert aspect.max() <= 3 + 1e-6
    # The whole range is used, up to the widest cuts: area · 3 / 2 ≤ 1 holds for areas up to 2/3 only.
    assert area.min() < 0.66
    assert area.max() > 0.95
    assert aspect.min() < 2.05
    assert aspect.max() > 2.95
    assert np.ptp(top) > 0.2
    assert np.ptp(left) > 0.1
    room = np.flatnonzero(1 - height > 0.01)
    assert abs((top[room] / (1 - height[room])).mean() - 0.5) < 0.05


@settings(deadline=None)
@given(
    area=st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)).map(sorted),
    aspect=st.tuples(st.floats(0.5, 4.0), st.floats(0.5, 4.0)).map(sorted),
    shape=st.sampled_from([(384, 128), (256, 128), (128, 128)]),
    seed=st.integers(0, 2**32),
)
def test_crop_box_keeps_within_its_bounds(
    area: list[float], aspect: list[float], shape: tuple[int, int], seed: int
) -> None:
    augment = AugmentOptions((area[0], area[1]), (aspect[0], aspect[1]))
    torch.manual_seed(seed)
    top, left, height, width = TrainTransform(InputOptions(*shape), augment)._crop_box()
    assert min(top, left) >= 0
    assert max(top + height, left + width) <= 1 + 1e-6
    if (top, left, height, width) != (
        0,
        0,
        1,
        1,
    ):  # where no cut of that shape fits, the whole picture is taken
        assert area[0] - 1e-5 <= height * width <= area[1] + 1e-5
        assert aspect[0] - 1e-5 <= height * shape[0] / (width * shape[1]) <= aspect[1] + 1e-5


def test_the_cut_is_what_the_box_says() -> None:
    """A picture whose values are its coordinates shows which part was taken."""
    height, width = 120, 60
    rows, columns = torch.meshgrid(torch.arange(height) * 2, torch.arange(width) * 4, indexing="ij")
    picture = torch.stack([rows, columns, rows]).to(torch.uint8)
    transform = TrainTransform(InputOptions(128, 64), AugmentOptions((0.5, 0.6), (1.5, 2.5), flip=0, erase=0))
    for seed in range(20):
        torch.manual_seed(seed)
        top, left, h, w = transform._crop_box()
        torch.manual_seed(seed)
        result = transform(picture).float()
        low_row, high_row = float(result[0].min()) / 2, float(result[0].max()) / 2
        low_column, high_column = float(result[1].min()) / 4, float(result[1].max()) / 4
        assert low_row == pytest.approx(top * height, abs=1.5)
        assert high_row == pytest.approx((top + h) * height - 1, abs=1.5)
        assert low_column == pytest.approx(left * width, abs=1.5)
        assert high_column == pytest.approx((left + w) * width - 1, abs=1.5)


def test_flip() -> None:
    options = InputOptions(64, 32)
    picture = noise(64, 32)
    mirrored = picture.flip(-1)
    always = TrainTransform(options, AugmentOptions(flip=1, erase=0))
    assert torch.equal(always(picture), mirrored)
    torch.manual_seed(0)
    half = TrainTransform(options, AugmentOptions(flip=0.5, erase=0))
    results = [half(picture) for _ in range(200)]
    assert all(torch.equal(result, picture) or torch.equal(result, mirrored) for result in results)
    assert 70 <= sum(torch.equal(result, mirrored) for result in results) <= 130


def test_shift_repeats_the_edges() -> None:
    height, width, largest = 40, 20, 0.1
    picture = noise(height, width)
    transform = TrainTransform(InputOptions(height, width), AugmentOptions(flip=0, erase=0, shift=largest))
    seen = set()
    torch.manual_seed(0)
    for _ in range(60):
        result = transform(picture)
        matches = [
            (dy, dx)
            for dy in range(-4, 5)
            for dx in range(-2, 3)
            if all(
                torch.equal(
                    result[:, r, c],
                    picture[:, min(max(r + dy, 0), height - 1), min(max(c + dx, 0), width - 1)],
                )
                for r, c in ((0, 0), (39, 19), (20, 10), (3, 17), (36, 2))
            )
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {-3, 0, 3} <= {dy for dy, _ in seen}
    assert {-1, 0, 1} <= {dx for _, dx in seen}


def test_colours_change_within_their_bounds() -> None:
    options = InputOptions(64, 32)
    transform = TrainTransform(options, AugmentOptions(flip=0, erase=0, colour=0.2))
    torch.manual_seed(0)
    # On one grey, contrast and saturation change nothing: what is left is the brightness.
    grey = torch.full((3, 64, 32), 100, dtype=torch.uint8)
    values = [transform(grey).unique().tolist() for _ in range(100)]
    assert all(len(value) == 1 for value in values)
    assert 79 <= min(values)[0] < 85  # rounded down
    assert 115 < max(values)[0] <= 120
    # Two greys come nearer or farther by the contrast, and a red stays redder than green and blue.
    halves = grey.clone()
    halves[:, 32:] = 140
    results = [transform(halves).int() for _ in range(100)]
    steps = [int(result[0, 40, 0] - result[0, 8, 0]) for result in results]
    assert 24 <= min(steps) < 32 < 48 < max(steps) <= 59  # 40 times 0.8² to 1.2², rounded
    red = grey.clone()
    red[0] = 150
    colours = [transform(red)[:, 0, 0].int().tolist() for _ in range(100)]
    assert all(r > g == b for r, g, b in colours)
    assert len({r - g for r, g, _ in colours}) > 10


def test_erased_rectangle() -> None:
    options = InputOptions(64, 32, mean=(0.2, 0.4, 0.6))
    grey = torch.tensor([51, 102, 153], dtype=torch.uint8)
    picture = torch.zeros(3, 64, 32, dtype=torch.uint8)
    transform = TrainTransform(options, AugmentOptions(flip=0, erase=1))
    torch.manual_seed(0)
    shares = []
    for _ in range(50):
        result = transform(picture)
        rows, columns = torch.nonzero((result == grey[:, None, None]).all(0), as_tuple=True)
        if len(rows) == 0:  # torchvision gives up after ten rectangles that do not fit
            assert torch.equal(result, picture)
            continue
        top, left = int(rows.min()), int(columns.min())
        height, width = int(rows.max()) + 1 - top, int(columns.max()) + 1 - left
        expected = picture.clone()
        expected[:, top : top + height, left : left + width] = grey[:, None, None]
        assert torch.equal(result, expected)
        shares.append(height * width / (64 * 32))
    assert len(shares) > 40
    assert min(shares) > 0.01
    assert max(shares) < 0.45
    assert max(shares) - min(shares) > 0.2
