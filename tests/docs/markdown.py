"""What the documents hold: code blocks, code in prose, links and headings."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Piece:
    """A part of a document.

    Attributes:
        document: The file.
        line: Where it begins, from 1.
        text: What stands there.
        language: Of a code block; empty without one.
    """

    document: Path
    line: int
    text: str
    language: str = ""

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> list[Piece]:
    """Its fenced code blocks, in order."""
    text = document.read_text()
    return [
        Piece(document, text.count("\n", 0, found.start()) + 1, found[2], found[1])
        for found in FENCE.finditer(text)
    ]


def prose(document: Path) -> str:
    """The document with its code blocks left blank; lines stay where they are."""
    return FENCE.sub(lambda found: "\n" * found[0].count("\n"), document.read_text())


def spans(document: Path) -> list[Piece]:
    """Code between backticks in prose and tables, on one line each."""
    return _found(document, r"`([^`]+)`")


def links(document: Path) -> list[Piece]:
    """Where the links and images of a document lead to."""
    return _found(document, r"\]\(([^)\s]+)\)")


def _found(document: Path, pattern: str) -> list[Piece]:
    text = prose(document)
    return [
        Piece(document, text.count("\n", 0, found.start()) + 1, " ".join(found[1].split()))
        for found in re.finditer(pattern, text)
    ]


def anchors(document: Path) -> set[str]:
    """What a link may name behind ``#``, as GitHub and PyPI make it of the headings."""
    made: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE):
        shown = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", heading).replace("`", "")
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 0
        while (name := f"{anchor}-{number}" if number else anchor) in made:
            number += 1
        made.add(name)
    return made
