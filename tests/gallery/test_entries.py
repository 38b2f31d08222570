import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronreid.errors import InputError
from kronreid.gallery.entries import Entry, format_box, parse_box, path_to_text, text_to_path

names = st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\0" not in name)


@given(names)
def test_any_name_survives_as_text(name):
    path = Path("/pictures", os.fsdecode(name))
    text = path_to_text(path)
    text.encode()
    assert text_to_path(text) == path


@given(st.tuples(*[st.integers(-50, 5000)] * 2, *[st.integers(1, 5000)] * 2))
def test_boxes_survive_as_text(box):
    assert parse_box(format_box(box)) == box


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "0,0,0,5", "0,0,5,-1", "nan,0,1,1", "1e999,0,1,1"])
def test_impossible_boxes_are_refused(text):
    with pytest.raises(InputError, match="box"):
        parse_box(text)


def test_a_row_gives_the_entry_back():
    entry = Entry(Path("/a b/'c'.jpg"), (1, 2, 3, 4), "7", 12.5, None, "monday", {"track": 4}, id="ab")
    assert Entry.from_row(entry.to_row()) == entry
    assert Entry.from_row(Entry(Path("/x"), id="ab").to_row()) == Entry(Path("/x"), id="ab")
