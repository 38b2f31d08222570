import multiprocessing

import numpy as np
import pytest
import torch.distributed as dist

from kronreid.evaluation.processes import gather_rows, share, sum_over_processes, tile_edges

from .fakes import results_of_every_kind


def one_of_two(rank, place):
    """What one of two processes finds, in a file."""
    dist.init_process_group("gloo", init_method=f"file://{place / 'store'}", rank=rank, world_size=2)
    rows = gather_rows(np.full((rank + 1, 2), rank))
    total = sum_over_processes(np.arange(3) + rank)
    np.savez(place / f"{rank}.npz", rows=rows, total=total, **results_of_every_kind())
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What each of two processes found. They are forked, since importing everything would take longest."""
    place = tmp_path_factory.mktemp("processes")
    forked = multiprocessing.get_context("fork")
    processes = [forked.Process(target=one_of_two, args=(rank, place), daemon=True) for rank in range(2)]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(280)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [dict(np.load(place / f"{rank}.npz")) for rank in range(2)]


def test_two_processes_find_exactly_what_one_finds(together):
    alone = results_of_every_kind()
    for found in together:
        assert found["embedded"] < alone["embedded"]  # each embeds its share
        assert set(found) == {*alone, "rows", "total"}
        for key in alone:
            if key != "embedded":
                np.testing.assert_array_equal(alone[key], found[key], key)


def test_rows_are_gathered_in_the_order_of_ranks(together):
    for found in together:
        assert found["rows"].tolist() == [[0, 0], [1, 1], [1, 1]]
        assert found["total"].tolist() == [1, 3, 5]


def test_alone_nothing_is_shared():
    assert share(10, 4) == (0, 10)
    values = np.arange(3)
    assert sum_over_processes(values) is values
    assert gather_rows(values) is values


@pytest.mark.parametrize(("gallery", "tile"), [(1, 5), (5, 5), (6, 5), (17, 5)])
def test_tiles_cover_the_gallery_once(gallery, tile):
    edges = tile_edges(gallery, tile)
    assert (edges[0], edges[-1]) == (0, gallery)
    widths = np.diff(edges)
    assert (widths >= 1).all()
    assert widths.max() <= tile
    assert widths.max() - widths.min() <= 1
