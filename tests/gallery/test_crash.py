"""What a gallery keeps when its process is killed or its disk is full."""

import multiprocessing
import os
import random
import runpy
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from kronreid.errors import InputError
from kronreid.gallery import Gallery

from .conftest import Place, paint
from .crash_child import BATCH, SlowEmbedder

CHILD = Path(__file__).with_name("crash_child.py")
PICTURES = 400
PROCESSES = multiprocessing.get_context("forkserver")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(PICTURES):
        paint(tmp_path / "crops" / f"{number:04d}.png", number, size=(8, 16))
    return tmp_path / "crops"


def run(place: Place, folder: Path, stop_after: int = -1, delay: float = 0.0) -> tuple[int, int | str]:
    """Add until `delay` seconds after so many messages.

    Returns:
        The pictures said to be safe; and how it ended: the exit status, or what was wrong.
    """
    heard, say = PROCESSES.Pipe(duplex=False)
    told = {"uri": place.uri, "token": place.options.get("token", ""), "folder": folder, "say": say}
    process = PROCESSES.Process(target=runpy.run_path, args=(str(CHILD), told, "__crash__"))
    process.start()
    say.close()
    safe, number, complaint = 0, 0, ""
    try:
        while True:
            message = heard.recv()
            if isinstance(message, str):
                complaint = message
                continue
            safe += message
            if number == stop_after:
                time.sleep(delay)
                process.kill()
            number += 1
    except EOFError:
        process.join(60)
    finally:
        process.kill()
        process.join()
    assert process.exitcode is not None
    return safe, complaint or process.exitcode


def test_killed_at_any_moment_it_loses_at_most_the_batch_in_flight(place, many):
    rng = random.Random(0)
    before = 0
    for stop_after in range(10):  # even messages announce a batch, odd ones that it is safe
        safe, end = run(place, many, stop_after, rng.uniform(0, 0.03))
        assert end == -signal.SIGKILL
        with place.open(SlowEmbedder()) as gallery:
            report = gallery.verify()
            assert report.intact
            assert not report.changed
            identifiers = [entry.id for entry in gallery.entries()]
            assert len(set(identifiers)) == len(identifiers) == report.checked == gallery.count
            assert before + safe <= gallery.count <= before + safe + BATCH
            before = gallery.count
    assert 0 < before < PICTURES
    assert run(place, many) == (PICTURES - before, 0)
    with place.open(SlowEmbedder()) as gallery:
        assert gallery.verify().checked == PICTURES


def test_a_server_that_is_killed_keeps_what_it_confirmed(milvus, server, many, monkeypatch):
    """It goes twice: for longer than is waited for, then for a moment."""
    monkeypatch.setattr("kronreid.gallery.milvus_connection.PATIENCE_SECONDS", 1.0)

    class Accident(SlowEmbedder):
        def __init__(self, batch: int, happens) -> None:
            self.batch, self.happens = batch, happens

        def embed(self, images, batch_size=64, progress=False):
            self.batch -= 1
            if self.batch == 0:
                self.happens()
            return super().embed(images)

    gallery = server.open(Accident(5, milvus.stop))
    with pytest.raises(InputError, match="does not answer; start it or check the address"):
        gallery.add(many, batch_size=BATCH)
    gallery.close()
    milvus.start()
    monkeypatch.setattr("kronreid.gallery.milvus_connection.PATIENCE_SECONDS", 120.0)

    def restart():
        milvus.stop()
        threading.Thread(target=milvus.start).start()

    with server.open(Accident(5, restart)) as gallery:
        assert gallery.count == 4 * BATCH
        report = gallery.add(many, batch_size=BATCH)
        assert (report.added, report.skipped_existing) == (PICTURES - 4 * BATCH, 4 * BATCH)
        checked = gallery.verify()
        assert (checked.checked, checked.intact, checked.missing, checked.changed) == (PICTURES, True, [], [])
        assert gallery.count == PICTURES


def test_a_full_disk_is_named_and_nothing_stored_is_lost(tmp_path, many):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    try:
        safe, complaint = run(Place(str(disk / "people.gallery")), many)
        assert str(complaint).startswith(f"{disk / 'people.gallery'}: the disk is full")
        assert 0 < safe < PICTURES
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        with Gallery(disk / "people.gallery", SlowEmbedder()) as gallery:
            assert safe <= gallery.count <= safe + BATCH
            assert gallery.verify().intact
            report = gallery.add(many)
            assert report.added + report.skipped_existing == PICTURES
            assert gallery.count == gallery.verify().checked == PICTURES
    finally:
        subprocess.run(["umount", str(disk)], check=True)
