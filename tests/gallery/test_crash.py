"""What a gallery keeps when its process is killed or its disk is full."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kronreid.gallery import Gallery

from .conftest import paint
from .crash_child import SlowEmbedder

CHILD = [sys.executable, str(Path(__file__).with_name("crash_child.py"))]
#: A log this small is sorted into files and merged all the time, so that kills hit that too.
ENVIRONMENT = os.environ | {"MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES": "30000"}
PICTURES, BATCH = 200, 8


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(PICTURES):
        paint(tmp_path / "crops" / f"{number:04d}.png", number, size=(8, 16))
    return tmp_path / "crops"


def run(uri: Path, folder: Path, stop_after: int | None, delay: float) -> tuple[int, bool]:
    """Add until `delay` seconds after so many lines: the pictures said to be safe, and whether killed."""
    process = subprocess.Popen([*CHILD, uri, folder], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    safe = 0
    assert process.stdout is not None
    for number, line in enumerate(process.stdout):
        if line.startswith("safe"):
            safe += int(line.split()[1])
        if number == stop_after:
            time.sleep(delay)
            process.kill()
    return safe, process.wait() == -9


def test_killed_at_any_moment_it_loses_at_most_the_batch_in_flight(tmp_path, many):
    rng = random.Random(0)
    uri = tmp_path / "people.db"
    before = 0
    for stop_after in (0, 3, 6, 9):
        safe, killed = run(uri, many, stop_after, rng.uniform(0, 0.03))
        assert killed
        with Gallery(uri, SlowEmbedder()) as gallery:
            report = gallery.verify()
            assert report.intact
            assert not report.changed
            identifiers = [entry.id for entry in gallery.entries()]
            assert len(set(identifiers)) == len(identifiers) == report.checked == gallery.count
            assert before + safe <= gallery.count <= before + safe + BATCH
            before = gallery.count
    assert 0 < before < PICTURES
    safe, killed = run(uri, many, None, 0)
    assert not killed
    assert before + safe == PICTURES
    with Gallery(uri, SlowEmbedder()) as gallery:
        assert gallery.verify().checked == PICTURES


def test_a_full_disk_is_named_and_nothing_stored_is_lost(tmp_path, many):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    try:
        process = subprocess.run(
            [*CHILD, disk / "people.db", many], capture_output=True, text=True, env=ENVIRONMENT
        )
        (message,) = process.stderr.splitlines()
        assert message.startswith(f"{disk / 'people.db'}: the disk is full")
        safe = sum(int(line.split()[1]) for line in process.stdout.splitlines() if line.startswith("safe"))
        assert 0 < safe < PICTURES
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        with Gallery(disk / "people.db", SlowEmbedder()) as gallery:
            assert safe <= gallery.count <= safe + BATCH
            assert gallery.verify().intact
            report = gallery.add(many)
            assert report.added + report.skipped_existing == PICTURES
            assert gallery.count == gallery.verify().checked == PICTURES
    finally:
        subprocess.run(["umount", str(disk)], check=True)
