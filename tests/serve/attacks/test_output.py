"""Names of files and values of rows that are printed, exported, and shown in answers."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kronreid.cli import main
from kronreid.gallery import Entry, Gallery

from ..conftest import Home, Start, encoded, noise

NAMES = [
    "\x1b]0;owned\x07.png",
    "a\n   1  similarity 1.000  b.png",
    "\x9b31m.png",
    "\u202egnp.exe.png",
]
VALUES = ['=HYPERLINK("http://evil")', "+1+1", "-1+1", "@SUM(1)", "\t=1", "'=1"]


@pytest.fixture
def odd(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gallery of pictures with hostile names and values."""
    monkeypatch.setattr("kronreid.cli.search.load_model", lambda path, option: home.embedder)
    monkeypatch.setattr("kronreid.cli.index.load_model", lambda path, option: home.embedder)
    (tmp_path / "crops").mkdir()
    names = [*NAMES, os.fsdecode(b"\xff\x9b.png")]
    for seed, name in enumerate(names):
        (tmp_path / "crops" / name).write_bytes(encoded(noise(seed), "PNG"))
    uri = tmp_path / "odd.gallery"
    entries = [
        Entry(
            tmp_path / "crops" / name, camera=value, identity=value, source=value, attributes={value: value}
        )
        for name, value in zip(names, VALUES)
    ]
    with Gallery(uri, home.embedder) as gallery:
        assert gallery.add(entries, progress=False).added == len(names)
    return uri


def lines_of(text: str) -> list[str]:
    lines = text.split("\n")
    assert lines.pop() == ""
    assert all(line.isprintable() for line in lines), text
    return lines


def test_names_are_printed_visibly(
    odd: Path, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = str(home.queries[0])
    runs: list[Callable[[], int]] = [
        lambda: main(["gallery", "list", "--gallery", str(odd)]),
        lambda: main(["search", query, "--gallery", str(odd), "--json", str(tmp_path / "hits.json")]),
        lambda: main(["gallery", "verify", "--gallery", str(odd)]),
        lambda: main(["index", str(tmp_path / "crops"), "--model", "m", "--gallery", str(odd)]),
        lambda: main(["search", "\x1b[2J\nno such.png", "--gallery", str(odd)]),
        lambda: main(["gallery", "list", "--gallery", str(odd), "--\x1b[2J"]),
    ]
    for name in NAMES:
        (tmp_path / "crops" / name).write_bytes(b"changed")
    counts = []
    for run in runs:
        run()
        told = capsys.readouterr()
        lines_of(told.err.replace("\r", "\n") if told.err else "\n")
        counts.append(len(lines_of(told.out)) if told.out else 0)
    assert counts[0] == len(NAMES) + 1
    assert counts[1] == len(NAMES) + 2  # the hits and the times
    hits = json.loads((tmp_path / "hits.json").read_text())["hits"]
    assert {Path(hit["path"]).name for hit in hits} == {*NAMES, os.fsdecode(b"\xff\x9b.png")}


def test_an_exported_list_has_no_formulas_and_is_read_back(odd: Path, home: Home, tmp_path: Path) -> None:
    with Gallery(odd) as gallery:
        gallery.export(tmp_path / "list.csv")
        before = {entry.id: entry for entry in gallery.entries()}
    with (tmp_path / "list.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]
    with Gallery(tmp_path / "again.gallery", home.embedder) as gallery:
        gallery.add(tmp_path / "list.csv", progress=False)
        assert {entry.id: entry for entry in gallery.entries()} == before


def test_damaged_rows_spoil_no_answer_and_can_be_deleted(start: Start, home: Home) -> None:
    server = start(allow_add=True)
    gallery = server.service.gallery.current
    entry = next(gallery.entries())
    vector = np.full(gallery.dimension, gallery.dimension**-0.5, np.float32)
    odd = {
        "a" * 64: {"box": "1,2"},
        "b" * 64: {"box": "nonsense"},
        "c" * 64: {"box": "0,0,-5,1e400"},
        "d" * 64: {"path": ""},
        "e" * 64: {"path": "file:///%00%ff"},
        "f" * 64: {"path": "/a\u202e\n.png"},
    }
    for id, changes in odd.items():

        class Damaged(Entry):
            def to_row(self) -> dict:
                return super().to_row() | self.attributes["row"] | {"attributes": {}}

        known = {"path": entry.path, "attributes": {"row": changes}, "id": id}
        gallery._store.upsert([Damaged(**known)], vector[None])
    page = server.client.get("/api/gallery?limit=100").json()
    assert page["total"] == 12 + len(odd)
    assert odd.keys() <= {item["id"] for item in page["items"]}
    answer = server.client.post("/api/search", data={"item": entry.id})
    assert answer.status_code == 200
    assert len(answer.json()["hits"]) == 12 + len(odd)
    for id in odd:
        assert server.client.get(f"/api/pictures/{id}").status_code == 409
        assert server.client.post("/api/search", data={"item": id}).status_code == 409
        assert server.client.delete(f"/api/gallery/{id}", headers=server.signed_in()).status_code == 204
    assert server.client.get("/api/gallery").json()["total"] == 12
    assert entry.path.exists()
