"""What the tests of several rooms share: generated data sets, tiny models and the folder of real pictures."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from kronreid import plugins
from kronreid.data.generated import write_market1501
from kronreid.data.readers import LAYOUTS
from kronreid.data.transforms import InputOptions
from kronreid.evaluation import PROTOCOLS
from kronreid.losses import LOSSES
from kronreid.models import MODELS
from kronreid.models.inference import Embedder
from kronreid.models.places import PlaceMatching, PlacesOptions
from kronreid.models.storage import build, save

# A busy machine is slow, which says nothing about the code under test.
settings.register_profile("kronreid", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kronreid")

# Processes of the fork server start with everything imported, so that tests can start and kill many of them.
# There is one server and one list for all tests of a run.
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["pytest", "lancedb", "kronreid.cameras.pipeline", "kronreid.gallery.gallery", "kronreid.gallery.lance"]
)

if "PYTEST_XDIST_WORKER" in os.environ:  # each worker, and each process that its tests start, has one core
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_pedestrians(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes small generated data sets in Market-1501's layout, which tests only read.

    It takes the sizes that `write_market1501` takes; those that are not given are the ones of `pedestrians`.
    `name` is the name of the folder. The same arguments return the same folder.
    """
    usual = {
        "train_identities": 4,
        "test_identities": 3,
        "cameras": 2,
        "pictures_per_camera": 2,
        "distractors": 3,
        "junk": 2,
    }

    @cache
    def make(name: str = "pedestrians", **sizes: int) -> Path:
        root = tmp_path_factory.mktemp("data") / name
        write_market1501(root, **{**usual, **sizes}, progress=False)
        return root

    return make


@pytest.fixture(scope="session")
def pedestrians(make_pedestrians: Callable[..., Path]) -> Path:
    """A small generated data set in Market-1501's layout.

    4 training identities with 4 pictures each, 3 test identities with 2 queries and 2 gallery pictures each,
    3 distractors and 2 junk pictures; 2 cameras.
    """
    return make_pedestrians()


Running: TypeAlias = Callable[..., AbstractContextManager[subprocess.Popen]]


@pytest.fixture(scope="session")
def running() -> Running:
    """Starts a child process for a ``with`` statement, as `subprocess.Popen` does.

    The child and all its own children are gone afterwards, whether the test passes or fails. It can be
    interrupted with SIGINT, also where the tests themselves ignore that, as a shell's background jobs do.
    """

    @contextmanager
    def start(command: Sequence[Any], **options: Any) -> Iterator[subprocess.Popen]:
        before = signal.getsignal(signal.SIGINT)
        try:
            if before == signal.SIG_IGN:  # which a child would inherit
                signal.signal(signal.SIGINT, signal.default_int_handler)
            process = subprocess.Popen(command, start_new_session=True, **options)
        finally:
            signal.signal(signal.SIGINT, before)
        with process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):  # there is none left
                    os.killpg(process.pid, signal.SIGKILL)

    return start


@pytest.fixture(scope="session")
def save_tiny_models() -> Callable[..., None]:
    """Saves a HOReID and a KPM that have learned nothing as ``horeid`` and ``kpm`` in a folder.

    It takes the folder and options of the KPM.
    """

    def save_both(folder: Path, **matcher: Any) -> None:
        torch.manual_seed(0)
        backbone = {"name": "test_resnet", "weights": "none"}
        horeid = {"backbone": backbone, "channels": 16, "dimension": 16, "parts": 4}
        for name, arguments in (("horeid", horeid), ("kpm", {"backbone": backbone, **matcher})):
            size = InputOptions(height=64, width=32)
            model = build(name, arguments)
            for attention in getattr(model, "attention", []):  # which begins uniform: nothing to see
                torch.nn.init.normal_(attention.layers[-1].weight)
            save(folder / name, name, arguments, size, model)

    return save_both


@pytest.fixture
def own_entries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Lets a test add to the registries and import modules below its folder; nothing of it is left behind."""
    for registry in (LAYOUTS, LOSSES, MODELS, PROTOCOLS):
        monkeypatch.setattr(registry, "things", dict(registry.things))
    monkeypatch.setattr(plugins, "loaded", list(plugins.loaded))
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture(scope="session")
def random_places() -> Callable[..., PlaceMatching]:
    """A place matching of random numbers, as if it had been fitted.

    It takes the options of the places, the sizes of the levels' maps and a seed.
    """

    def make(options: PlacesOptions, sizes: Sequence[tuple[int, ...]], seed: int = 0) -> PlaceMatching:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            matching = PlaceMatching(options, [(c, h, w) for c, h, w in sizes])
            for projection in matching.projections:
                torch.nn.init.orthogonal_(projection)
            for strangers in matching.strangers:
                strangers.copy_(torch.nn.functional.normalize(torch.randn(strangers.shape), dim=1))
            torch.nn.init.normal_(matching.linear.weight, std=0.3)
            torch.nn.init.normal_(matching.linear.bias)
            for statistics in (matching.norm.running_mean, matching.norm.running_var):
                torch.nn.init.uniform_(cast(torch.Tensor, statistics), 0.2, 0.9)
        return matching.eval()

    return make


@pytest.fixture(scope="session")
def embedder_with_places(random_places: Callable[..., PlaceMatching]) -> Callable[..., Embedder]:
    """An embedder that has learned nothing, with a place matching of random numbers.

    It takes the options of the places.
    """

    def make(**options: Any) -> Embedder:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = {"name": "test_resnet", "weights": "none"}
            model = build("pooled", {"backbone": backbone, "channels": 16})
        embedder = Embedder(model, InputOptions(height=64, width=32), "c0ffee")
        places = PlacesOptions(**options)
        maps = next(embedder.embeddings([np.zeros((64, 32, 3), np.uint8)])).maps
        embedder.places = random_places(places, [tuple(maps[level].shape[1:]) for level in places.levels])
        return embedder

    return make


@pytest.fixture(scope="session")
def evaluation_keys() -> set[str]:
    """What an evaluation's JSON holds at least."""
    ranks = {"rank1", "rank5", "rank10"}
    return {"protocol", "queries", "gallery", *ranks, "mAP", "mAP_trapezoid", "mINP", "seconds"}


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real pictures, which the project does not ship."""
    folder = os.environ.get("KRONREID_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("KRONREID_SHARED does not name the folder with the real data sets")
    return Path(folder)


@pytest.fixture
def coarse_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few dots per inch, and SVG files with nothing in them: these take most of a figure's time."""
    from kronreid.explain import style

    save = style._save

    def save_coarse(figure: Any, target: Any, *more: Any, **options: Any) -> None:
        if options["format"] == "svg" and isinstance(target, Path):
            target.write_text("<svg/>")
        else:
            save(figure, target, *more, **options)

    monkeypatch.setattr(style, "DPI", 60)
    monkeypatch.setattr(style, "_save", save_coarse)
