"""HOReID: deep high-order mapping enhances pose alignment for person re-identification (Wang et al.).

Average pooling compares every place of one picture with every place of the other and gives all pairs of
places the same weight (Eq. 2). HOReID multiplies the similarities of several feature levels (Eq. 3). Pairs
that agree on all levels, which are the aligned ones, then outweigh the rest. By Theorem 1 this product is the
inner product of two Kronecker products, and count sketches keep those small (Eq. 9, 10). Names and equation
numbers are the paper's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronreid.errors import InputError
from kronreid.models.backbone import RESNET50, Backbone, BackboneOptions, initialise
from kronreid.models.embedding import Embedding
from kronreid.ops.sketch import CountSketch, high_order_pooling

#: Seed of the count sketches, which are random but fixed. Each level of each layer adds its own offset.
SKETCH_SEED = 20_180_618
#: What separate samplers may read (Table I).
SAMPLER_READS = ("levels", "maps")


class ResidualBlock(nn.Module):
    """X_{l+1} = X_l + ReLU(BN(conv(X_l))) with a 1×1 convolution (Sec. IV-A) or a 3×3 one (Table I).

    Args:
        channels: Channels of X_l.
        kernel: Kernel size, 1 or 3.
    """

    def __init__(self, channels: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.norm(self.conv(x)))


class Hierarchy(nn.Module):
    """The backbone and the hierarchy of levels on top of it (Sec. IV-A).

    Args:
        backbone: The backbone.
        order: n, the number of levels, positive.
        channels: Channels of X_l, positive.
        kernel: Kernel size of the residual blocks, 1 or 3.
        hierarchical: False leaves out the residual blocks, so that X_l = X_1 (Table I).

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        backbone: BackboneOptions,
        order: int,
        channels: int,
        kernel: int = 1,
        hierarchical: bool = True,
    ) -> None:
        super().__init__()
        if order < 1 or channels < 1:
            raise InputError("model", f"order {order} and channels {channels} must be positive")
        if kernel not in (1, 3):
            raise InputError("model.kernel", f"{kernel}; give 1 or 3, the kernel size of the residual blocks")
        self.order = order
        self.backbone = Backbone(backbone, levels=2)
        self.reduce = nn.Conv2d(self.backbone.channels[-1], channels, 1, bias=False)
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, kernel) for _ in range(order - 1 if hierarchical else 0)
        )

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images (N, 3, H, W) to the maps that `Embedding.maps` names."""
        below, last = self.backbone(images)
        levels = [self.reduce(last)]
        for block in self.blocks:
            levels.append(block(levels[-1]))
        levels = levels if self.blocks else levels * self.order
        return {f"X_{number}": level for number, level in enumerate(levels, start=1)} | {"below": below}

    def levels(self, images: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to the hierarchy {X_l}, (N, C, h, w) each."""
        return hierarchy(self.maps(images))


def hierarchy(maps: dict[str, Tensor]) -> list[Tensor]:
    """The levels {X_l} of the maps that `Hierarchy.maps` gives, X_1 first."""
    return [level for name, level in maps.items() if name.startswith("X_")]


def level_maps(order: int, channels: int, relu: bool) -> nn.ModuleList:
    """The layers that map X_l to G_l or Ḡ_l, one per level: a 1×1 convolution, optionally with a ReLU."""
    convs = [nn.Conv2d(channels, channels, 1, bias=False) for _ in range(order)]
    return nn.ModuleList(nn.Sequential(conv, nn.ReLU()) if relu else conv for conv in convs)


