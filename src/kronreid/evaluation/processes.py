"""The few collective steps of an evaluation under torchrun; each is a no-op in a single process."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist


def processes() -> tuple[int, int]:
    """(rank, world size); (0, 1) without torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def share(length: int, grain: int) -> tuple[int, int]:
    """This process's range of `length` items, cut at multiples of `grain` so that batches stay the same.

    Equal batches give equal numbers, bit by bit, whatever the number of processes.
    """
    rank, world = processes()
    grains = -(-length // grain)
    low, high = rank * grains // world, (rank + 1) * grains // world
    return min(low * grain, length), min(high * grain, length)


def tile_edges(gallery: int, tile: int) -> list[int]:
    """Edges of tiles of at most `tile` columns, 0 first and `gallery` last; tiles are almost equally wide.

    The grid does not depend on the number of processes, so neither does a single bit of a score.
    """
    count = max(1, -(-gallery // tile))
    return [index * gallery // count for index in range(count + 1)]


def gallery_share(gallery: int, tile: int) -> tuple[int, int]:
    """The gallery columns [low, high) that this process counts: whole tiles."""
    rank, world = processes()
    edges = tile_edges(gallery, tile)
    return edges[rank * (len(edges) - 1) // world], edges[(rank + 1) * (len(edges) - 1) // world]


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """Sum of equal-shaped arrays over all processes."""
    if processes()[1] == 1:
        return values
    tensor = torch.from_numpy(np.ascontiguousarray(values)).to(_device())
    dist.all_reduce(tensor)
    return tensor.cpu().numpy()


def gather_rows(values: np.ndarray) -> np.ndarray:
    """All processes' rows one below the other, in the order of ranks; the numbers of rows may differ."""
    world = processes()[1]
    if world == 1:
        return values
    lengths = np.zeros(world, np.int64)
    lengths[processes()[0]] = len(values)
    lengths = sum_over_processes(lengths)
    padded = torch.zeros((int(lengths.max()), *values.shape[1:]), dtype=torch.from_numpy(values[:0]).dtype)
    padded[: len(values)] = torch.from_numpy(values)
    padded = padded.to(_device())
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded)
    return np.concatenate([part[:length].cpu().numpy() for part, length in zip(parts, lengths)])


def _device() -> torch.device:
    """Where the collective backend wants its tensors."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if dist.get_backend() == "nccl"
        else torch.device("cpu")
    )
