"""A disk that is full or read-only, and a log that cannot be written: nothing happens half, or unlogged."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kronreid.cli import main
from kronreid.errors import InputError
from kronreid.gallery import Gallery
from kronreid.serve import files
from kronreid.serve.audit import LINE
from kronreid.serve.files import append_lines, make_private, refuse_links, write_once

from ..conftest import Home, Server, Start, encoded, noise, upload


def sent(*seeds: int) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("pictures", (f"{seed}.png", encoded(noise(seed), "PNG"), "image/png")) for seed in seeds]


def add(server: Server, *seeds: int) -> Any:
    return server.client.post("/api/gallery", files=sent(*seeds), headers=server.signed_in())


def files_of(server: Server) -> list[str]:
    folder = server.settings.state / "added"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def rows(server: Server) -> int:
    return server.service.gallery.current.count


class Disk:
    """A disk that fails from the n-th writing on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str, below: Path, after: int = 0) -> None:
        real = getattr(os, call)
        self.left = after

        def failing(path: Any, *more: Any, **options: Any) -> Any:
            flags = more[0] if call == "open" and more else os.O_CREAT
            if str(path).startswith(str(below)) and flags & os.O_CREAT:
                if self.left <= 0:
                    raise OSError(errno.ENOSPC, "No space left on device", str(path))
                self.left -= 1
            return real(path, *more, **options)

        monkeypatch.setattr(os, call, failing)


# ── the record comes first ──────────────────────────────────────────────────────────────────────────────


def test_what_cannot_be_recorded_does_not_happen(start: Start, home: Home, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    server = start(audit=log, allow_add=True)
    (id,) = add(server, 1).json()["ids"]
    hit = server.client.post("/api/search", files=[upload(home.queries[0])]).json()
    query = hit["query"][0]["id"]
    before = (rows(server), files_of(server))
    log.rename(tmp_path / "moved")
    log.mkdir()
    token = server.signed_in()
    mark = {"query": query, "item": id, "same": True}
    acts = [
        lambda: add(server, 2),
        lambda: server.client.delete(f"/api/gallery/{id}", headers=token),
        lambda: server.client.post("/api/feedback", json=mark, headers=token),
        lambda: server.client.get(f"/api/pictures/{id}"),
        lambda: server.client.get("/api/gallery"),
        lambda: server.client.get("/api/feedback.csv"),
        lambda: server.client.post("/api/search", data={"item": id}),
    ]
    for act in acts:
        answer = act()
        assert answer.status_code == 503
        assert "audit log" in answer.json()["message"]
    assert (rows(server), files_of(server)) == before
    assert not (server.settings.state / "feedback.jsonl").exists()
    assert server.client.post("/api/login", json={"token": "wrong"}).status_code == 503
    wrong = server.client.get("/api/info", headers={"Authorization": "Bearer wrong"})
    assert wrong.status_code == 503
    log.rmdir()
    assert all(act().status_code < 300 for act in acts[::-1])
    steps = [line for line in map(json.loads, log.read_text().splitlines()) if "step" in line]
    assert [(line["action"], line["step"]) for line in steps] == [
        (action, step) for action in ("feedback", "delete", "add") for step in ("begun", "done")
    ]


def test_looking_leaves_a_trace(start: Start, home: Home, tmp_path: Path) -> None:
    server = start(audit=tmp_path / "audit.jsonl")
    id = server.ids()[0]
    paths = {
        "browse": "/api/gallery?camera=1&limit=3",
        "stats": "/api/gallery/stats",
        "picture": f"/api/pictures/{id}?size=thumb",
        "marks": "/api/feedback.csv",
    }
    for path in paths.values():
        assert server.client.get(path).status_code == 200
    tag = server.client.get(f"/api/pictures/{id}").headers["etag"]
    assert server.client.get(f"/api/pictures/{id}", headers={"If-None-Match": tag}).status_code == 304
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["action"] for line in lines[1:]] == [*paths, "picture", "picture"]
    assert (lines[1]["filters"], lines[1]["shown"]) == ({"camera": ["1"]}, 3)
    assert (lines[3]["item"], lines[3]["size"]) == (id, "thumb")