class GlobalHierarchicalPooling(nn.Module):
    """GHP (Sec. IV-B): the high-order product of the levels, averaged over all places.

    Args:
        order: n, the number of levels.
        channels: Channels of X_l and G_l.
        dimension: D_g, the length of the sketched product, even.
        relu: Add a ReLU after every G_l (Table I).
    """

    def __init__(self, order: int, channels: int, dimension: int, relu: bool = False) -> None:
        super().__init__()
        self.convs = level_maps(order, channels, relu)
        self.sketches = nn.ModuleList(
            CountSketch(channels, dimension, seed=SKETCH_SEED + level) for level in range(order)
        )

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Pool the levels X_l (N, C, H, W) to g̃ (N, D), L2-normalised."""
        maps = [conv(x).flatten(2) for conv, x in zip(self.convs, levels)]  # G_l
        return F.normalize(high_order_pooling(maps, list(self.sketches)))  # type: ignore[arg-type]


def sampling_maps(sampler: nn.Conv2d, levels: list[Tensor]) -> Tensor:
    """The sampler's maps: Eq. 11 and the softmax of Eq. 12.

    Args:
        sampler: A 1×1 convolution over the concatenated levels. It has n groups if each level has its own
            sampler.
        levels: The levels X_l (N, C, H, W).

    Returns:
        (N, P, H·W) float32; each map says where a part is sampled and sums to 1. Grouped samplers give
        (N, n·P, H·W), level by level.
    """
    return sampler(torch.cat(levels, dim=1)).flatten(2).float().softmax(dim=2)


def where_to_look(sampler: nn.Conv2d, levels: list[Tensor]) -> list[Tensor]:
    """The sampler's maps for each level, transposed to (N, H·W, P)."""
    maps = sampling_maps(sampler, levels).transpose(1, 2)
    return list(maps.chunk(sampler.groups, dim=2)) if sampler.groups > 1 else [maps] * len(levels)


