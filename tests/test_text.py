"""Text that leaves for a terminal or a spreadsheet."""

import csv
import io
import logging

from hypothesis import example, given
from hypothesis import strategies as st

from kronreid.text import CsvWriter, VisibleFormatter, plain_cell, say, sound_cell, visible

ANY = st.text(st.characters())


@given(ANY)
@example("\x1b]0;a\x07\r\nb\x9b31m\u202e\u2028\udcff")
def test_visible_text_controls_no_terminal(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert visible(shown) == shown
    assert shown == text or not text.isprintable()


def test_what_is_said_stays_on_its_line() -> None:
    out = io.StringIO()
    say("a\nb", "c\x1b[2J", file=out)
    assert out.getvalue() == "a\\nb\nc\\x1b[2J\n"
    assert visible("\udcff.jpg") == "\\xff.jpg"


def test_a_message_of_a_log_is_one_short_line() -> None:
    record = logging.LogRecord("a", logging.ERROR, "a", 1, "%s", ("x\ny" * 10_000,), None)
    line = VisibleFormatter("%(message)s").format(record)
    assert line.startswith("x\\ny")
    assert len(line) < 10_000


@given(st.lists(ANY, min_size=1))
@example(["=1+1", "'=1", "+1", "-1", "-1.5e3", "-a", "@a", "\t=1", "", "'", "''", "−1", "＝1"])
def test_no_cell_is_a_formula_and_all_are_read_back(cells: list[str]) -> None:
    file = io.StringIO(newline="")
    CsvWriter(file).row(cells)
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert [plain_cell(cell) for cell in row] == cells
    for cell in row:
        try:
            float(cell)
        except ValueError:
            assert cell[:1] not in tuple("=+-@\t\r\n＝＋－＠"), cell


def test_numbers_stay_numbers() -> None:
    for value in (-1, -1.5, "-1", "+1.5", "-1e-7", None, "3", "a"):
        assert sound_cell(value) == value
