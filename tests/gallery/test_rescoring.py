from pathlib import Path

import numpy as np
import pytest
import torch

from kronreid.errors import InputError
from kronreid.gallery import Gallery
from kronreid.gallery.rescoring import PlaceMemory
from kronreid.models.places import Described, PlaceMatching, PlacesOptions

from .conftest import ColourEmbedder, PlacesEmbedder, paint


@pytest.fixture
def gallery(tmp_path: Path, crops: Path):
    with Gallery(tmp_path / "people.gallery", PlacesEmbedder()) as gallery:
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


def test_a_file_that_is_gone_is_scored_by_its_stored_places(gallery: Gallery, crops: Path) -> None:
    query, *others = sorted(crops.iterdir())
    before = {hit.id: hit.probability for hit in gallery.search(query).hits}
    for other in others:
        other.unlink()
    result = gallery.search(query)
    assert {hit.id: hit.probability for hit in result.hits} == before
    assert result.unreadable == []


@pytest.fixture
def without_places(tmp_path: Path, crops: Path):
    """A gallery that was filled before its model had places."""
    with Gallery(tmp_path / "older.gallery", ColourEmbedder()) as gallery:
        gallery.add(crops, progress=False)
        gallery.attach(PlacesEmbedder())
        yield gallery


def test_a_file_that_is_gone_keeps_its_similarity(without_places: Gallery, crops: Path) -> None:
    query, *others = sorted(crops.iterdir())
    others[0].unlink()
    result = without_places.search(query)
    (lost,) = [hit for hit in result.hits if hit.probability is None]
    assert lost.path == others[0]
    assert lost.rank == len(result.hits)
    assert len(result.unreadable) == 1


def test_stored_places_score_as_new_ones_do(gallery: Gallery, without_places: Gallery, crops: Path) -> None:
    query = sorted(crops.iterdir())[0]
    stored, new = (
        {hit.id: hit.probability for hit in g.search(query).hits} for g in (gallery, without_places)
    )
    assert stored == pytest.approx(new, abs=1e-6)
    assert None not in stored.values()


def test_places_of_another_projection_are_described_anew(gallery: Gallery, crops: Path) -> None:
    query = sorted(crops.iterdir())[0]
    other = PlacesEmbedder()
    other.places.projections[0].data.copy_(torch.eye(3).flip(0))
    other.places.strangers[0].data.copy_(other.places.strangers[0].flip(1) + 1)
    gallery.attach(other)
    result = gallery.search(query)
    assert other.seen == 1 + len(result.hits)
    expected = other.matcher.score([query], [hit.path for hit in result.hits])[0]
    assert [hit.probability for hit in result.hits] == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
def test_places_are_the_same_after_they_were_bytes(precision) -> None:
    options = PlacesOptions(numbers=3, precision=precision, levels=("X_1", "X_2"))
    matching = PlaceMatching(options, [(3, 4, 2), (5, 2, 2)])
    for projection in matching.projections:
        projection.data.normal_()
    maps = {"X_1": torch.randn(5, 3, 4, 2), "X_2": torch.randn(5, 5, 2, 2)}
    described = Described(torch.randn(5, 7), matching.encode(maps))
    packed = matching.pack(described)
    again = matching.unpack(packed, described.vectors)
    assert all(matching.is_ours(one, matching.kind()) for one in packed)
    assert not matching.is_ours(packed[0][:-1], matching.kind())
    for first, second in zip(described.levels, again.levels):
        assert torch.equal(first.numbers, second.numbers)
        assert torch.equal(first.scales, second.scales)


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


def test_the_memory_forgets_what_was_used_least_recently(gallery: Gallery) -> None:
    embedder = PlacesEmbedder()
    memory = PlaceMemory(gallery._store, most=2)
    picture = np.zeros((32, 16, 3), np.uint8)
    for name in "abc":
        memory.keep(embedder.matcher, name, embedder.describe([picture]))
    assert memory.read_all(embedder.matcher, ["a", "b", "c"]).keys() == {"b", "c"}
    other = PlacesEmbedder()
    other.places.strangers[0].data.add_(1)
    assert not memory.read_all(other.matcher, ["c"])


@pytest.mark.parametrize("options", [{"rerank_top": -1}, {"matcher_weight": 1.5}])
def test_bad_input(gallery: Gallery, crops: Path, options) -> None:
    with pytest.raises(InputError, match="expected"):
        gallery.search(sorted(crops.iterdir())[0], **options)
