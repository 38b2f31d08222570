import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from kronreid.evaluation.processes import gather_rows, share, sum_over_processes, tile_edges

from .fakes import results_of_every_kind


@pytest.fixture(scope="module")
def together(tmp_path_factory, running):
    """What each of two processes found."""
    place = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("process.py")
    commands = [[sys.executable, script, str(r), "2", place / "store", place / f"{r}.npz"] for r in range(2)]
    with ExitStack() as stack:
        started = [running(command, stderr=subprocess.PIPE, text=True) for command in commands]
        for process in [stack.enter_context(one) for one in started]:
            _, errors = process.communicate(timeout=280)
            assert process.returncode == 0, errors
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
