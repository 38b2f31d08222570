"""Reads a page as a browser does, and finds what must not be in any."""

import html.parser
import re
from collections.abc import Callable

import pytest


class Reader(html.parser.HTMLParser):
    """Collects text and attributes, and finds tags that are not closed."""

    VOID = frozenset({"meta", "link", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


@pytest.fixture
def read() -> Callable[[str], Reader]:
    """Parses a page. It must be closed in itself, have no script, and load nothing from anywhere."""

    def parse(page: str) -> Reader:
        page.encode()
        reader = Reader()
        reader.feed(page)
        reader.close()
        assert reader.open == []
        without_pictures = re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "data:", page)
        for word in ("//", "url(", "@import", "<script"):
            assert word not in without_pictures
        assert "default-src 'none'" in page
        for tag, attributes in reader.tags:
            assert tag not in ("script", "iframe", "object", "embed")
            for name in ("src", "href"):
                assert (attributes.get(name) or "data:").startswith("data:")
        assert page.index("</title>") < 4096  # the server looks no further for a report's title
        return reader

    return parse
