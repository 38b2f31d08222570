"""The HTTP interface, used as the page uses it."""

import base64
import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kronreid.explain.style import PALETTE
from kronreid.gallery.indexing import picture_of

from .conftest import Home, Server, Start, encoded, noise, upload


def test_a_search_ranks_as_the_gallery_does(server: Server, home: Home) -> None:
    answer = server.client.post(
        "/api/search", files=[upload(home.queries[0])], data={"top": 7, "rerank_top": 4}
    ).json()
    expected = server.service.gallery.current.search(home.queries[0], 7, 4)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected.hits]
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4, 5, 6, 7]
    for shown, hit in zip(answer["hits"], expected.hits):
        assert shown["similarity"] == pytest.approx(hit.similarity, abs=1e-5)
        assert shown["probability"] == (
            None if hit.probability is None else pytest.approx(hit.probability, abs=1e-5)
        )
        assert (shown["width"], shown["height"]) == picture_of(hit).size
    assert answer["total"] == 7
    assert {"read", "embed", "search", "decode", "match", "total"} <= set(answer["seconds"])
    assert answer["query"][0]["picture"].startswith("data:image/jpeg;base64,")


def test_several_uploads_and_items_are_one_person(server: Server, home: Home) -> None:
    client, item = server.client, server.ids()[0]
    files = [upload(path) for path in home.queries[:2]]
    answer = client.post("/api/search", files=files, data={"item": [item], "rerank_top": 0}).json()
    pictures = [*home.queries[:2], server.service.gallery.entry(item).path]
    expected = server.service.gallery.current.search(pictures, 100, 0)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected.hits]
    assert [query["id"] for query in answer["query"]][2] == item
    items = [query["id"] for query in answer["query"]]  # uploads are remembered for a while
    again = client.post("/api/search", data={"item": items, "top": 3, "rerank_top": 0})
    assert [hit["id"] for hit in again.json()["hits"]] == [hit["id"] for hit in answer["hits"]][:3]


