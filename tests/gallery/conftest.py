"""A gallery without a network: pictures of one colour each, and models that look at colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kronreid.data.images import as_list, open_rgb


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

    def score(self, query, candidates, progress=False):
        means = [
            [np.asarray(open_rgb(image)).mean((0, 1)) for image in as_list(images)]
            for images in (query, candidates)
        ]
        distance = np.linalg.norm(np.array(means[0])[:, None] - np.array(means[1])[None], axis=2)
        return np.exp(-distance / 50).astype(np.float32)

    def explain(self, a, b):
        return open_rgb(a), open_rgb(b)


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
