"""A picture that is deleted leaves nothing in the server's folder."""

import time

from kronreid.gallery import Selection

from .conftest import Home, Start, upload


def test_marks_and_uploads_of_a_deleted_picture_go_with_it(start: Start, home: Home) -> None:
    server = start(allow_add=True)
    client, token, state = server.client, server.signed_in(), server.settings.state
    added = client.post("/api/gallery", files=[upload(home.queries[0])], headers=token).json()["ids"][0]
    found = client.post("/api/search", files=[upload(home.queries[0]), upload(home.queries[1])]).json()
    others = [hit["id"] for hit in found["hits"] if hit["id"] != added][:2]
    for query in found["query"]:
        for item in (added, *others):
            mark = {"query": query["id"], "item": item, "same": True}
            assert client.post("/api/feedback", json=mark, headers=token).status_code == 204
    path = server.service.gallery.current.entry(added).path
    assert path.exists()
    assert client.delete(f"/api/gallery/{added}", headers=token).status_code in (200, 204)
    folders = [state, server.folder / "people.gallery"]
    left = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    names = [file for file in left if added in file.name]
    assert names == []
    for file in left:
        if state in file.parents and file.name != "audit.jsonl":
            assert added.encode() not in file.read_bytes(), file
        # The identifier, a hash, stays in the gallery's list of what was deleted; it is also the file's name.
        assert str(path).encode() not in file.read_bytes(), file
    marks = client.get("/api/feedback.csv").text
    assert added not in marks
    assert all(item in marks for item in others)


def test_old_pictures_are_deleted_regularly(start: Start) -> None:
    server = start(keep=time.time() - 1.0)  # only pictures of 1970 are older
    gallery = server.service.gallery.current
    before = gallery.count
    some = next(iter(gallery.entries()))
    gallery.update(Selection(id=some.id), time=-5)
    assert server.service.expire() == 1
    assert gallery.count == before - 1
    assert server.service.expire() == 0
    assert gallery.entry(some.id) is None
