"""An evaluation as a page and as a picture."""

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from kronreid.errors import InputError
from kronreid.evaluation import RankedList, Result, evaluate
from kronreid.explain import write_report
from kronreid.explain.pages.evaluation import evaluation_figure, evaluation_page
from kronreid.explain.style import RIGHT, WRONG

Read = Callable[[str], Any]


@pytest.fixture
def numbers() -> Result:
    """Of vectors alone: ranked lists name rows."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(20, 8)).astype(np.float32)
    people = random.integers(1, 5, 20)
    result = evaluate(vectors[:8], people[:8], [0] * 8, vectors, people, [1] * 20, protocol="msmt17")
    ranked = RankedList(3, (8, 11), np.array([False, True]), np.zeros(2, np.float32), 0.5, 2.0)
    return dataclasses.replace(result, hardest=(ranked,))


@pytest.fixture
def result(numbers: Result, tmp_path: Path, people: list[Image.Image]) -> Result:
    """Of pictures, one with a name that is no UTF-8 and one of another shape."""
    paths = [tmp_path / name for name in ("query.png", os.fsdecode(b"<b>$\xff$.png"), "wide.png", "c.png")]
    for path, person in zip(paths, [people[0], people[1], people[2].resize((120, 60)), people[3]]):
        person.save(path, format="PNG")
    right = np.array([False, True, False])
    ranked = RankedList(paths[0], tuple(paths[1:]), right, np.zeros(3, np.float32), 0.125, 2.0)
    return dataclasses.replace(numbers, hardest=(ranked,))


def test_the_page_shows_the_rates_and_marks_right_and_wrong(
    result: Result, tmp_path: Path, read: Read
) -> None:
    write_report(result, "<made> & $x$", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    write_report(result, "<made> & $x$", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page
    reader = read(page)
    words = reader.words()
    assert "<title>&lt;made&gt; &amp; $x$: evaluation</title>" in page
    for rate in (result.rank1, result.rank5, result.rank10, result.mAP, result.mAP_trapezoid, result.mINP):
        assert f"<strong>{100 * rate:.2f}</strong>" in page
    assert "Protocol msmt17, 8 queries, 20 gallery pictures" in words
    assert "no match" not in words
    assert re.findall(r'<li class="(\w+)">', page) == ["wrong", "right", "wrong"]
    assert words.count("AP 12.5 %, first match at rank 2") == 1
    titles = [
        attributes["title"] for tag, attributes in reader.tags if tag == "img" and "title" in attributes
    ]
    assert titles == [r"<b>$\udcff$.png", "wide.png", "c.png"]
    assert {"CMC", "Average precision", "Pairs"} <= {a.get("aria-label") for _, a in reader.tags}


def test_queries_without_a_match_are_counted(result: Result, tmp_path: Path, read: Read) -> None:
    write_report(dataclasses.replace(result, queries_without_match=3), "x", tmp_path / "a.html")
    words = read((tmp_path / "a.html").read_text()).words()
    assert "3 queries have no match in the gallery; the rates are over the others" in words


def test_the_picture_shows_the_same(result: Result, tmp_path: Path) -> None:
    write_report(result, "<made> $x$", tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as image:
        assert image.width > 1000
        colours = {colour for _, colour in image.convert("RGB").getcolors(image.width * image.height)}
    assert {ImageColor.getrgb(RIGHT), ImageColor.getrgb(WRONG)} <= colours  # frames and marks


def test_vectors_alone_make_a_report(numbers: Result) -> None:
    for hardest, tiles in ((numbers.hardest, 3), ((), 0)):
        result = dataclasses.replace(numbers, hardest=hardest)
        assert evaluation_page(result, "vectors").count("<img") == tiles
        sheet, *charts = evaluation_figure(result, "vectors").axes
        assert len(sheet.get_images()) == tiles
        assert len(charts) == 3


def test_bad_places(result: Result, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"report\.pdf: "):
        write_report(result, "x", tmp_path / "report.pdf")
    for name in ("report.html", "report.png"):
        with pytest.raises(InputError, match=f"{name}: cannot be written"):
            write_report(result, "x", tmp_path / "missing" / name)
