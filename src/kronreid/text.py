"""Text that leaves for a terminal or a spreadsheet: nothing in it can control the program that shows it."""

import csv
import logging
import re
import sys
from collections.abc import Iterable
from typing import IO, Any

#: The most characters of a message in a log.
LONGEST = 4000
#: Cells that a spreadsheet would run as formulas, also after the quotes that `sound_cell` adds.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def visible(text: str) -> str:
    r"""Text in which control characters and other invisible ones are shown by their numbers, like ``\x1b``.

    A file's name may hold any: escapes of a terminal, new lines, marks that change the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _number(sign) for sign in text)


def _number(sign: str) -> str:
    if "\udc80" <= sign <= "\udcff":  # a byte of a name that is not UTF-8
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape", "surrogatepass").decode()


def say(*lines: object, file: IO[str] | None = None, flush: bool = False) -> None:
    """Print lines for people; each stays on its own line, whatever is in it."""
    for line in lines:
        print(visible(str(line)), file=file or sys.stdout, flush=flush)


class VisibleFormatter(logging.Formatter):
    """Writes each message of a log on one line of limited length. Tracebacks follow as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        text = super().formatMessage(record)
        return visible(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def sound_cell(value: Any) -> Any:
    """A cell that no spreadsheet runs as a formula: one that begins like a formula gets a quote in front."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value) or not _FORMULA.match(value):
        return value
    return f"'{value}"


def plain_cell(text: str) -> str:
    """The reverse of `sound_cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


class CsvWriter:
    """Writes rows of CSV with `sound_cell`.

    Args:
        file: A text file that was opened with ``newline=""``.
    """

    def __init__(self, file: IO[str]) -> None:
        self._writer = csv.writer(file)

    def row(self, values: Iterable[Any]) -> None:
        """Write one row. Values that are no text, like paths, are written as their text."""
        self._writer.writerow(
            sound_cell(value if isinstance(value, int | float) or value is None else str(value))
            for value in values
        )
