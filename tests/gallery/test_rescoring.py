from pathlib import Path

import numpy as np
import pytest

from kronreid.errors import InputError
from kronreid.gallery import Gallery
from kronreid.gallery.rescoring import PlaceMemory

from .conftest import ColourEmbedder, PlacesEmbedder, paint


@pytest.fixture
def gallery(tmp_path: Path, crops: Path):
    with Gallery(tmp_path / "people.db", PlacesEmbedder()) as gallery:
        gallery.add(crops, progress=False)
        yield gallery


def test_an_embedders_places_rescore_without_a_matcher(gallery: Gallery, crops: Path, tmp_path: Path) -> None:
    query = paint(tmp_path / "who.png", 3, seed=9)
    result = gallery.search(query, top=20, rerank_top=5)
    again = [hit for hit in result.hits if hit.probability is not None]
    assert len(again) == 5
    assert again == result.hits[:5]
    expected = gallery.embedder.matcher.score([query], [hit.path for hit in again])[0]
    assert [hit.probability for hit in again] == pytest.approx(expected.tolist(), abs=1e-6)
    assert list(expected) == sorted(expected, reverse=True)
    assert {"embed", "search", "match"} <= result.seconds.keys()


def test_no_second_stage_where_none_is_asked_for(gallery: Gallery, crops: Path) -> None:
    result = gallery.search(sorted(crops.iterdir())[0], rerank_top=0)
    assert all(hit.probability is None for hit in result.hits)
    assert [hit.similarity for hit in result.hits] == sorted(
        (hit.similarity for hit in result.hits), reverse=True
    )


def test_a_candidate_is_described_once(gallery: Gallery, crops: Path) -> None:
    query = sorted(crops.iterdir())[0]
    gallery.search(query)
    embedder = gallery.embedder
    assert isinstance(embedder, ColourEmbedder)
    seen = embedder.seen
    first = [(hit.path, hit.probability) for hit in gallery.search(query).hits]
    assert embedder.seen == seen + 1  # the query
    assert first == [(hit.path, hit.probability) for hit in gallery.search(query).hits]


def test_a_file_that_is_gone_keeps_its_similarity(gallery: Gallery, crops: Path) -> None:
    query, *others = sorted(crops.iterdir())
    others[0].unlink()
    result = gallery.search(query)
    (lost,) = [hit for hit in result.hits if hit.probability is None]
    assert lost.path == others[0]
    assert lost.rank == len(result.hits)
    assert len(result.unreadable) == 1


def test_logits_order_where_probabilities_are_all_one(gallery: Gallery, crops: Path) -> None:
    embedder = gallery.embedder
    assert isinstance(embedder, PlacesEmbedder)
    embedder.places.linear.bias.data.fill_(60.0)
    query = sorted(crops.iterdir())[0]
    hits = gallery.search(query).hits
    assert {hit.probability for hit in hits} == {1.0}
    described = embedder.describe([query, *(hit.path for hit in hits)])
    logits = embedder.places.score(described[:1], described[1:])[0].numpy()
    assert np.all(np.diff(logits) <= 0)
    assert logits[0] > logits[-1]


def test_the_memory_forgets_what_was_used_least_recently() -> None:
    embedder = PlacesEmbedder()
    memory = PlaceMemory(most=2)
    picture = np.zeros((32, 16, 3), np.uint8)
    for name in "abc":
        memory.keep(embedder.matcher, name, embedder.describe([picture]))
    assert memory.read(embedder.matcher, "a") is None
    assert memory.read(embedder.matcher, "c") is not None
    assert memory.read(PlacesEmbedder("other").matcher, "c") is None


@pytest.mark.parametrize("options", [{"rerank_top": -1}, {"matcher_weight": 1.5}])
def test_bad_input(gallery: Gallery, crops: Path, options) -> None:
    with pytest.raises(InputError, match="expected"):
        gallery.search(sorted(crops.iterdir())[0], **options)
