"""Travel times between cameras from small files."""

import pytest

from kronreid.errors import InputError
from kronreid.gallery.travel import read_travel


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "from,to,seconds\ngate,yard,40\nyard,1,2.5\n"),
        ("t.csv", "\ufeffseconds,to,from,note\n40, yard ,gate,x\n2.5,1,yard,\n"),
        ("t.yaml", "- {from: gate, to: yard, seconds: 40}\n- {from: yard, to: 1, seconds: 2.5}\n"),
    ],
)
def test_both_forms_are_read(tmp_path, name, text) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_travel(tmp_path / name) == {("gate", "yard"): 40.0, ("yard", "1"): 2.5}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "has no entries"),
        ("t.csv", b"from,to,seconds\n", "has no entries"),
        ("t.csv", b"from,to\na,b\n", "entry 1 needs from and to"),
        ("t.csv", b"from,to,seconds\na,b,1\na,,2\n", "entry 2 needs"),
        ("t.csv", b"from,to,seconds\na,b,-1\n", "entry 1 needs"),
        ("t.csv", b"from,to,seconds\na,b,nan\n", "entry 1 needs"),
        ("t.csv", b"from,to,seconds\na,b,inf\n", "entry 1 needs"),
        ("t.csv", b"\xff\xfe\x00", "cannot be read"),
        ("t.yaml", b"{", "cannot be read"),
        ("t.yaml", b"", "entry 1 needs"),
        ("t.yaml", b"5", "entry 1 needs"),
        ("t.yaml", b"- [a, b, 3]", "entry 1 needs"),
        ("t.yaml", b"- {from: a, to: b, seconds: [1]}", "entry 1 needs"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_anything_else_is_one_line(tmp_path, name, content, message) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_travel(tmp_path / name)
    assert "\n" not in str(caught.value)
