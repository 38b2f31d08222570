"""An embedder with places re-ranks, scores and explains by itself; its calibration draws a line."""

import base64
import copy
import io

import numpy as np
import pytest
import torch
from PIL import Image

from kronreid.gallery.indexing import picture_of
from kronreid.models.places import Described
from kronreid.serve.batching import ModelThread, SharedEmbedder
from kronreid.serve.pairs import meaning

from .conftest import Home, Start, calibrated, upload


def test_places_explain_as_the_embedder_does(start: Start, home: Home) -> None:
    server = start(matcher=None, embedder=home.placed)
    info = server.client.get("/api/info").json()
    assert (info["has_matcher"], info["matcher"]) == (True, "places")
    files = [upload(home.queries[0], "a"), upload(home.pictures[2], "b")]
    answer = server.client.post("/api/explain", files=files).json()
    why = home.placed.explain(home.queries[0], home.pictures[2])
    sent = answer["places"]
    for name, value in why.to_json().items():
        if name != "levels":
            assert sent[name] == pytest.approx(value, abs=1e-4)
    assert answer["probability"] == sent["probability"]
    assert answer["scales"] == []
    assert answer["parts_a"]["count"] == 4
    assert sent["vectors"] + sent["gain"] + sent["loss"] == pytest.approx(sent["logit"], abs=1e-4)
    assert len(sent["levels"]) == len(why.levels) == 2
    for level, expected in zip(sent["levels"], why.levels):
        for name, values in level.items():
            np.testing.assert_allclose(values, getattr(expected, name), atol=1e-4)
    seen = Image.open(io.BytesIO(base64.b64decode(answer["picture_b"].partition(",")[2])))
    np.testing.assert_array_equal(np.asarray(seen), why.image_b)


def test_places_score_a_pair_as_they_do_in_a_search(start: Start, home: Home) -> None:
    server = start(matcher=None, embedder=home.placed)
    answer = server.client.post(
        "/api/search", files=[upload(home.queries[0])], data={"rerank_top": 5, "top": 12}
    ).json()
    looked, rest = answer["hits"][:5], answer["hits"][5:]
    assert {hit["probability"] for hit in rest} == {None}
    pictures = [picture_of(server.service.gallery.entry(hit["id"])) for hit in looked]
    own = home.placed.matcher
    assert own is not None
    expected = own.score(home.queries[0], pictures)[0]
    np.testing.assert_allclose([hit["probability"] for hit in looked], expected, atol=1e-4)
    assert sorted(expected, reverse=True) == pytest.approx(expected.tolist(), abs=1e-6)  # weight 1
    pair = {"a_item": answer["query"][0]["id"], "b_item": looked[0]["id"]}
    compared = server.client.post("/api/match", data=pair).json()
    assert compared["probability"] == pytest.approx(looked[0]["probability"], abs=1e-4)
    assert compared["meaning"].startswith("The model ")
    plain = server.client.post("/api/search", files=[upload(home.queries[0])], data={"rerank_top": 0}).json()
    assert {hit["probability"] for hit in plain["hits"]} == {None}
    similarities = [hit["similarity"] for hit in plain["hits"]]
    assert similarities == sorted(similarities, reverse=True)


def test_a_matcher_goes_before_the_places(start: Start, home: Home) -> None:
    server = start(embedder=home.placed)
    assert server.client.get("/api/info").json()["matcher"] == "model"
    files = [upload(home.queries[0], "a"), upload(home.queries[1], "b")]
    answer = server.client.post("/api/explain", files=files).json()
    assert answer["places"] is None
    assert answer["scales"]
    assert answer["probability"] == pytest.approx(
        home.matcher.explain(home.queries[0], home.queries[1]).probability, abs=1e-5
    )


def test_shared_places_answer_like_the_embedders(home: Home) -> None:
    models = ModelThread(home.placed)
    shared, own = SharedEmbedder(models).matcher, home.placed.matcher
    assert own is not None
    pair = home.queries[:2], home.queries[1:4]
    np.testing.assert_allclose(shared.score(*pair), own.score(*pair), atol=1e-6)
    described = [shared.encode(pictures) for pictures in pair]
    assert all(isinstance(side, Described) for side in described)
    torch.testing.assert_close(shared.logits(*described), own.logits(*map(own.encode, pair)))
    assert shared.fingerprint == home.embedder.fingerprint
    models.close()
    with pytest.raises(RuntimeError, match="stopped"):
        shared.encode(home.queries[0])


def test_the_meaning_names_what_the_probability_rests_on(home: Home) -> None:
    placed = copy.copy(home.placed)
    assert "most of which showed different persons" in meaning(0.5, 0.3, placed.matcher)
    placed.calibration = calibrated(0.5)
    said = meaning(0.99, 0.3, placed.matcher)
    assert said.startswith("The model takes them for the same person. The probability holds for pairs of")
    assert "25 % show the same person; it was measured on 50 people" in said
    assert "fit-places" in meaning(None, 0.3, None)


def limited(home: Home, limit: float, searches: int = 1000, gallery: int = 12) -> dict:
    """What makes a server with a calibrated embedder."""
    embedder = copy.copy(home.placed)
    embedder.calibration = calibrated(limit, searches, gallery)
    return {"embedder": embedder, "matcher": None}


def test_a_calibration_says_which_hits_count(start: Start, home: Home) -> None:
    found = start(**limited(home, 0.99)).client.post("/api/search", files=[upload(home.queries[0])]).json()
    similarities = sorted(hit["similarity"] for hit in found["hits"])
    middle = round((similarities[-5] + similarities[-4]) / 2, 6)  # four pass
    server = start(**limited(home, middle))
    answer = server.client.post("/api/search", files=[upload(home.queries[0])]).json()
    assert answer["limit"] == {
        "similarity": middle,
        "rate": 0.001,
        "sentence": "one false alarm in a thousand searches",
        "passed": sum(value >= middle for value in similarities),
    }
    # With a filter the search compares the query with fewer pictures, which a lower similarity is enough for.
    few = server.client.post("/api/search", files=[upload(home.queries[0])], data={"camera": "1"}).json()
    size = len(few["hits"])
    assert 0 < size < 12
    calibration = server.service.calibration
    assert few["limit"]["similarity"] == calibration.threshold(0.001, size)


def test_without_a_calibration_that_fits_there_is_no_limit(start: Start, home: Home) -> None:
    bare = {"embedder": home.placed, "matcher": None}
    small = limited(home, 0.5, searches=10, gallery=1)  # of ten searches in one picture each
    for changes, filters in ((bare, {}), (small, {}), (limited(home, 0.5), {"identity": "nobody"})):
        sent = [upload(home.queries[0])]
        answer = start(**changes).client.post("/api/search", files=sent, data=filters)
        assert answer.json()["limit"] is None
