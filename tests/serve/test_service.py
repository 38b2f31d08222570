"""The gallery's own trouble is told from bad requests, and passes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from kronreid.errors import InputError
from kronreid.gallery import Selection
from kronreid.serve.answers import item, moment, natural, without_folders
from kronreid.serve.requests import Filters

from .conftest import Home, Start, upload


def test_after_a_full_disk_the_gallery_is_opened_anew(
    start: Start, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(allow_add=True)
    client, token = server.client, server.signed_in()

    def full(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("lance error: LanceError(IO): No space left on device (os error 28)")

    broken = server.service.gallery.current
    monkeypatch.setattr(broken._store._table, "_database", SimpleNamespace(open_table=full))
    answer = client.post("/api/gallery", files=[upload(home.queries[0])], headers=token)
    assert answer.status_code == 503
    assert "the disk is full" in answer.json()["message"]
    assert client.get("/api/ready").status_code == 200
    assert len(client.post("/api/search", files=[upload(home.queries[0])]).json()["hits"]) == 12
    again = client.post("/api/gallery", files=[upload(home.queries[0])], headers=token)
    assert again.json()["added"] == 1


def test_a_gallery_that_closes_under_a_search_is_said_in_words(
    start: Start, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()

    table = server.service.gallery.current._store._table

    def closed(*_: object, **__: object) -> NoReturn:
        with table.trouble():
            raise RuntimeError("lance error: something that nobody has seen before")

    monkeypatch.setattr(table, "read", closed)
    answer = server.client.post("/api/search", files=[upload(home.queries[0])])
    assert answer.status_code == 503
    assert "does not answer" in answer.json()["message"]


def test_a_mark_that_cannot_be_stored_is_said_in_words(start: Start, home: Home) -> None:
    server = start()
    found = server.client.post("/api/search", files=[upload(home.queries[0])]).json()
    mark = {"query": found["query"][0]["id"], "item": found["hits"][0]["id"], "same": True}
    server.settings.state.mkdir(exist_ok=True)
    (server.settings.state / "feedback.jsonl").mkdir()
    answer = server.client.post("/api/feedback", json=mark, headers=server.signed_in())
    assert answer.status_code == 503
    assert "Is a directory" in answer.json()["message"]
    (server.settings.state / "feedback.jsonl").rmdir()
    assert server.client.post("/api/feedback", json=mark, headers=server.signed_in()).status_code == 204


def test_times_that_no_calendar_has_harm_nobody(start: Start, home: Home) -> None:
    server = start(allow_add=True)
    sent = [upload(home.queries[0])]
    for time in ("1714557600000", "-1e17", "1e300"):  # milliseconds, for one
        answer = server.client.post(
            "/api/gallery", files=sent, data={"time": time}, headers=server.signed_in()
        )
        assert answer.status_code == 422
        assert "time" in answer.json()["message"]
    odd = replace(next(server.service.gallery.current.entries()), time=1_714_557_600_000.0)
    assert item(odd, None)["time"] is None
    assert moment(odd.time) is None


def test_an_upload_that_the_gallery_already_has_leaves_no_file(start: Start, home: Home) -> None:
    server = start(allow_add=True)
    answer = server.client.post(
        "/api/gallery", files=[upload(home.pictures[0])], headers=server.signed_in()
    ).json()
    assert (answer["added"], answer["skipped_existing"]) == (0, 1)
    assert not list((server.settings.state / "added").iterdir())
    assert home.pictures[0].exists()


def test_a_gallery_that_does_not_answer_makes_the_server_not_ready(start: Start, home: Home) -> None:
    server = start()
    server.service.gallery.close()
    ready = server.client.get("/api/ready")
    assert ready.status_code == 503
    assert ready.json()["status"] == "unavailable"
    assert server.client.get("/api/health").status_code == 200
    answer = server.client.post("/api/search", files=[upload(home.queries[0])])
    assert answer.status_code == 503
    assert "closed" in answer.json()["message"]


def test_a_cache_keeps_what_the_matcher_made(start: Start, home: Home, tmp_path: Path) -> None:
    server = start(cache=tmp_path / "maps")
    first, second = (
        server.client.post("/api/search", files=[upload(home.queries[0])]).json() for _ in range(2)
    )
    assert [hit["id"] for hit in first["hits"]] == [hit["id"] for hit in second["hits"]]
    assert "cache" in second["seconds"]
    assert sum(path.is_file() for path in (tmp_path / "maps").rglob("*")) >= 12


def test_conditions_of_a_request() -> None:
    assert Filters().selection() == Selection()
    filters = Filters(camera=["1", ""], identity=["a"], since="2024-05-01", where=["track=3", "seen=", ""])
    assert filters.selection() == Selection(
        camera=["1", ""], identity=["a"], since="2024-05-01", where={"track": "3", "seen": ""}
    )
    for where in (["=3"], ["a"], ["a=1", "a=2"]):
        with pytest.raises(InputError, match=r"key=value|given twice"):
            Filters(where=where).selection()


def test_values_mean_the_same_in_every_request(start: Start, home: Home) -> None:
    server = start(allow_add=True)
    client, token = server.client, server.signed_in()
    known = {"camera": "-1", "identity": "7.0", "attribute": ["track=5.0", "seen=True", "none="]}
    answer = client.post("/api/gallery", files=[upload(home.queries[0])], data=known, headers=token)
    (id,) = answer.json()["ids"]
    expressions = (
        {"camera": ""},
        {"camera": ["", "9"], "where": "identity=7"},
        {"identity": "7.00", "where": "track=5"},
        {"identity": ["7"], "source": [""]},
        {"where": ["camera=", "identity=7"]},
        {"where": ["track=5", "seen=true", "none="]},
    )
    for conditions in expressions:
        browsed = client.get("/api/gallery", params=conditions).json()["items"]
        searched = client.post("/api/search", files=[upload(home.queries[1])], data=conditions).json()["hits"]
        expected = [] if conditions.get("identity") == "7.00" else [id]
        assert [item["id"] for item in browsed] == [hit["id"] for hit in searched] == expected
    (item,) = client.get("/api/gallery?where=track%3D5").json()["items"]
    assert (item["camera"], item["identity"], item["attributes"]) == (None, "7", {"track": 5, "seen": True})
    for refused in ("where=time%3D1", "where=a%3D1&where=a%3D2", "since=noon"):
        answer = client.get(f"/api/gallery?{refused}")
        assert answer.status_code == 422
    many = [f"a{number}={'x' * 900}" for number in range(80)]
    before = set((server.settings.state / "added").iterdir())
    answer = client.post(
        "/api/gallery", files=[upload(home.queries[1])], data={"attribute": many}, headers=token
    )
    assert answer.json()["added"] == 0
    assert "bytes are more than the 65,536 allowed" in answer.json()["unreadable"][0]["message"]
    assert set((server.settings.state / "added").iterdir()) == before


def test_cameras_are_sorted_as_people_count() -> None:
    assert sorted(["10", None, "2", "door", "1"], key=natural) == ["1", "2", "10", "door", None]


def test_messages_do_not_show_where_files_are() -> None:
    assert without_folders("/home/me/a b.jpg: no such file") == "a b.jpg: no such file"
