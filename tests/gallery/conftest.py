"""A gallery without a network: pictures of one colour each, and models that look at colours."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kronreid.data.images import as_list, open_rgb
from kronreid.gallery import Gallery
from kronreid.gallery.store import Store, open_store
from kronreid.models.place_matcher import PlaceMatcher
from kronreid.models.places import Described, PlaceMatching, PlacesOptions

from .milvus_server import TOKEN, MilvusServer, NoServer


class ColourEmbedder:
    """The histogram of a picture's colours: deterministic, and near for near pictures."""

    dimension = 64

    def __init__(self, fingerprint: str = "c0ffee") -> None:
        self.fingerprint = fingerprint
        self.seen = 0

    def embed(self, images, batch_size=64, progress=False):
        vectors = []
        for image in as_list(images):
            pixels = np.asarray(open_rgb(image).resize((8, 16))).reshape(-1, 3)
            counts = np.histogramdd(pixels, bins=(4, 4, 4), range=[(0, 256)] * 3)[0].ravel()
            vectors.append(counts / np.linalg.norm(counts))
            self.seen += 1
        return np.array(vectors, np.float32)


class ColourMatcher:
    """Probability from the distance of the mean colours."""

    def encode(self, images, batch_size=64, progress=False):
        means = [np.asarray(open_rgb(image)).mean((0, 1)) for image in as_list(images)]
        return torch.from_numpy(np.array(means))

    def logits(self, query, candidates):
        return torch.exp(-torch.cdist(query, candidates) / 50).clamp(1e-9, 1 - 1e-9).logit()


class PlacesEmbedder(ColourEmbedder):
    """The same with places: the mean colours of 4 × 2 cells."""

    def __init__(self, fingerprint: str = "c0ffee") -> None:
        super().__init__(fingerprint)
        self.places = PlaceMatching(PlacesOptions(numbers=3), [(3, 4, 2)]).eval()
        self.places.projections[0].data.copy_(torch.eye(3))
        self.matcher = PlaceMatcher(self, self.places)
        self.calibration = None

    def describe(self, images, batch_size=64, progress=False, places=None):
        small = [np.asarray(open_rgb(image).resize((2, 4))) / 255 for image in as_list(images)]
        maps = torch.from_numpy(np.array(small, np.float32)).permute(0, 3, 1, 2)
        return Described(torch.from_numpy(self.embed(images)), self.places.encode({"X_1": maps}))


def paint(path: Path, person: int, seed: int = 0, size: tuple[int, int] = (16, 32)) -> Path:
    """A picture in the colours of `person`, with noise of its own."""
    colour = np.random.default_rng(person).integers(0, 255, 3)
    noise = np.random.default_rng((person, seed)).normal(0, 20, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def embedder() -> ColourEmbedder:
    return ColourEmbedder()


@pytest.fixture
def matcher() -> ColourMatcher:
    return ColourMatcher()


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Ten people, two cameras, named as in Market-1501."""
    for person in range(1, 11):
        for camera in (1, 2):
            paint(tmp_path / "crops" / f"{person:04d}_c{camera}s1_{person:06d}_00.png", person, camera)
    return tmp_path / "crops"


@dataclass
class Place:
    """Where a gallery may be: everything that it can do it does the same in all of them."""

    uri: str
    options: dict[str, Any] = field(default_factory=dict)

    def open(self, *models, **more) -> Gallery:
        return Gallery(self.uri, *models, **self.options, **more)

    def store(self, collection: str = "people") -> Store:
        return open_store(self.uri, collection, self.options.get("token", ""))


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A Milvus server, one for all tests."""
    try:
        server = MilvusServer(tmp_path_factory.mktemp("milvus") / "server")
    except NoServer as reason:
        pytest.skip(str(reason))
    yield server
    server.stop()


@pytest.fixture
def server(milvus: MilvusServer) -> Iterator[Place]:
    """The server, left empty. Its collections stay: a server takes seconds to make one."""
    place = Place(milvus.uri, {"token": TOKEN})
    yield place
    for collection in place.store().client.list_collections():
        store = place.store(collection)
        store.delete([row["id"] for row in store.rows(["id"])])
        store.close()


@pytest.fixture(params=["folder", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder, then a server."""
    if request.param == "server":
        return request.getfixturevalue("server")
    return Place(str(tmp_path / "people.gallery"))
