"""The documentation as a site, and the version: in one place, and the same wherever it is said."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import kronreid
from kronreid.cli import COMMANDS

ROOT = Path(__file__).parent.parent


class Page(HTMLParser):
    """What a page of the site links to, what it loads, and where it can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.anchors.update(filter(None, (values.get("id"), values.get("name"))))
        if tag == "a":
            self.links.append(values.get("href") or "")
        elif tag == "link":
            self.loaded.append(values.get("href") or "")
        else:
            self.loaded.append(values.get("src") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """The pages by name, of a strict build: a broken link, or a document that is in no menu, ends it.

    It is built without the index for searching, which takes a fifth of the time.
    """
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "SITE_SEARCH": "false"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = (path for path in folder.rglob("*.html") if path.name != "404.html")
    return {path.relative_to(folder).as_posix(): Page(path) for path in pages}


def test_every_document_is_a_page(site: dict[str, Page]) -> None:
    documents = {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    assert documents | {"index.html", "contributing.html", "changelog.html"} <= set(site)


def test_reference_has_every_public_name_and_every_room(site: dict[str, Page]) -> None:
    assert {f"kronreid.{name}" for name in kronreid.__all__} <= site["api/kronreid.html"].anchors
    assert "kronreid.ops.matching.match_reference" in site["api/ops.html"].anchors
    names = {path.stem for path in (ROOT / "src" / "kronreid").iterdir() if not path.name.startswith("_")}
    assert {f"api/{name}.html" for name in names - {"cli", "py"}} <= set(site)


def test_every_command_has_its_help(site: dict[str, Page]) -> None:
    names = {command.__name__.rpartition(".")[2].replace("_", "-") for command in COMMANDS}
    assert {f"kronreid-{name}" for name in names} <= site["commands.html"].anchors


def test_links_lead_to_something(site: dict[str, Page]) -> None:
    by_path = {page.path: page for page in site.values()}
    for name, page in site.items():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or not link:
                continue
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            assert target.is_file(), f"{name}: {link}"
            if parts.fragment and target in by_path:
                assert unquote(parts.fragment) in by_path[target].anchors, f"{name}: {link}"


def test_nothing_is_loaded_from_elsewhere(site: dict[str, Page]) -> None:
    for name, page in site.items():
        assert not [link for link in page.loaded if urlsplit(link).netloc], name


def test_docstrings_are_read_as_they_are_meant(site: dict[str, Page]) -> None:
    text = site["api/kronreid.html"].path.read_text()
    assert "(N, dimension) float32, L2-normalised: the inner product" in text  # no type before the colon
    assert "Example::" not in text
    assert "&gt;&gt;&gt; " in text  # an example is code, not three quotations inside each other


def test_citation() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["license"] == "MIT"
    first, *_ = (ROOT / "LICENSE").read_text().partition("\n\nPermission")
    assert first.endswith(citation["authors"][0]["name"])
    assert len(citation["references"]) == 2
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)
        assert all(set(author) == {"given-names", "family-names"} for author in reference["authors"])


def test_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    top = re.search(r"^## (\S+) - (Unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert top is not None
    assert kronreid.__version__ == version("kronreid") == citation["version"] == top[1]
    assert ("date-released" in citation) == (top[2] != "Unreleased")
