"""A small gallery with tiny models, and a server around it."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from kronreid.data.readers import read
from kronreid.gallery import Entry, Gallery, Selection
from kronreid.gallery.people import group
from kronreid.gallery.tracklets import Tracklet, Tracklets
from kronreid.models.calibration import Calibration, ScoreCalibration
from kronreid.models.inference import Embedder
from kronreid.models.loading import load
from kronreid.serve.app import Application
from kronreid.serve.metrics import Metrics
from kronreid.serve.service import Service
from kronreid.serve.settings import Settings
from kronreid.training.places import FitOptions, fit_head, prepare

TOKEN = "a token that is long enough"
#: The names under which the test client asks: an address of this machine.
HERE = "http://127.0.0.1:8000"
NOON = 1_714_557_600.0  # 2024-05-01 10:00 UTC


@dataclass
class Home:
    """Models, pictures, and a gallery of which each test gets its own copy."""

    folder: Path
    embedder: Any
    placed: Embedder  # the same embedder with places of two levels
    matcher: Any
    pictures: list[Path]  # in the gallery: two cameras, two hours, four persons
    queries: list[Path]  # not in it


@pytest.fixture(scope="session")
def home(
    tmp_path_factory: pytest.TempPathFactory,
    make_pedestrians: Callable[..., Path],
    save_tiny_models: Callable[[Path], None],
) -> Home:
    """Tiny models that have learned nothing, and generated pedestrians."""
    folder = tmp_path_factory.mktemp("home")
    data = make_pedestrians(test_identities=4, distractors=4, junk=0)
    save_tiny_models(folder)
    placed = load(folder / "horeid")
    assert isinstance(placed, Embedder)
    options = FitOptions(levels=("X_1", "X_2"), numbers=8, mates=1, strangers=4, lists=2, steps=20)
    # `fit_places` would leave places of a network that has learned nothing without a say.
    matching, described, lists = prepare(placed, read(data, "market1501").train, options)
    fit_head(matching, described, lists, options)
    placed.places = matching
    return Home(
        folder,
        load(folder / "horeid"),
        placed,
        load(folder / "kpm"),
        sorted((data / "bounding_box_test").iterdir()),
        sorted((data / "query").iterdir()),
    )


@dataclass
class Server:
    """A server that is asked without a network, and what it is made of."""

    client: TestClient
    application: Application
    service: Service
    settings: Settings
    folder: Path

    def signed_in(self) -> dict[str, str]:
        """Headers that carry the token."""
        return {"Authorization": f"Bearer {TOKEN}"}

    def ids(self) -> list[str]:
        """Of the gallery's pictures."""
        return [entry.id for entry in self.service.gallery.current.entries()]


