"""Two machines, played by two nodes of a Ray cluster on this one, fill a gallery on a real server."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kronreid.data.images import FORMATS
from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.gallery import Entry
from kronreid.models import MODELS
from kronreid.models.loading import load
from kronreid.models.storage import build, save

from .conftest import paint

pytest.importorskip("ray", reason="Ray is not installed: pip install 'kronreid[ray]'")
from kronreid.gallery.spread import Worker, add_spread, entries_of_table, table_of

PICTURES = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes with one CPU each."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    backbone = {"name": "mobilenetv2_050", "weights": "none", "last_stride": 1}
    arguments = {"backbone": backbone, "order": 2, "channels": 8, "dimension": 64, "parts": 4}
    folder = tmp_path_factory.mktemp("models") / "small"
    save(folder, "horeid", arguments, InputOptions(64, 32), build("horeid", arguments))
    return folder


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Good pictures, one twice, and one that is none.

    The two names of the one say the same camera: which of them is stored depends on the worker that is first.
    """
    for number in range(PICTURES):
        paint(tmp_path / "crops" / f"{number % 3}_{number:04d}.png", number)
    (tmp_path / "crops" / "0_twice.png").write_bytes((tmp_path / "crops" / "0_0000.png").read_bytes())
    (tmp_path / "crops" / "no\nne.jpg").write_text("hello")
    return tmp_path / "crops"


def descendants() -> dict[int, str]:
    """Command lines of the processes below this one."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:
            continue

    def below(process: int) -> bool:
        return process == os.getpid() or (process in parents and below(parents[process]))

    return {process: name for process, name in names.items() if below(process)}


def test_two_workers_fill_a_gallery_once_though_one_is_killed(server, cluster, model, many):
    killed: list[int] = []

    def kill_one() -> None:
        while not killed:
            time.sleep(0.02)
            at_work = [
                process for process, name in descendants().items() if name.startswith("ray::MapWorker")
            ]
            if gallery.count and at_work:
                killed.append(at_work[0])
                os.kill(at_work[0], signal.SIGKILL)

    with server.open(load(model), collection="spread") as gallery:
        killing = threading.Thread(target=kill_one, daemon=True)
        killing.start()
        add_spread(gallery, model, many, cluster, batch_size=4, source="monday")
        killing.join()
        checked = gallery.verify()
        assert (checked.checked, checked.intact, checked.missing, checked.changed) == (PICTURES, True, [], [])
        assert gallery.counts("camera", "source") == {(str(camera), "monday"): 20 for camera in range(3)}
        report = add_spread(gallery, model, many, cluster, batch_size=4)
        assert (report.added, report.skipped_existing, gallery.count) == (0, PICTURES + 1, PICTURES)
        assert [(picture.path.name, picture.reason) for picture in report.unreadable] == [
            (
                "no\nne.jpg",
                "is not a picture that can be read (empty, or another kind of file; "
                f"supported: {', '.join(FORMATS)})",
            )
        ]
        query = many / "1_0007.png"
        assert gallery.search(query).hits[0].path == query


def test_no_cluster_is_said_at_once(server, model, many):
    with server.open(load(model), collection="spread") as gallery:
        for address in ("127.0.0.1:9", "ray://127.0.0.1:9"):
            with pytest.raises(InputError, match=f"--ray {address}: no Ray cluster can be reached"):
                add_spread(gallery, model, many, address)


def test_entries_travel_as_tables():
    entries = [
        Entry(Path(os.fsdecode(b"/a/\xff")), (1, 2, 3, 4), "7", 12.5, None, "monday", {"track": 4, "a": [1]}),
        Entry(Path("/b"), attributes={"b": {"c": None}}),
        Entry(Path("/c")),
    ]
    assert entries_of_table(table_of(entries)) == entries


def test_a_worker_imports_the_plug_ins_before_it_opens_the_model(own_entries: None, tmp_path: Path) -> None:
    plugin = tmp_path / "worker_plugin.py"
    plugin.write_text("from kronreid.models import MODELS\nMODELS.add('own', MODELS['pooled'])\n")
    worker = Worker(
        {"uri": "http://nowhere:1", "token": "", "collection": "people"}, "nowhere", 8, [str(plugin)]
    )
    assert "own" in MODELS
    assert "nowhere: no such model folder" in str(worker.problem)
    assert "no such file" in str(Worker({}, "nowhere", 8, [str(tmp_path / "gone.py")]).problem)
