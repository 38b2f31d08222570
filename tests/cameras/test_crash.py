"""What a killed process leaves: whole tracklets, and nothing twice when it is started again."""

import multiprocessing
import runpy
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from kronreid.gallery import Gallery
from kronreid.gallery.tracklets import Tracklet, Tracklets

CHILD = Path(__file__).with_name("track_child.py")
PROCESSES = multiprocessing.get_context("forkserver")


def start(folder: Path, stop_after: int = -1, delay: float = 0.0) -> tuple[int | None, int]:
    """Follow until `delay` seconds after so many steps; returns the exit status and the steps."""
    heard, say = PROCESSES.Pipe(duplex=False)
    told = {"folder": folder, "say": say}
    process = PROCESSES.Process(target=runpy.run_path, args=(str(CHILD), told, "__crash__"))
    process.start()
    say.close()
    steps = 0
    try:
        while True:
            heard.recv()
            steps += 1
            if steps == stop_after:
                time.sleep(delay)
                process.kill()
    except EOFError:
        process.join(60)
    finally:
        process.kill()
        process.join()
    return process.exitcode, steps


def stored(folder: Path) -> list[Tracklet]:
    """The tracklets of a gallery, of which each is whole."""
    with Gallery(folder / "people.gallery") as gallery:
        report = gallery.verify()
        assert (report.intact, report.missing, report.changed) == (True, [], [])
        tracklets = Tracklets(**gallery.place)
        found = sorted(tracklets.all(), key=lambda tracklet: tracklet.start)
        tracklets.close()
    return found


def left_over(folder: Path) -> tuple[set[str], list[Path]]:
    """Pictures that no tracklet has, and files that no picture has."""
    pictures = {id for tracklet in stored(folder) for id in tracklet.pictures}
    with Gallery(folder / "people.gallery") as gallery:
        return {entry.id for entry in gallery.entries()} - pictures, gallery.verify().strays


def same(found: list[Tracklet], expected: list[Tracklet]) -> bool:
    return len(found) == len(expected) and all(
        (a.id, a.start, a.end, a.pictures) == (b.id, b.start, b.end, b.pictures)
        and np.allclose(a.vector, b.vector, atol=1e-6)
        and np.array_equal(a.boxes, b.boxes)
        for a, b in zip(found, expected)
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Tracklet], int]:
    """What is stored if nobody is killed, and in how many steps."""
    folder = tmp_path_factory.mktemp("whole")
    status, steps = start(folder)
    assert status == 0
    return stored(folder), steps


def test_killed_at_any_moment_it_leaves_whole_tracklets_and_ends_as_if_it_had_not_been(tmp_path, expected):
    tracklets, steps = expected
    assert len(tracklets) == 4
    rng = np.random.default_rng(0)
    before: list[Tracklet] = []
    kills = 4
    for _ in range(kills):
        status, _ = start(tmp_path, int(rng.integers(1, 2 * steps // kills)), rng.uniform(0, 0.02))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        if (tmp_path / "people.gallery").exists():
            before = stored(tmp_path)
            ids = [tracklet.id for tracklet in before]
            assert len(set(ids)) == len(ids)
            assert set(ids) <= {tracklet.id for tracklet in tracklets}
    assert start(tmp_path)[0] == 0
    assert same(stored(tmp_path), tracklets)
    assert left_over(tmp_path) == (set(), [])
    assert before
