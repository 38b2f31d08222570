"""The collective operations of an evaluation under torchrun. In a single process they do nothing."""

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
    """This process's range [low, high) of `length` items, cut at multiples of `grain`.

    With `grain` the batch size, batches are the same for any number of processes, and so are the results,
    bit by bit.
    """
    rank, world = processes()
    grains = -(-length // grain)
    low, high = rank * grains // world, (rank + 1) * grains // world
    return min(low * grain, length), min(high * grain, length)


def tile_edges(gallery: int, tile: int) -> list[int]:
    """Edges of almost equally wide tiles of at most `tile` columns, from 0 to `gallery`.

    The grid does not depend on the number of processes, so the scores are the same bit by bit.
    """
    count = max(1, -(-gallery // tile))
    return [index * gallery // count for index in range(count + 1)]


def gallery_share(gallery: int, tile: int) -> tuple[int, int]:
    """The gallery columns [low, high) that this process counts, in whole tiles."""
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
    """The rows of all processes, concatenated in the order of ranks. Processes may have different counts."""
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
    """The device on which the collective backend expects its tensors."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if dist.get_backend() == "nccl"
        else torch.device("cpu")
    )
