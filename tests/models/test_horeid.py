"""HOReID against loops written from the paper: Eq. 10 as a circular convolution of sketches, 11 to 15."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.losses.regulariser import sampler_regulariser
from kronreid.losses.triplet import triplet_loss
from kronreid.models.backbone import BackboneOptions
from kronreid.models.horeid import GlobalHierarchicalPooling, HOReID, LocalHierarchicalPooling
from kronreid.ops.sketch import CountSketch

Array = np.ndarray


def double(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def sketched(sketch: CountSketch, vector: Array) -> Array:
    """Ψ: every channel is added, with its sign, to its bin."""
    result = np.zeros(sketch.dimension)
    for channel, value in enumerate(vector):
        result[int(sketch.h[channel])] += float(sketch.s[channel]) * value
    return result


def convolved(a: Array, b: Array) -> Array:
    """The circular convolution ⊛ of Eq. 9."""
    size = len(a)
    result = np.zeros(size)
    for i in range(size):
        for j in range(size):
            result[(i + j) % size] += a[i] * b[j]
    return result


def high_order(sketches: nn.ModuleList, vectors: list[Array]) -> Array:
    """Eq. 10 and 14: Ψ of the levels' Kronecker product, from the levels' own sketches."""
    result = sketched(sketches[0], vectors[0])  # type: ignore[arg-type]
    for sketch, vector in zip(list(sketches)[1:], vectors[1:]):
        result = convolved(result, sketched(sketch, vector))  # type: ignore[arg-type]
    return result


def at_place(convolution: nn.Module, maps: Array, row: int, column: int) -> Array:
    """A 1×1 convolution without bias at one place of (C, H, W)."""
    return double(convolution.weight)[:, :, 0, 0] @ maps[:, row, column]  # type: ignore[arg-type]


def pooled_globally(ghp: GlobalHierarchicalPooling, levels: list[Array]) -> Array:
    """g̃ of one picture: Eq. 10 at every place, GAP, l2 normalisation."""
    height, width = levels[0].shape[1:]
    total = np.zeros(ghp.sketches[0].dimension)  # type: ignore[arg-type]
    for row in range(height):
        for column in range(width):
            vectors = [at_place(conv, level, row, column) for conv, level in zip(ghp.convs, levels)]
            total += high_order(ghp.sketches, vectors)
    mean = total / (height * width)
    return mean / np.sqrt((mean**2).sum())


def sampled(lhp: LocalHierarchicalPooling, levels: list[Array], values: list[Array]) -> list[list[Array]]:
    """P_l^p of Eq. 11 and 12 of one picture, by level and part; the sampler reads `levels`."""
    height, width = levels[0].shape[1:]
    places = [(row, column) for row in range(height) for column in range(width)]
    result: list[list[Array]] = [[] for _ in levels]
    for part, kernel in enumerate(double(lhp.sampler.weight)[:, :, 0, 0]):
        assert part < lhp.sampler.out_channels
        confidence = [
            float(kernel @ np.concatenate([level[:, row, column] for level in levels]))
            for row, column in places
        ]
        exponentials = np.exp(confidence)
        for number, (conv, value) in enumerate(zip(lhp.convs, values)):
            total = np.zeros(conv.out_channels)  # type: ignore[arg-type]
            for (row, column), exponential in zip(places, exponentials):
                total += at_place(conv, value, row, column) * exponential / exponentials.sum()
            result[number].append(total)
    return result


def pooled_locally(lhp: LocalHierarchicalPooling, parts: list[list[Array]]) -> Array:
    """p̃ of one picture: Eq. 14 for every part, Eq. 15, l2 normalisation."""
    count = len(parts[0])
    total = np.zeros(lhp.sketches[0].dimension)  # type: ignore[arg-type]
    for part in range(count):
        total += high_order(lhp.sketches, [level[part] for level in parts])
    mean = total / count
    return mean / np.sqrt((mean**2).sum())


def random_levels(order: int, channels: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(order)
    return [torch.randn(2, channels, 4, 3, generator=generator) for _ in range(order)]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_ghp_eq_10(order: int) -> None:
    torch.manual_seed(0)
    ghp = GlobalHierarchicalPooling(order, channels=6, dimension=8)
    levels = random_levels(order)
    result = ghp(levels)
    assert result.shape == (2, 8)
    for picture in range(2):
        expected = pooled_globally(ghp, [double(level[picture]) for level in levels])
        np.testing.assert_allclose(double(result[picture]), expected, atol=1e-6)


def rectified(convolution: nn.Module, maps: Array, row: int, column: int) -> Array:
    """The same and a ReLU after it."""
    assert isinstance(convolution, nn.Sequential)
    return np.maximum(at_place(convolution[0], maps, row, column), 0)


def test_relu_after_the_level_maps() -> None:
    """Table I: elementwise non-negative G_l and Ḡ_l; the rest is Eq. 10 and Eq. 12 as they are."""
    torch.manual_seed(0)
    ghp = GlobalHierarchicalPooling(2, channels=6, dimension=8, relu=True)
    lhp = LocalHierarchicalPooling(2, channels=6, dimension=8, parts=3, relu=True)
    levels = random_levels(2)
    result, parts = lhp(levels, levels)
    where = double(lhp.maps(levels))
    for picture in range(2):
        maps = [double(level[picture]) for level in levels]
        total = np.zeros(8)
        sums = [np.zeros((6, 3)), np.zeros((6, 3))]
        for place, (row, column) in enumerate((row, column) for row in range(4) for column in range(3)):
            vectors = [rectified(conv, level, row, column) for conv, level in zip(ghp.convs, maps)]
            total += high_order(ghp.sketches, vectors)
            for level, conv in enumerate(lhp.convs):
                vector = rectified(conv, maps[level], row, column)
                sums[level] += vector[:, None] * where[picture, :, place]
        np.testing.assert_allclose(double(ghp(levels)[picture]), total / np.sqrt((total**2).sum()), atol=1e-6)
        for level in range(2):
            np.testing.assert_allclose(double(parts[level][picture]), sums[level], atol=1e-6)
        expected = pooled_locally(lhp, [list(of_level.T) for of_level in sums])
        np.testing.assert_allclose(double(result[picture]), expected, atol=1e-6)


@pytest.mark.parametrize("reads", ["levels", "maps"])
def test_unshared_samplers_read_their_own_level(reads: str) -> None:
    """Table I: a softmax of one level's own maps, for that level's parts only. It may read X_l or Ḡ_l."""
    torch.manual_seed(0)
    lhp = LocalHierarchicalPooling(
        3, channels=6, dimension=8, parts=4, shared_sampler=False, sampler_reads=reads
    )
    levels = random_levels(3)
    result, parts = lhp(levels, levels)
    kernel = double(lhp.sampler.weight)[:, :, 0, 0]
    assert kernel.shape == (3 * 4, 6)
    assert lhp.maps(levels).shape == (2, 12, 12)
    for picture in range(2):
        expected: list[list[Array]] = [[], [], []]
        for number, conv in enumerate(lhp.convs):
            level = double(levels[number][picture]).reshape(6, 12)
            values = double(conv.weight)[:, :, 0, 0] @ level  # type: ignore[arg-type]
            for part in range(4):
                exponentials = np.exp(kernel[4 * number + part] @ (values if reads == "maps" else level))
                expected[number].append(values @ (exponentials / exponentials.sum()))
        for level_parts, wanted in zip(parts, expected, strict=True):
            np.testing.assert_allclose(double(level_parts[picture]).T, wanted, atol=1e-6)
        np.testing.assert_allclose(double(result[picture]), pooled_locally(lhp, expected), atol=1e-6)


def test_what_separate_samplers_read_is_no_option_of_a_shared_one(
    small: Callable[[int], BackboneOptions],
) -> None:
    for options in ({"sampler_reads": "maps"}, {"sampler_reads": "all", "shared_sampler": False}):
        with pytest.raises(InputError, match=r"^model\.sampler_reads: "):
            HOReID(small(1), channels=8, dimension=8, parts=2, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_lhp_eq_11_to_15(order: int) -> None:
    torch.manual_seed(0)
    lhp = LocalHierarchicalPooling(order, channels=6, dimension=8, parts=3)
    levels = random_levels(order)
    values = [level.flip(0) for level in levels]  # the sampler and the convolutions may see different maps
    result, parts = lhp(levels, values)
    assert [tuple(level.shape) for level in parts] == [(2, 6, 3)] * order
    maps = lhp.maps(levels)
    assert maps.shape == (2, 3, 12)
    torch.testing.assert_close(maps.sum(2), torch.ones(2, 3))
    for picture in range(2):
        expected = sampled(lhp, *([double(level[picture]) for level in each] for each in (levels, values)))
        for level, wanted in zip(parts, expected, strict=True):
            np.testing.assert_allclose(double(level[picture]).T, wanted, atol=1e-6)
        np.testing.assert_allclose(double(result[picture]), pooled_locally(lhp, expected), atol=1e-6)


def test_levels_are_a_residual_cascade(horeid: HOReID, images: Tensor) -> None:
    """X_1 is the reduced backbone map, X_{l+1} = X_l + ReLU(BN(conv(X_l)))."""
    with torch.no_grad():
        levels = horeid.levels(images[:2])
        backbone = horeid.backbone(images[:2])[-1]
    assert len(levels) == 3
    assert all(level.shape == (2, 8, 4, 2) for level in levels)
    for picture, row, column in ((0, 0, 0), (1, 3, 1)):
        x = double(levels[0])[picture, :, row, column]
        expected = at_place(horeid.reduce, double(backbone)[picture], row, column)
        np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)
        for number, block in enumerate(horeid.blocks):
            y = double(block.conv.weight)[:, :, 0, 0] @ x  # type: ignore[union-attr,arg-type]
            norm = block.norm
            assert isinstance(norm, nn.BatchNorm2d)
            mean, var = double(norm.running_mean), double(norm.running_var)  # type: ignore[arg-type]
            y = (y - mean) / np.sqrt(var + norm.eps) * double(norm.weight) + double(norm.bias)
            x = x + np.maximum(y, 0)
            np.testing.assert_allclose(
                double(levels[number + 1])[picture, :, row, column], x, rtol=1e-3, atol=1e-4
            )


def test_kernels_of_three_see_their_neighbours(small: Callable[[int], BackboneOptions]) -> None:
    """Table I: the residual blocks' convolution is 3×3, padded with zeros; nothing else is."""
    model = HOReID(small(1), order=2, channels=4, dimension=8, parts=2, kernel=3).eval()
    block = model.blocks[0]
    x = torch.randn(1, 4, 5, 3)
    with torch.no_grad():
        result = double(block(x))[0]
    kernel, padded = double(block.conv.weight), np.pad(double(x)[0], ((0, 0), (1, 1), (1, 1)))  # type: ignore[union-attr,arg-type]
    for row in range(5):
        for column in range(3):
            y = (kernel * padded[:, row : row + 3, column : column + 3]).sum((1, 2, 3)) / np.sqrt(1 + 1e-5)
            expected = double(x)[0, :, row, column] + np.maximum(y, 0)
            np.testing.assert_allclose(result[:, row, column], expected, atol=1e-5)
    sizes = {name: m.kernel_size for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    odd = [name for name, size in sizes.items() if size != (1, 1) and not name.startswith("backbone.")]
    assert odd == ["blocks.0.conv"]


def test_without_hierarchy_all_levels_are_the_first(
    small: Callable[[int], BackboneOptions], images: Tensor
) -> None:
    model = HOReID(small(1), order=3, channels=8, dimension=16, parts=4, hierarchical=False).eval()
    with torch.no_grad():
        levels = model.levels(images[:2])
        first = model.reduce(model.backbone(images[:2])[-1])
        embedding = model(images[:2])
    assert len(levels) == 3
    assert all(torch.equal(level, first) for level in levels)
    assert len(embedding.parts) == 3
    assert not [name for name, _ in model.named_parameters() if name.startswith("blocks")]


@pytest.mark.parametrize("normalise_levels", [False, True])
def test_the_whole_descriptor(horeid: HOReID, images: Tensor, normalise_levels: bool) -> None:
    """Global and local vectors side by side; the normalised levels go to the products, not to the sampler."""
    horeid.normalise_levels = normalise_levels
    try:
        with torch.no_grad():
            embedding, levels = horeid(images[:3]), horeid.levels(images[:3])
    finally:
        horeid.normalise_levels = False
    assert horeid.lhp is not None
    assert embedding.descriptor.shape == (3, horeid.dimension) == (3, 32)
    assert list(embedding.branches) == ["global", "local"]
    for picture in range(3):
        raw = [double(level[picture]) for level in levels]
        values = raw
        if normalise_levels:
            values = [level / np.sqrt((level**2).sum(axis=0, keepdims=True)) for level in raw]
        parts = sampled(horeid.lhp, raw, values)
        expected = [pooled_globally(horeid.ghp, values), pooled_locally(horeid.lhp, parts)]
        for branch, wanted in zip(embedding.branches.values(), expected):
            np.testing.assert_allclose(double(branch[picture]), wanted, atol=1e-4)
        for level, of_level in zip(embedding.parts, parts, strict=True):
            np.testing.assert_allclose(double(level[picture]).T, of_level, rtol=1e-3, atol=1e-4)
        both = np.concatenate(expected)
        np.testing.assert_allclose(
            double(embedding.descriptor[picture]), both / np.sqrt((both**2).sum()), atol=1e-4
        )


def test_pictures_get_different_descriptors(horeid: HOReID, images: Tensor) -> None:
    with torch.no_grad():
        cosines = horeid(images).descriptor @ horeid(images).descriptor.t()
    assert (cosines - torch.eye(7)).max() < 0.9999


@pytest.mark.parametrize("order", [1, 2, 3])
def test_without_parts(small: Callable[[int], BackboneOptions], images: Tensor, order: int) -> None:
    model = HOReID(small(1), order=order, channels=8, dimension=16, parts=0).eval()
    with torch.no_grad():
        embedding = model(images[:2])
    assert model.dimension == 16
    assert list(embedding.branches) == ["global"]
    assert embedding.parts == []
    torch.testing.assert_close(embedding.descriptor, embedding.branches["global"])
    with pytest.raises(InputError, match="no parts"):
        model.part_maps(images[:2])


def test_lhp_alone(horeid: HOReID, small: Callable[[int], BackboneOptions], images: Tensor) -> None:
    """Its vector is the same as beside GHP."""
    model = HOReID(small(1), order=3, channels=8, dimension=16, parts=4, ghp=False).eval()
    missing = model.load_state_dict(horeid.state_dict(), strict=False)
    assert not missing.missing_keys
    assert all(name.startswith("ghp.") for name in missing.unexpected_keys)
    with torch.no_grad():
        embedding, both = model(images[:2]), horeid(images[:2])
    assert list(embedding.branches) == ["local"]
    assert embedding.descriptor.shape == (2, model.dimension) == (2, 16)
    torch.testing.assert_close(embedding.descriptor, both.branches["local"])


def test_first_order_branch_is_for_training_only(horeid: HOReID, images: Tensor) -> None:
    with torch.no_grad():
        plain = horeid(images[:2])
        horeid.first_order = True
        try:
            result = horeid(images[:2])
        finally:
            horeid.first_order = False
        first = horeid.levels(images[:2])[0]
    assert list(result.branches) == ["global", "local", "first-order"]
    torch.testing.assert_close(result.descriptor, plain.descriptor)
    for picture in range(2):
        mean = double(first[picture]).mean(axis=(1, 2))
        expected = mean / np.sqrt((mean**2).sum())
        np.testing.assert_allclose(double(result.branches["first-order"][picture]), expected, atol=1e-5)


def test_part_maps(horeid: HOReID, images: Tensor) -> None:
    with torch.no_grad():
        maps = horeid.part_maps(images[:2])
        assert horeid.lhp is not None
        flat = horeid.lhp.maps(horeid.levels(images[:2]))
    assert maps.shape == (2, 4, 4, 2)
    assert torch.equal(maps[:, :, 1, 1], flat[:, :, 3])


def test_sketches_belong_to_the_model(horeid: HOReID, small: Callable[[int], BackboneOptions]) -> None:
    """Fixed, different for each level of each layer, saved, not trained, whatever the global seed."""
    torch.manual_seed(99)
    other = HOReID(small(1), order=3, channels=8, dimension=16, parts=4)
    assert horeid.lhp is not None
    sketches = [*horeid.ghp.sketches, *horeid.lhp.sketches]
    assert len({tuple(sketch.h.tolist()) for sketch in sketches}) == 6
    tensors, others = horeid.state_dict(), other.state_dict()
    names = [name for name in tensors if ".sketches." in name]
    assert len(names) == 12
    assert all(torch.equal(tensors[name], others[name]) for name in names)
    assert not any(".sketches." in name for name, _ in horeid.named_parameters())


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": 0},
        {"channels": 0},
        {"parts": -1},
        {"parts": 0, "ghp": False},
        {"dimension": 15},
        {"dimension": 0},
        {"kernel": 2},
    ],
    ids=str,
)
def test_options_refused(small: Callable[[int], BackboneOptions], wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        HOReID(small(1), **wrong)


@pytest.mark.parametrize(
    "options",
    [{"first_order": True}, {"relu": True, "kernel": 3}, {"ghp": False, "shared_sampler": False}],
    ids=str,
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_weight_gets_a_finite_gradient(
    small: Callable[[int], BackboneOptions], images: Tensor, precision: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = HOReID(small(1), order=3, channels=8, dimension=16, parts=4, **options).train()
    labels = torch.tensor([0, 0, 1, 1])
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        embedding = model(images[:4])
    branches = embedding.branches.values()
    loss = sum(triplet_loss(branch, labels, 2.0) for branch in branches)
    loss = loss + sampler_regulariser(embedding.parts, -1.0)
    assert isinstance(loss, Tensor)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    with torch.no_grad():
        full = model.eval()(images[:4]).descriptor
        with torch.autocast("cpu", torch.bfloat16):
            half = model(images[:4]).descriptor
    assert half.dtype == torch.float32
    assert F.cosine_similarity(full, half).min() > 0.9
