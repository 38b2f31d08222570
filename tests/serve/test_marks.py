"""Marks survive restarts and crashes."""

import dataclasses
from pathlib import Path

import pytest

from kronreid.serve.marks import Mark, Marks

MARK = Mark("q", "/q.jpg", "", "i", "/i.jpg", "1,2,3,4", True, "2026-01-01T00:00:00+00:00")


def test_the_last_mark_of_a_pair_counts_after_a_restart_too(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "state")
    assert not (tmp_path / "state").exists()
    other = dataclasses.replace(MARK, item="j")
    for mark in (MARK, other, dataclasses.replace(MARK, same=False), dataclasses.replace(other, same=None)):
        marks.add(mark)
    for seen in (marks, Marks(tmp_path / "state")):
        assert seen.same(["x", "q"], "i") is False
        assert seen.same(["q"], "j") is None
        header, row = seen.csv().splitlines()
        assert header == "time,query,query_path,query_box,item,item_path,item_box,same"
        assert row == '2026-01-01T00:00:00+00:00,q,/q.jpg,,i,/i.jpg,"1,2,3,4",0'


def test_half_a_line_loses_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Marks(tmp_path).add(MARK)
    with (tmp_path / "feedback.jsonl").open("a") as file:
        file.write('{"query": "q2", "item')
    assert Marks(tmp_path).same(["q"], "i") is True
    assert "line 2 is damaged" in caplog.text
    Marks(tmp_path).add(dataclasses.replace(MARK, item="after the crash"))
    assert Marks(tmp_path).same(["q"], "after the crash") is True


def test_a_marked_upload_is_kept_once(tmp_path: Path) -> None:
    marks = Marks(tmp_path)
    path = marks.keep_picture("a" * 64, b"one")
    assert marks.keep_picture("a" * 64, b"two") == path
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o077 == 0
