"""People over HTTP: shown, corrected, found in searches, and forgotten."""

import json
from pathlib import Path

import pytest

from kronreid.gallery.people import journal_file

from .conftest import Home, Server, Start, add_tracklets, track, upload


@pytest.fixture
def crowd(start: Start, tmp_path: Path) -> Server:
    """A server whose gallery has two people."""
    server = start(audit=tmp_path / "audit.jsonl")
    add_tracklets(server)
    return server


def post(server: Server, path: str, **body: object) -> dict:
    answer = server.client.post(f"/api/people/{path}", json=body, headers=server.signed_in())
    assert answer.status_code == 200, answer.text
    return answer.json()


def people(server: Server, **query: object) -> dict:
    answer = server.client.get("/api/people", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_people_are_listed_with_their_times(crowd: Server) -> None:
    page = people(crowd)
    assert (page["total"], page["ungrouped"], page["cameras"]) == (2, 0, ["gate", "yard"])
    assert [person["number"] for person in page["people"]] == [2, 1], "the last seen first"
    first = page["people"][1]
    assert (first["tracklets"], first["cameras"], first["name"]) == (2, ["gate", "yard"], None)
    assert (first["first"], first["last"]) == ("2024-05-01T10:00:00+00:00", "2024-05-01T11:01:02+00:00")
    assert [span["camera"] for span in first["timeline"]] == ["gate", "yard"]
    assert len(first["pictures"]) == 2
    for picture in first["pictures"]:
        assert crowd.client.get(f"/api/pictures/{picture}").status_code == 200
    assert page["undo"]["words"] == "grouping 4 tracklets"


def test_conditions_orders_and_pages(crowd: Server) -> None:
    def numbers(**query: object) -> list[int]:
        return [person["number"] for person in people(crowd, **query)["people"]]

    assert numbers(order="number") == [1, 2]
    assert numbers(order="first") == [1, 2]
    assert numbers(order="number", offset=1) == [2]
    assert numbers(order="number", limit=1) == [1]
    assert numbers(since="2024-05-01T11:01:02.5") == [2]
    assert numbers(until="2024-05-01T09:59") == []
    assert numbers(camera="door") == []
    assert sorted(numbers(camera=["door", "yard"])) == [1, 2]
    assert numbers(camera="gate", since="2024-05-01T10:30") == [], "one tracklet has to meet all conditions"
    assert crowd.client.get("/api/people", params={"since": "soon"}).status_code == 422
    assert crowd.client.get("/api/people", params={"limit": 10_000}).status_code == 422
    assert crowd.client.get("/api/people", params={"colour": "red"}).status_code == 422


def test_a_person_has_tracklets_with_reasons(crowd: Server) -> None:
    person = crowd.client.get("/api/people/1").json()
    assert [one["id"] for one in person["tracks"]] == [track(0), track(2)]
    founder, joined = (one["why"] for one in person["tracks"])
    assert founder == {"by_hand": False, "near": None, "similarity": None, "average": None}
    assert (joined["near"], joined["similarity"], joined["average"]) == (track(0), 1.0, 1.0)
    assert [(other["number"], other["similarity"]) for other in person["alike"]] == [(2, 0.0)]
    assert all(len(one["pictures"]) == 2 for one in person["tracks"])
    missing = crowd.client.get("/api/people/99")
    assert (missing.status_code, missing.json()["message"]) == (404, "person 99: there is no such person")


def test_people_are_corrected_and_changes_taken_back(crowd: Server) -> None:
    before = people(crowd, order="number")
    assert post(crowd, "1/name", name="Ada <b>")["words"] == "naming person 1"
    assert post(crowd, "merge", into=1, others=[2])["person"] == 1
    page = people(crowd)
    assert [(person["name"], person["tracklets"]) for person in page["people"]] == [("Ada <b>", 4)]
    done = post(crowd, "split", tracklets=[track(1)])
    assert done["person"] == 3
    assert crowd.client.get("/api/people/3").json()["tracks"][0]["why"]["by_hand"]
    assert post(crowd, "split", tracklets=[track(3)], to=3)["person"] == 3
    undo = people(crowd)["undo"]
    answer = crowd.client.post(
        "/api/people/undo", json={"change": undo["change"] - 1}, headers=crowd.signed_in()
    )
    assert answer.status_code == 409
    assert post(crowd, "undo", change=undo["change"])["words"] == undo["words"]
    for _ in range(3):
        post(crowd, "undo")
    after = people(crowd, order="number")
    assert after == before
    assert post(crowd, "undo")["words"] == "grouping 4 tracklets"
    assert people(crowd)["ungrouped"] == 4
    answer = crowd.client.post("/api/people/undo", json={}, headers=crowd.signed_in())
    assert (answer.status_code, answer.json()["message"]) == (422, "undo: there is nothing to take back")


CHANGES = [
    ("merge", {"into": 1, "others": [2]}),
    ("split", {"tracklets": [track(0)]}),
    ("undo", {}),
    ("1/name", {"name": "x"}),
]


@pytest.mark.parametrize(("path", "body"), CHANGES)
def test_changes_need_the_token_and_come_from_the_page(crowd: Server, path: str, body: dict) -> None:
    before = journal_file(crowd.service.gallery.current).read_bytes()
    assert crowd.client.post(f"/api/people/{path}", json=body).status_code == 401
    other = crowd.signed_in() | {"Origin": "https://evil.example"}
    assert crowd.client.post(f"/api/people/{path}", json=body, headers=other).status_code == 403
    assert journal_file(crowd.service.gallery.current).read_bytes() == before


@pytest.mark.parametrize(("path", "body"), CHANGES)
def test_changes_are_logged_before_and_after(crowd: Server, path: str, body: dict) -> None:
    post(crowd, path, **body)
    lines = [json.loads(line) for line in crowd.settings.audit.read_text().splitlines()][-2:]
    assert [line["step"] for line in lines] == ["begun", "done"]
    assert lines[0]["request"] == lines[1]["request"]
    assert lines[1]["action"] == path.split("/")[-1]
    assert lines[1]["made"] > 0
    crowd.settings.audit.unlink()
    crowd.settings.audit.mkdir()
    answer = crowd.client.post("/api/people/1/name", json={"name": "y"}, headers=crowd.signed_in())
    assert answer.status_code == 503, "what cannot be logged is not done"
    assert '"y"' not in journal_file(crowd.service.gallery.current).read_text()


def test_names_are_not_in_the_log(crowd: Server) -> None:
    post(crowd, "1/name", name="Ada Lovelace")
    assert "Lovelace" not in crowd.settings.audit.read_text()


def test_hits_say_who_they_are(crowd: Server, home: Home) -> None:
    post(crowd, "1/name", name="Ada")
    hits = crowd.client.post("/api/search", files=[upload(home.queries[0])]).json()["hits"]
    found = {hit["track"]: hit["person"] for hit in hits}
    assert found[track(0)] == found[track(2)] == {"number": 1, "name": "Ada"}
    assert found[track(1)] == {"number": 2, "name": None}
    assert found[None] is None, "pictures of no tracklet"
    post(crowd, "merge", into=2, others=[1])
    hits = crowd.client.post("/api/search", files=[upload(home.queries[0])]).json()["hits"]
    assert {hit["person"]["number"] for hit in hits if hit["person"]} == {2}


def test_the_page_is_told_whether_there_are_people(start: Start, crowd: Server) -> None:
    assert crowd.client.get("/api/info").json()["has_people"]
    server = start()
    assert not server.client.get("/api/info").json()["has_people"]
    assert people(server) == {
        "people": [],
        "total": 0,
        "offset": 0,
        "cameras": [],
        "ungrouped": 0,
        "undo": None,
    }


def test_deleting_all_pictures_of_a_person_forgets_the_person(crowd: Server) -> None:
    post(crowd, "1/name", name="Ada Lovelace")
    gone = [id for one in crowd.client.get("/api/people/1").json()["tracks"] for id in one["pictures"]]
    for id in gone:
        assert crowd.client.delete(f"/api/gallery/{id}", headers=crowd.signed_in()).status_code == 204
    assert [person["number"] for person in people(crowd)["people"]] == [2]
    assert crowd.client.get("/api/people/1").status_code == 404
    text = journal_file(crowd.service.gallery.current).read_text()
    assert "Lovelace" not in text
    assert track(0) not in text


def test_a_damaged_journal_is_out_of_order(crowd: Server) -> None:
    journal_file(crowd.service.gallery.current).write_text("no journal\n")
    answer = crowd.client.get("/api/people")
    assert answer.status_code == 503
    assert "the people cannot be read or written: is not a journal" in answer.json()["message"]
