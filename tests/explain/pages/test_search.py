"""A search as a page, of entries whose pictures are files, one of them gone."""

import base64
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kronreid.data.images import unrecognisable
from kronreid.explain.pages.search import search_page
from kronreid.gallery.search import Group, Hit, SearchResult

Read = Callable[[str], Any]


@pytest.fixture
def hits(tmp_path: Path, people: list[Image.Image]) -> list[Hit]:
    hits = []
    for rank, person in enumerate(people[:5], start=1):
        path = tmp_path / f"person-{rank}.png"
        person.save(path)
        probability = 0.9 / rank if rank < 4 else None
        hits.append(Hit(path, similarity=0.8 / rank, probability=probability, rank=rank, camera="north"))
    return hits


class Explains:
    def __init__(self, explanation: SimpleNamespace) -> None:
        self.explanation = explanation
        self.asked: list[tuple[Any, Any]] = []

    def explain(self, a: Any, b: Any) -> SimpleNamespace:
        self.asked.append((a, b))
        return self.explanation


def test_scores_and_maps_are_shown(
    hits: list[Hit], explanation: SimpleNamespace, people: list[Image.Image], read: Read
) -> None:
    hits[1].path.unlink()
    matcher = Explains(explanation)
    result = SearchResult(hits, {"embed": 0.012, "total": 0.1})
    page = search_page(result, [people[0], people[5]], matcher, maps=3)
    reader = read(page)
    words = reader.words()
    assert "5 hits" in words
    assert "embed 12 ms, total 100 ms" in words
    assert re.findall(r"same person\s*([\d.]+) %", words) == ["90.0", "45.0", "30.0"]
    assert words.count("picture not found") == 1
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert len(images) == 2 + 4 + 2  # the queries, the hits but one, why the first and the third match
    assert len(matcher.asked) == 2
    assert all(query == people[0] for query, _ in matcher.asked)


def test_without_a_matcher_there_are_similarities_alone(
    hits: list[Hit], people: list[Image.Image], read: Read
) -> None:
    page = search_page(SearchResult(hits[3:], {}), people[0])
    words = read(page).words()
    assert "2 hits" in words
    assert "Ordered by similarity." in words
    assert "same person" not in words
    assert "<details>" not in page


def test_groups_have_headings(hits: list[Hit], people: list[Image.Image], read: Read) -> None:
    result = SearchResult(hits, {}, [Group("<b>7", hits[:2]), Group(None, hits[2:])])
    page = search_page(result, people[0])
    read(page)
    assert re.findall("<h2>(.*?)</h2>", page) == ["&lt;b&gt;7", "unknown"]
    assert page.count('<ol class="cards">') == 2


def test_names_and_attributes_cannot_become_markup(
    tmp_path: Path, people: list[Image.Image], read: Read
) -> None:
    bad = "<script>\udcff&</dl>"
    path = tmp_path / os.fsdecode(b"<b>\xff&.png")
    hit = Hit(path, camera=bad, identity=bad, source=bad, attributes={bad: bad}, rank=1)
    page = search_page(SearchResult([hit], {bad: 1.0}, [Group(bad, [hit])]), people[0])
    words = read(page).words()
    assert words.count(r"<script>\udcff&</dl>") == 7
    assert r"<b>\udcff&.png" in words


def test_blurred_people_cannot_be_recognised_and_are_not_explained(
    hits: list[Hit], explanation: SimpleNamespace, people: list[Image.Image], read: Read
) -> None:
    matcher = Explains(explanation)
    result = SearchResult(hits, {})
    page = search_page(result, people[0], matcher, maps=3, blurred=lambda hit: hit.rank != 2)
    sources = [dict(attributes)["src"] for tag, attributes in read(page).tags if tag == "img"]
    shown = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]
    assert len(matcher.asked) == 1, "an explanation shows the picture"
    assert len(shown) == 1 + 5 + 1
    pictures = [image for image in shown if image.size == people[0].size]
    plain = [np.abs(np.asarray(unrecognisable(one), float) - np.asarray(one)).mean() < 2 for one in pictures]
    assert plain == [False, True, False, True, True, True], "the query and one hit can be seen"


@given(st.integers(1, 60), st.integers(1, 60))
def test_tiles_have_the_size_of_the_picture(width: int, height: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    found = unrecognisable(Image.fromarray(noise))
    assert found.size == (width, height)
    assert len(found.getcolors(24)) <= 24