def test_no_request_writes_megabytes_into_the_log(start: Start, home: Home, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    server = start(audit=log, allow_add=True)
    long = ["x" * 900] * 300
    asked: list[dict[str, Any]] = [
        {"camera": long, "identity": long, "where": [f"{n}=" + "y" * 900 for n in range(90)]},
        {"since": "z" * 900},
        {"item": ["0" * 64] * 16},
    ]
    for data in asked:
        server.client.post("/api/search", data=data, files=[upload(home.queries[0])])
    known = {"attribute": [f"{'k' * 400}{n}={'v' * 500}" for n in range(90)]}
    server.client.post(
        "/api/gallery", data=known, files=[upload(home.queries[0])], headers=server.signed_in()
    )
    lines = log.read_text().splitlines()
    assert len(lines) >= 4
    assert max(map(len, lines)) <= LINE


# ── all or nothing ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("after", range(8))
def test_a_disk_that_fills_leaves_no_files_without_rows(
    start: Start, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    server = start(allow_add=True, full=False)
    assert add(server, 1).json()["added"] == 1
    before = files_of(server)
    with monkeypatch.context() as patched:
        Disk(patched, "open", server.settings.state / "added", after)
        answer = add(server, 2, 3, 4, 5)
    if answer.status_code == 503:
        assert "No space left" in answer.json()["message"]
        assert (rows(server), files_of(server)) == (1, before)
    else:
        assert answer.json()["added"] == 4
        assert (rows(server), len(files_of(server))) == (5, 5)
    assert add(server, 2, 3, 4, 5).status_code == 200
    assert (rows(server), len(files_of(server))) == (5, 5)


def test_a_picture_whose_file_cannot_be_removed_stays(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(allow_add=True, full=False)
    (id,) = add(server, 1).json()["ids"]
    before = files_of(server)

    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        for name in ("rename", "unlink", "replace", "remove"):
            patched.setattr(os, name, read_only)
            patched.setattr(Path, name, read_only, raising=False)
        for _ in range(2):
            answer = server.client.delete(f"/api/gallery/{id}", headers=server.signed_in())
            assert answer.status_code == 503
            assert "Read-only" in answer.json()["message"]
    assert (rows(server), files_of(server)) == (1, before)
    assert server.client.delete(f"/api/gallery/{id}", headers=server.signed_in()).status_code == 204
    assert (rows(server), files_of(server)) == (0, [])


def test_a_row_that_cannot_be_deleted_keeps_its_file(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(allow_add=True, full=False)
    (id,) = add(server, 1).json()["ids"]
    before = files_of(server)

    def broken(*_: Any, **__: Any) -> None:
        raise InputError(server.service.gallery.uri, "the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Gallery, "delete", broken)
        answer = server.client.delete(f"/api/gallery/{id}", headers=server.signed_in())
        assert answer.status_code == 503
    assert files_of(server) == before
    assert server.client.get(f"/api/pictures/{id}").status_code == 200


def test_the_next_start_finishes_what_a_crash_left(start: Start, tmp_path: Path) -> None:
    server = start(allow_add=True, full=False)
    kept, lost = add(server, 1, 2).json()["ids"]
    folder = server.settings.state / "added"
    of = {id: server.service.gallery.entry(id).path for id in (kept, lost)}
    # Died between moving a file away and deleting its row; after deleting a row; while adding; while writing.
    of[lost].rename(folder / f".gone-{of[lost].name}")
    (folder / (".gone-" + "a" * 64 + ".png")).write_bytes(b"its row is gone")
    (folder / ("b" * 64 + ".png")).write_bytes(b"it never got a row")
    (folder / (".new-" + "b" * 64 + ".png")).touch()
    (folder / f".new-{of[kept].name}").touch()
    (folder / ".tmp-0123").write_bytes(b"half")
    server.service.added.finish()
    assert files_of(server) == sorted(path.name for path in of.values())
    for id in of:
        assert server.client.get(f"/api/pictures/{id}").status_code == 200


def test_verify_finds_files_without_rows_and_rows_without_files(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start(allow_add=True, full=False)
    kept, lost = add(server, 1, 2).json()["ids"]
    folder = server.settings.state / "added"
    server.service.gallery.entry(lost).path.unlink()
    (folder / "stray.png").write_bytes(b"no row")
    server.service.gallery.close()
    command = ["gallery", "verify", "--gallery", str(server.folder / "people.gallery")]
    assert main([*command, "--state", str(server.settings.state)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line.partition(":")[0] for line in lines[1:]] == ["missing", "strays"]
    assert lines[2] == f"strays: {folder / 'stray.png'}"
    assert kept not in str(lines)


def test_a_read_only_state_folder_is_said_in_words(
    start: Start, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(allow_add=True)
    found = server.client.post("/api/search", files=[upload(home.queries[0])]).json()
    mark = {"query": found["query"][0]["id"], "item": found["hits"][0]["id"], "same": True}

    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("open", "mkdir", "rename", "unlink", "replace"):
        monkeypatch.setattr(files.os, name, read_only) if name == "open" else None
        if name != "open":
            monkeypatch.setattr(Path, name, read_only)
    for answer in (
        add(server, 1),
        server.client.post("/api/feedback", json=mark, headers=server.signed_in()),
    ):
        assert answer.status_code == 503
        assert "Read-only" in answer.json()["message"]
    assert rows(server) == 12


# ── the server's own folder ─────────────────────────────────────────────────────────────────────────────


def test_folders_are_closed_to_others(start: Start, home: Home, tmp_path: Path) -> None:
    os.umask(os.umask(0o022))
    state = tmp_path / "deep" / "state"
    state.mkdir(parents=True)
    state.chmod(0o777)
    server = start(allow_add=True, state=state, cache=tmp_path / "maps", audit=state / "audit.jsonl")
    add(server, 1)
    found = server.client.post("/api/search", files=[upload(home.queries[0])]).json()
    mark = {"query": found["query"][0]["id"], "item": found["hits"][0]["id"], "same": True}
    assert server.client.post("/api/feedback", json=mark, headers=server.signed_in()).status_code == 204
    for path in (state, tmp_path / "maps", *state.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    "name", ["", "audit.jsonl", "feedback.jsonl", "key", "added", "queries", "added/a.jpg", "queries/a.jpg"]
)
def test_planted_links_are_refused(home: Home, tmp_path: Path, start: Start, name: str) -> None:
    state, victim = tmp_path / "state", tmp_path / "victim"
    victim.write_text("precious")
    target = tmp_path / "folder" if name in ("", "added", "queries") else victim
    (tmp_path / "folder").mkdir()
    place = state / name if name else state
    place.parent.mkdir(exist_ok=True, parents=True)
    place.symlink_to(target)
    with pytest.raises(InputError, match="link"):
        start(state=state, allow_add=True)
    assert victim.read_text() == "precious"
    assert not list((tmp_path / "folder").iterdir())


def test_links_that_are_planted_later_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = make_private(tmp_path / "state")
    (folder / "log").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        append_lines(folder / "log", "line")
    write_once(folder / "log", b"mine")
    assert not (folder / "log").is_symlink()
    assert victim.read_text() == "precious"
    refuse_links(folder)


# ── what others have searched for ───────────────────────────────────────────────────────────────────────


def test_nobody_can_ask_whether_a_photo_was_searched(start: Start, home: Home) -> None:
    from kronreid.serve.uploads import read_upload

    server = start()
    photo = home.queries[0].read_bytes()
    sent = server.client.post("/api/search", files=[upload(home.queries[0])]).json()["query"][0]["id"]
    guessed = read_upload("a", photo, "", 10**6).entry.id
    assert sent != guessed
    for data in ({"item": guessed}, {"item": [guessed, server.ids()[0]]}):
        assert server.client.post("/api/search", data=data).status_code == 404
    mark = {"query": guessed, "item": server.ids()[0], "same": True}
    answer = server.client.post("/api/feedback", json=mark, headers=server.signed_in())
    assert answer.status_code == 404
    other = start()  # another server has another key
    assert other.client.post("/api/search", files=[upload(home.queries[0])]).json()["query"][0]["id"] != sent