class LocalHierarchicalPooling(nn.Module):
    """LHP (Sec. IV-C): the high-order product of P sampled parts.

    Args:
        order: n, the number of levels.
        channels: Channels of X_l, Ḡ_l and P_l.
        dimension: D_p, the length of the sketched product, even.
        parts: P, the number of parts.
        relu: Add a ReLU after every Ḡ_l (Table I).
        shared_sampler: One sampler reads all levels and samples from all. Otherwise each level has its own
            sampler, which reads only that level (Table I).
        sampler_reads: What the samplers read: ``levels``, the X_l, or ``maps``, the Ḡ_l that they sample.
    """

    def __init__(
        self,
        order: int,
        channels: int,
        dimension: int,
        parts: int,
        relu: bool = False,
        shared_sampler: bool = True,
        sampler_reads: str = "levels",
    ) -> None:
        super().__init__()
        self.convs = level_maps(order, channels, relu)
        self.reads_maps = sampler_reads == "maps"
        # No bias: a constant per map does not change a softmax over places.
        groups = 1 if shared_sampler else order
        self.sampler = nn.Conv2d(order * channels, groups * parts, 1, groups=groups, bias=False)
        self.sketches = nn.ModuleList(
            CountSketch(channels, dimension, seed=SKETCH_SEED + 100 + level) for level in range(order)
        )

    def maps(self, levels: list[Tensor], values: list[Tensor] | None = None) -> Tensor:
        """The sampler's maps, see `sampling_maps`. The arguments are those of `forward`; the values are by
        default the levels.
        """
        read = [conv(x) for conv, x in zip(self.convs, values or levels)] if self.reads_maps else levels
        return sampling_maps(self.sampler, read)

    def forward(self, levels: list[Tensor], values: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Sample and pool the parts.

        Args:
            levels: The levels X_l (N, C, H, W), which the sampler reads unless it reads the Ḡ_l.
            values: The levels that the convolutions read: X_l, or X_l normalised.

        Returns:
            p̃ (N, D), L2-normalised, and the parts P_l (N, C, P) of each level.
        """
        maps = [conv(x) for conv, x in zip(self.convs, values)]  # Ḡ_l
        where = where_to_look(self.sampler, maps if self.reads_maps else levels)
        parts = [each.flatten(2).float() @ w for each, w in zip(maps, where)]  # Eq. 12
        pooled = high_order_pooling(parts, list(self.sketches))  # type: ignore[arg-type]  # Eq. 14, 15
        return F.normalize(pooled), parts


class HOReID(Hierarchy):
    """The complete embedding model (Fig. 3).

    Args:
        backbone: The backbone; the paper uses ResNet-50 with last stride 1.
        order: n, the number of levels that are multiplied.
        channels: Channels of X_l, G_l and P_l.
        dimension: D_g and D_p, the length of the sketched product; even.
        parts: P, the number of sampled parts; 0 leaves LHP out.
        normalise_levels: L2-normalise X_l at every place before G_l. A product of n levels raises differences
            of magnitude between places to the n-th power, so after a short training a few places of large
            magnitude dominate the pooled vector. Not in the paper.
        first_order: Add a triplet loss on the average-pooled X_1 in training, so that the backbone also
            learns through a linear path. Not in the paper. The descriptor does not contain X_1.
        ghp: Use GHP; False uses LHP alone (Fig. 7).
        kernel: Kernel size of the residual blocks, 1 or 3 (Table I).
        relu: Add a ReLU after every G_l and Ḡ_l (Table I).
        hierarchical: Use residual blocks between the levels; False makes all levels X_1 (Table I).
        shared_sampler: Use one sampler for all levels; False uses one per level (Table I).
        sampler_reads: What separate samplers read: ``levels``, their level X_l, or ``maps``, their map Ḡ_l. A
            shared sampler reads all levels (Eq. 11).

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        backbone: BackboneOptions = RESNET50,
        order: int = 3,
        channels: int = 512,
        dimension: int = 512,
        parts: int = 256,
        normalise_levels: bool = False,
        first_order: bool = False,
        ghp: bool = True,
        kernel: int = 1,
        relu: bool = False,
        hierarchical: bool = True,
        shared_sampler: bool = True,
        sampler_reads: str = "levels",
    ) -> None:
        if sampler_reads not in SAMPLER_READS or (shared_sampler and sampler_reads != "levels"):
            raise InputError(
                "model.sampler_reads",
                f"{sampler_reads!r}; give one of {', '.join(SAMPLER_READS)}, and maps only with "
                "shared_sampler: false",
            )
        if parts < 0 or not (ghp or parts):
            raise InputError(
                "model.parts", f"{parts}; give at least 0 with GHP, and at least 1 without (ghp: false)"
            )
        if dimension < 2 or dimension % 2:
            raise InputError(
                "model.dimension", f"{dimension}; give an even number, which the inverse real FFT needs"
            )
        super().__init__(backbone, order, channels, kernel, hierarchical)
        self.ghp = GlobalHierarchicalPooling(order, channels, dimension, relu) if ghp else None
        self.lhp = (
            LocalHierarchicalPooling(order, channels, dimension, parts, relu, shared_sampler, sampler_reads)
            if parts
            else None
        )
        self.normalise_levels = normalise_levels
        self.first_order = first_order
        self.dimension = dimension * (ghp + (parts > 0))
        initialise(self.reduce, self.blocks)
        if self.ghp is not None:
            initialise(self.ghp.convs)
        if self.lhp is not None:
            initialise(self.lhp.convs, self.lhp.sampler)

    def forward(self, images: Tensor) -> Embedding:
        """Embed normalised images (N, 3, H, W); the descriptor concatenates the vectors of GHP and LHP."""
        maps = self.maps(images)
        levels = hierarchy(maps)
        values = self._values(levels)
        branches: dict[str, Tensor] = {}
        parts: list[Tensor] = []
        if self.ghp is not None:
            branches["global"] = self.ghp(values)
        if self.lhp is not None:
            branches["local"], parts = self.lhp(levels, values)
        descriptor = F.normalize(torch.cat(list(branches.values()), dim=1))
        if self.first_order:
            branches["first-order"] = F.normalize(levels[0].float().mean((2, 3)))
        return Embedding(descriptor, branches, parts, maps)

    def _values(self, levels: list[Tensor]) -> list[Tensor]:
        """What the convolutions to G_l and Ḡ_l read: the levels, or the normalised levels."""
        return [F.normalize(level.float(), dim=1) for level in levels] if self.normalise_levels else levels

    def part_maps(self, images: Tensor) -> Tensor:
        """The sampler's maps of normalised images (N, 3, H, W) (Fig. 6).

        Returns:
            (N, P, h, w) float32, each map summing to 1; (N, n·P, h, w), level by level, if each level has its
            own sampler.

        Raises:
            InputError: The model has no parts.
        """
        if self.lhp is None:
            raise InputError("model", "it has no parts (parts: 0), so there are no sampler maps to show")
        levels = self.levels(images)
        return self.lhp.maps(levels, self._values(levels)).view(len(images), -1, *levels[0].shape[2:])