def test_a_box_cuts_the_person_out_of_the_upright_frame(server: Server, home: Home) -> None:
    frame = Image.new("RGB", (200, 300), "grey")
    frame.paste(Image.open(home.pictures[3]), (120, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is stored lies on its side
    sent = encoded(frame.rotate(90, expand=True), "PNG", exif=exif)
    box = "120,40,64,128"
    answer = server.client.post(
        "/api/search", files=[("pictures", ("frame.png", sent, "image/png"))], data={"box": [box], "top": 1}
    ).json()
    assert (answer["query"][0]["width"], answer["query"][0]["height"]) == (64, 128)
    assert answer["hits"][0]["name"] == home.pictures[3].name
    assert answer["hits"][0]["similarity"] > 0.999


def test_filters_reach_the_gallery(server: Server, home: Home) -> None:
    def found(**data: object) -> list[dict]:
        sent = {"rerank_top": 0} | data
        answer = server.client.post("/api/search", files=[upload(home.queries[0])], data=sent)
        assert answer.status_code == 200, answer.text
        return answer.json()["hits"]

    everything = found()
    assert len(everything) == 12
    assert {hit["camera"] for hit in found(camera="2")} == {"2"}
    assert len(found(camera=["1", "2"])) == 12
    assert found(camera="9") == []
    late = found(since="2024-05-01T11:00")
    assert {hit["time"][:13] for hit in late} == {"2024-05-01T11"}
    assert len(late) == 6
    assert len(found(until="2024-05-01T10:30")) == 5
    identity = everything[0]["identity"]
    assert {hit["identity"] for hit in found(identity=identity)} == {identity}
    assert found(where="identity=nobody") == []
    assert len(found(since="", where="")) == 12  # these fields of a form may stay empty
    assert len(found(source="")) == 12  # of none of them it is known
    assert found(camera="") == found(where="identity=") == []


def test_pages_and_groups(server: Server, home: Home) -> None:
    def found(**data: object) -> dict:
        return server.client.post("/api/search", files=[upload(home.queries[0])], data=data).json()

    everything = found()["hits"]
    page = found(offset=4, limit=3)
    assert [hit["rank"] for hit in page["hits"]] == [5, 6, 7]
    assert page["total"] == 12
    groups = found(group_by="camera")
    assert {group["key"] for group in groups["groups"]} == {"1", "2"}
    assert sorted(rank for group in groups["groups"] for rank in group["ranks"]) == list(range(1, 13))
    second = found(group_by="camera", offset=1, limit=1)
    assert second["total"] == 2
    assert [hit["rank"] for hit in second["hits"]] == second["groups"][0]["ranks"]
    assert len(second["hits"]) < len(everything)


def test_match_says_what_it_means(server: Server, home: Home) -> None:
    a, b = server.ids()[:2]
    answer = server.client.post("/api/match", data={"a_item": a, "b_item": b}).json()
    pictures = [picture_of(server.service.gallery.entry(id)) for id in (a, b)]
    assert answer["probability"] == pytest.approx(
        float(home.matcher.score(pictures[:1], pictures[1:])[0, 0]), abs=1e-5
    )
    vectors = home.embedder.embed(pictures)
    assert answer["similarity"] == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    assert "cannot decide" in answer["meaning"]


@pytest.mark.parametrize("box", ["", "8,16,40,96"])
def test_a_hit_compared_has_the_scores_it_had_in_the_search(server: Server, home: Home, box: str) -> None:
    form = {"box": [box], "top": 3, "rerank_top": 3}
    answer = server.client.post("/api/search", files=[upload(home.queries[0])], data=form).json()
    for hit in answer["hits"]:
        pair = {"a_item": answer["query"][0]["id"], "b_item": hit["id"]}
        compared = server.client.post("/api/match", data=pair).json()
        assert compared["similarity"] == pytest.approx(hit["similarity"], abs=1e-5)
        assert compared["probability"] == pytest.approx(hit["probability"], abs=1e-5)


def test_explain_carries_the_matchers_maps(server: Server, home: Home) -> None:
    files = [upload(home.queries[0], "a"), upload(home.pictures[2], "b")]
    answer = server.client.post("/api/explain", files=files).json()
    why = home.matcher.explain(home.queries[0], home.pictures[2])
    assert answer["probability"] == pytest.approx(why.probability, abs=1e-5)
    assert len(answer["scales"]) == len(why.scales)
    for sent, scale in zip(answer["scales"], why.scales):
        places = scale.height * scale.width
        rows = np.frombuffer(base64.b64decode(sent["correspondence"]), np.uint8).reshape(places, places)
        beta = rows / 255 * np.array(sent["row_maximum"])[:, None]
        np.testing.assert_allclose(beta, scale.correspondence, atol=0.003)
        np.testing.assert_allclose(sent["attention_a"], scale.attention_a.ravel(), atol=1e-5)
        np.testing.assert_allclose(sent["attention_b"], scale.attention_b.ravel(), atol=1e-5)
    seen = Image.open(io.BytesIO(base64.b64decode(answer["picture_a"].partition(",")[2])))
    np.testing.assert_array_equal(np.asarray(seen), why.image_a)
    parts, expected = answer["parts_b"], home.embedder.part_maps(home.pictures[2])
    maps = np.frombuffer(base64.b64decode(parts["maps"]), np.uint8)
    maps = maps.reshape(parts["count"], parts["height"], parts["width"]) / 255
    np.testing.assert_allclose(maps * np.array(parts["maximum"])[:, None, None], expected, atol=0.003)


def test_without_a_matcher_there_is_similarity_only(start: Start, home: Home) -> None:
    server = start(matcher=None)
    hits = server.client.post("/api/search", files=[upload(home.queries[0])]).json()["hits"]
    assert len(hits) == 12
    assert {hit["probability"] for hit in hits} == {None}
    files = [upload(home.queries[0], "a"), upload(home.queries[1], "b")]
    answer = server.client.post("/api/explain", files=files).json()
    assert answer["probability"] is None
    assert answer["scales"] == []
    assert answer["parts_a"]["count"] == 4
    assert server.client.get("/api/info").json()["has_matcher"] is False


def test_pictures_are_small_or_whole_and_cached_by_the_browser(server: Server) -> None:
    hit = server.client.get("/api/gallery?limit=1").json()["items"][0]
    whole = server.client.get(hit["picture"])
    assert whole.headers["content-type"] == "image/jpeg"
    assert whole.headers["cache-control"].startswith("private")
    assert Image.open(io.BytesIO(whole.content)).size == (hit["width"], hit["height"])
    again = server.client.get(hit["picture"], headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    small = server.client.get(hit["picture"] + "?size=thumb")
    assert small.headers["etag"] != whole.headers["etag"]
    assert server.client.get(hit["picture"] + "?size=huge").status_code == 422


def test_browsing_and_counting(server: Server) -> None:
    client = server.client
    first = client.get("/api/gallery?limit=5").json()
    rest = client.get("/api/gallery?offset=5&limit=100").json()
    assert first["total"] == rest["total"] == 12
    ids = [item["id"] for item in first["items"] + rest["items"]]
    assert sorted(ids) == sorted(server.ids())
    some = client.get("/api/gallery?camera=1&camera=2&since=2024-05-01T11:00").json()
    assert some["total"] == len(some["items"]) == 6
    stats = client.get("/api/gallery/stats").json()
    assert stats["count"] == 12
    assert [(one["value"], one["count"]) for one in stats["cameras"]] == [("1", 6), ("2", 6)]
    assert [(one["value"], one["count"]) for one in stats["hours"]] == [
        ("2024-05-01T10:00:00+00:00", 5),
        ("2024-05-01T11:00:00+00:00", 6),
        (None, 1),
    ]


def test_adding_and_deleting(start: Start, home: Home) -> None:
    server = start(allow_add=True)
    client, token = server.client, server.signed_in()
    broken = ("pictures", ("notes.jpg", b"no picture", "image/jpeg"))
    known = {"camera": "7", "time": "2024-05-02T08:00", "identity": "x", "attribute": ["track=5"]}
    answer = client.post(
        "/api/gallery", files=[upload(home.queries[0]), broken], data=known, headers=token
    ).json()
    assert (answer["added"], answer["skipped_existing"]) == (1, 0)
    assert answer["unreadable"][0]["name"] == "notes.jpg"
    assert "not a picture" in answer["unreadable"][0]["message"]
    item = client.get("/api/gallery?camera=7").json()["items"][0]
    assert item["id"] == answer["ids"][0]
    assert (item["time"], item["identity"], item["attributes"]) == (
        "2024-05-02T08:00:00+00:00",
        "x",
        {"track": 5},
    )
    again = client.post("/api/gallery", files=[upload(home.queries[0])], headers=token).json()
    assert (again["added"], again["skipped_existing"], again["ids"]) == (0, 1, answer["ids"])
    kept = list((server.settings.state / "added").iterdir())
    assert [path.read_bytes() for path in kept] == [home.queries[0].read_bytes()]
    assert kept[0].stat().st_mode & 0o077 == 0
    assert client.get(item["picture"]).status_code == 200
    assert client.delete(f"/api/gallery/{item['id']}", headers=token).status_code == 204
    assert client.get(item["picture"] + "?size=thumb").status_code == 404
    assert not kept[0].exists()
    assert client.delete(f"/api/gallery/{item['id']}", headers=token).status_code == 404
    indexed = server.ids()[0]
    file = server.service.gallery.entry(indexed).path
    assert client.delete(f"/api/gallery/{indexed}", headers=token).status_code == 204
    assert file.exists()  # the server deletes only what came through it


def test_two_boxes_of_one_upload_share_its_file(start: Start) -> None:
    server = start(allow_add=True, full=False)
    frame = ("pictures", ("frame.png", encoded(noise(1, (100, 100)), "PNG"), "image/png"))
    ids = server.client.post(
        "/api/gallery",
        files=[frame, frame],
        data={"box": ["0,0,30,60", "50,0,30,60"]},
        headers=server.signed_in(),
    ).json()["ids"]
    assert len(set(ids)) == 2
    for left, id in enumerate(ids, start=1):
        assert server.client.get(f"/api/pictures/{id}").status_code == 200
        assert server.client.delete(f"/api/gallery/{id}", headers=server.signed_in()).status_code == 204
        assert len(list((server.settings.state / "added").iterdir())) == 2 - left or left == 1


def test_an_empty_gallery_answers_with_nothing(start: Start, home: Home) -> None:
    server = start(full=False)
    answer = server.client.post("/api/search", files=[upload(home.queries[0])])
    assert answer.status_code == 200
    assert answer.json()["hits"] == []
    assert server.client.get("/api/gallery/stats").json()["count"] == 0


def test_marks_are_kept_shown_and_exported(start: Start, home: Home) -> None:
    server = start()
    client, token = server.client, server.signed_in()
    found = client.post("/api/search", files=[upload(home.queries[0])]).json()
    query, hits = found["query"][0]["id"], found["hits"]
    for hit, same in ((hits[0], True), (hits[1], False), (hits[2], True), (hits[2], None)):
        mark = {"query": query, "item": hit["id"], "same": same}
        assert client.post("/api/feedback", json=mark, headers=token).status_code == 204
    again = client.post("/api/search", files=[upload(home.queries[0])]).json()["hits"]
    assert [hit["same"] for hit in again][:4] == [True, False, None, None]
    rows = list(csv.DictReader(io.StringIO(client.get("/api/feedback.csv").text)))
    assert [(row["item"], row["same"]) for row in rows] == [(hits[0]["id"], "1"), (hits[1]["id"], "0")]
    assert Image.open(rows[0]["query_path"]).size == (64, 128)  # the upload is there to train on
    assert Path(rows[0]["item_path"]) in home.pictures
    unknown = {"query": "0" * 64, "item": hits[0]["id"], "same": True}
    assert client.post("/api/feedback", json=unknown, headers=token).status_code == 404


def test_the_page_and_its_files(server: Server) -> None:
    page = server.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert server.client.get("/static/palette.css").headers["content-type"] == "text/css; charset=utf-8"
    mark = server.client.get("/static/mark.svg")
    assert mark.headers["content-type"] == "image/svg+xml"
    assert server.client.get("/favicon.ico").status_code == 204


def test_the_page_has_the_palette_of_the_reports(server: Server) -> None:
    page = server.client.get("/").text
    styles = [server.client.get(name).text for name in re.findall(r'href="(/static/\w+\.css)"', page)]
    palette = styles[0]
    for name, (light, dark) in PALETTE.items():
        assert f"--{name}: light-dark({light}, {dark});" in palette
    used = {name for style in styles for name in re.findall(r"var\(--([\w-]+)\)", style)}
    assert not used - {name for style in styles for name in re.findall(r"--([\w-]+):", style)}
    mixed = re.findall(r"--([\w-]+):", "".join(styles[1:]))
    assert not set(mixed) & set(PALETTE), "a colour of the palette is defined once"


def test_metrics_count_what_happens(start: Start, home: Home) -> None:
    server = start()
    for _ in range(3):
        server.client.post("/api/search", files=[upload(home.queries[0])])
    server.client.get("/api/ready")
    server.client.get("/nowhere/at/all")
    lines = server.client.get("/metrics").text.splitlines()
    assert 'kronreid_requests_total{route="/api/search",status="200"} 3.0' in lines
    assert 'kronreid_requests_total{route="other",status="404"} 1.0' in lines
    assert "kronreid_gallery_pictures 12.0" in lines
    assert 'kronreid_search_stage_seconds_count{stage="embed"} 3.0' in lines


BAD = {
    "no picture": ("/api/search", {}, [], "pictures"),
    "a page of nonsense": ("/api/search", {"top": "many"}, ["pictures"], "top"),
    "an unknown field": ("/api/search", {"colour": "red"}, ["pictures"], "colour"),
    "too many hits": ("/api/search", {"top": "1000000"}, ["pictures"], "top"),
    "no time": ("/api/search", {"since": "yesterday"}, ["pictures"], "yesterday"),
    "no key": ("/api/search", {"where": "red"}, ["pictures"], "key=value"),
    "no box": ("/api/search", {"box": "1,2,3"}, ["pictures"], "box"),
    "a box without area": ("/api/search", {"box": "1,2,0,5"}, ["pictures"], "box"),
    "a box outside": ("/api/search", {"box": "500,500,10,10"}, ["pictures"], "outside"),
    "more boxes than pictures": ("/api/search", {"box": ["", ""]}, ["pictures"], "box"),
    "no identifier": ("/api/search", {"item": "../../etc/passwd"}, [], "item"),
    "a weight above one": ("/api/search", {"matcher_weight": "1.5"}, ["pictures"], "matcher_weight"),
    "not a number": ("/api/search", {"matcher_weight": "nan"}, ["pictures"], "matcher_weight"),
    "half a pair": ("/api/match", {}, ["a"], "b:"),
    "two of one side": ("/api/match", {"a_item": "0" * 64}, ["a", "b"], "a:"),
    "text for a file": ("/api/match", {"a": "text"}, ["b"], "a:"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_said_in_words(server: Server, home: Home, case: str) -> None:
    address, data, fields, named = BAD[case]
    answer = server.client.post(address, data=data, files=[upload(home.queries[0], name) for name in fields])
    assert answer.status_code == 422, answer.text
    assert named in answer.json()["message"]
    assert "\n" not in answer.json()["message"]


def test_an_unknown_picture_is_not_found(server: Server) -> None:
    for address in (f"/api/pictures/{'0' * 64}", "/static/app.py", "/nowhere"):
        answer = server.client.get(address)
        assert answer.status_code == 404
        assert answer.json()["message"]
    answer = server.client.post("/api/search", data={"item": "0" * 64})
    assert answer.status_code == 404
    assert "may have been deleted" in answer.json()["message"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"query": 1}', b"\xff", b'{"token": "' + b"x" * 70000 + b'"}']
)
def test_bad_json_is_said_in_words(server: Server, content: bytes) -> None:
    headers = server.signed_in() | {"Content-Type": "application/json"}
    answer = server.client.post("/api/feedback", content=content, headers=headers)
    assert answer.status_code in (400, 413, 422)
    assert answer.json()["message"]


def test_a_form_that_breaks_off_is_said_in_words(server: Server) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for content in (
        b"",
        b"--x\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\nhm\r\n--x--\r\n",
        b"nonsense",
    ):
        answer = server.client.post("/api/search", content=content, headers=headers)
        assert answer.status_code in (400, 422), content
        assert answer.json()["message"]
