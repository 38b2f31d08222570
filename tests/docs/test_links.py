"""Links lead somewhere, and files that are named are there."""

import re
from pathlib import Path

import pytest

from .markdown import DOCUMENTS, ROOT, anchors, links, spans

EVERY = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
#: Where names of files in prose may begin: a name like ``models/kpm.py`` is one of the source's.
PLACES = (ROOT, ROOT / "src" / "kronreid", ROOT / "configs")


@EVERY
def test_links_lead_to_files_and_headings(document: Path) -> None:
    for link in links(document):
        if re.match(r"https?:|mailto:", link.text):
            continue
        file, _, anchor = link.text.partition("#")
        target = (document.parent / file).resolve() if file else document
        assert target.exists(), f"{link}: {link.text}"
        assert not anchor or anchor in anchors(target), f"{link}: {link.text}"


@EVERY
def test_files_that_are_named_are_there(document: Path) -> None:
    for span in spans(document):
        if is_file(span.text):
            pattern = re.sub(r"<[^>]*>|[A-Z]{2,}", "*", span.text)
            assert any(any(place.glob(pattern.strip("/"))) for place in PLACES), f"{span}: {span.text}"


def is_file(text: str) -> bool:
    """Whether code names a file of the project: below one of its folders, or a source or config file."""
    return bool(
        re.fullmatch(r"(src|configs|benchmarks|docs|tests|\.ci)/[^ ]*( [^ /]*>/?)?", text)
        or re.fullmatch(r"[\w./-]+/[\w.-]+\.(py|yaml)", text)
    )


def test_documents_that_the_source_names_are_there() -> None:
    named = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in re.findall(r"docs/\w+\.md", path.read_text())
    }
    assert len(named) > 3
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_what_is_looked_at_is_there() -> None:
    """None of these tests looks at nothing."""
    assert sum(len(links(document)) for document in DOCUMENTS) > 50
    named = {span.text for document in DOCUMENTS for span in spans(document) if is_file(span.text)}
    assert {"models/kpm.py", "src/kronreid/serve/schemas.py"} <= named
    assert anchors(ROOT / "docs" / "datasets.md") >= {"market-1501", "a-list-of-your-own"}