def fill(home: Home, uri: Path) -> None:
    """A gallery of the home's pictures: of hours 10 and 11, and one of unknown time."""
    entries = []
    for number, path in enumerate(home.pictures):
        identity, camera = path.name.split("_")[:2]
        time = None if number == 0 else NOON + 3600 * (number % 2)
        known = {"camera": camera[1], "time": time, "identity": identity}
        entries.append(Entry(path, **known, attributes={"track": number // 3}))
    with Gallery(uri, home.embedder) as gallery:
        gallery.add(entries, progress=False)


def serve(home: Home, folder: Path, *, full: bool = True, embedder: Any = None, **changes: Any) -> Server:
    """A server in a folder of its own; enter its client to start it."""
    folder.mkdir(exist_ok=True)
    if full:
        if not (home.folder / "people.gallery").exists():
            fill(home, home.folder / "people.gallery")
        shutil.copytree(home.folder / "people.gallery", folder / "people.gallery")
    matcher = changes.pop("matcher", home.matcher)
    settings = Settings(**({"state": folder / "state", "token": TOKEN} | changes))
    metrics = Metrics()
    uri = str(folder / "people.gallery")
    service = Service(uri, embedder or home.embedder, matcher, settings, metrics.batch.observe)
    application = Application(service, settings, metrics)
    here = ("127.0.0.1", 50000)
    client = TestClient(application.asgi, base_url=HERE, raise_server_exceptions=False, client=here)
    return Server(client, application, service, settings, folder)


def calibrated(limit: float, searches: int = 1000, gallery: int = 12) -> Calibration:
    """A calibration with this threshold for one false alarm in all its searches.

    Args:
        limit: A cosine.
        searches: How many searches were measured.
        gallery: In so many pictures.
    """
    strangers = (limit + 0.01, limit, *[-1.0] * (searches - 2))
    similarity = ScoreCalibration(10.0, -5.0, strangers, ())
    logit = ScoreCalibration(0.5, -1.0, (3.0, 2.0, 1.0), ())
    return Calibration("market1501", "people", "market1501", 50, gallery, 0.25, similarity, logit)


Start = Callable[..., Server]


@pytest.fixture
def start(home: Home, tmp_path: Path) -> Iterator[Start]:
    """Starts servers, each on a gallery of its own."""
    with ExitStack() as running:

        def start(**changes: Any) -> Server:
            server = serve(home, tmp_path / f"server{len(list(tmp_path.iterdir()))}", **changes)
            running.enter_context(server.client)
            return server

        yield start


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong tokens are answered at once, for tests that send many."""
    monkeypatch.setattr("kronreid.serve.guesses.PAUSE", 0.0)


@pytest.fixture(scope="module")
def server(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for tests that change nothing."""
    server = serve(home, tmp_path_factory.mktemp("served"), allow_add=True, upload_pixels=1_000_000)
    with server.client:
        yield server


def track(number: int) -> str:
    """The identifier of a tracklet of `add_tracklets`."""
    return f"{number:064x}"


def add_tracklets(server: Server) -> None:
    """Two people: tracklets 0 and 2, 1 and 3, of two pictures each; 0 and 1 are at once."""
    gallery = server.service.gallery.current
    entries = sorted(gallery.entries(), key=lambda entry: entry.path.name)[:8]
    looks = np.eye(gallery.dimension, dtype=np.float32)
    tracklets = Tracklets(**gallery.place)
    for number in range(4):
        own = entries[2 * number : 2 * number + 2]
        gallery.update(Selection(id=[entry.id for entry in own]), attributes={"track": track(number)})
        start = NOON + (0 if number < 2 else 3600)
        pictures = tuple(entry.id for entry in own)
        tracklets.upsert(
            [
                Tracklet(
                    id=track(number),
                    camera="gate" if number < 2 else "yard",
                    source="street.mp4",
                    start=start,
                    end=start + 60 + number,
                    vector=looks[number % 2],
                    pictures=pictures,
                    path=own[0].path,
                    boxes=np.zeros((0, 5), np.float32),
                )
            ]
        )
    tracklets.close()
    group(gallery, min_similarity=0.5)


def write_video(path: Path, first: int = 0) -> Path:
    """Four seconds of 10 frames each. Frame n, from 0, has the brightness 16 + 6 · (`first` + n)."""
    import av

    with av.open(str(path), "w") as container:
        container.metadata["creation_time"] = "2026-03-01T12:00:00Z"
        stream = container.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 4
        for number in range(39):
            image = np.full((48, 64, 3), 16 + 6 * (first + number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def add_recorded(server: Server, video: Path, at: float = 2.5, number: int = 9) -> str:
    """A tracklet of a video that has been followed, with one picture; the identifier of that.

    Args:
        server: Where to add it.
        video: The video.
        at: When the picture was taken, in seconds after the beginning.
        number: See `track`.
    """
    from kronreid.cameras.identity import recording_name
    from kronreid.cameras.sources import VideoFile
    from kronreid.cameras.status import Status

    source = VideoFile(video, "gate")
    name = recording_name(source)
    crop = server.folder / "people.crops" / name / f"{number}.jpg"
    crop.parent.mkdir(parents=True, exist_ok=True)
    crop.write_bytes(encoded(noise(number)))
    entry = Entry(
        crop, camera="gate", time=source.start + at, source=source.name, attributes={"track": track(number)}
    )
    with server.service.gallery.changing() as gallery:
        before = {one.id for one in gallery.entries()}
        gallery.add([entry], progress=False)
        (id,) = {one.id for one in gallery.entries()} - before
        vector = np.eye(gallery.dimension, dtype=np.float32)[5]
        boxes = np.array([[0, 8, 6, 16, 24], [1, 24, 6, 16, 24]], np.float32)
        start = source.start + at - 0.5
        tracklets = Tracklets(**gallery.place)
        tracklets.upsert(
            [Tracklet(track(number), "gate", source.name, start, start + 1, vector, (id,), crop, boxes)]
        )
        tracklets.close()
        Status(gallery, name, source).note(39, None, over=True)
    return id


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """A picture as a file's content."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed: int = 0, size: tuple[int, int] = (32, 64)) -> Image.Image:
    """A picture that is like no other."""
    values = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)


def upload(path: Path, field: str = "pictures") -> tuple[str, tuple[str, bytes, str]]:
    """A file as a field of a form."""
    return field, (path.name, path.read_bytes(), "image/jpeg")
