"""An embedder with places in the browser: shares, best matches, the sum; and the line of a calibration."""

import copy
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ..conftest import Home, calibrated
from .conftest import Site, Visit, Visits, drawn
from .test_compare import painted

Placed = Callable[[float | None], Visit]


@pytest.fixture
def placed(home: Home, site_of: Callable[..., Site], visits: Visits) -> Placed:
    """A visit to a server whose embedder has places, and a calibration with this limit."""

    def visit(limit: float | None = None) -> Visit:
        embedder = copy.copy(home.placed)
        embedder.calibration = None if limit is None else calibrated(limit)
        return visits(at=site_of(matcher=None, embedder=embedder))

    return visit


def compared(visit: Visit, home: Home) -> tuple[Any, dict]:
    """The page with the best hit compared, and what the server explained."""
    page = visit.search(home.queries[0])
    with page.expect_response("**/api/explain") as answer:
        page.locator(".hit[data-rank='1'] .shot").click()
    page.wait_for_selector(".verdict-number")
    return page, answer.value.json()["places"]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def blue(page: Any, side: int, row: int, column: int) -> bool:
    """Whether the overlay is rather blue than orange in the middle of a place of a level of 4×2."""
    return page.evaluate(
        """([side, row, column]) => {
            const canvas = document.querySelectorAll(".picker canvas")[side];
            const [x, y] = [(canvas.width * (column + 0.5)) / 2, (canvas.height * (row + 0.5)) / 4];
            const copy = new OffscreenCanvas(canvas.width, canvas.height);
            const context = copy.getContext("2d", { willReadFrequently: true });
            context.drawImage(canvas, 0, 0);
            const [red, , blue] = context.getImageData(x, y, 1, 1).data;
            return blue > red;
        }""",
        [side, row, column],
    )


def test_a_place_shows_its_best_match_in_words(placed: Placed, home: Home) -> None:
    page, verdict = compared(placed(None), home)
    readout, level = page.locator(".readout"), verdict["levels"][0]
    assert page.locator(".verdict h2").inner_text().startswith("The model ")
    assert painted(page, 0) > 0
    assert painted(page, 1) > 0
    width = len(level["shares_a"][0])
    for side, other, name in ((0, 1, "a"), (1, 0, "b")):
        area = page.locator(".picker").nth(side).bounding_box()
        page.mouse.move(area["x"] + 5, area["y"] + area["height"] - 5)
        told = re.match(
            r"Row (\d+), column (\d+) of the (first|second) picture speaks .* with a share of ([+−][\d.]+)\. "
            r"Its best match is row (\d+), column (\d+) .* with a cosine of ([−\d.]+)\.",
            readout.inner_text(),
        )
        assert told
        row, column = int(told[1]) - 1, int(told[2]) - 1
        assert (row, column, told[3]) == (len(level["shares_a"]) - 1, 0, ("first", "second")[side])
        assert number(told[4]) == pytest.approx(level[f"shares_{name}"][row][column], abs=1e-4)
        found = (int(told[5]) - 1) * width + int(told[6]) - 1
        assert found == level[f"found_{name}"][row][column]
        assert number(told[7]) == pytest.approx(level[f"similarity_{name}"][row][column], abs=1e-3)
        assert page.locator(".picker").nth(other).locator(".cell.match").is_visible()
        assert page.locator(".links path").count() == 2  # a line and its casing
    page.mouse.move(5, 400)
    assert readout.inner_text().startswith("Blue places speak for the same person")
    assert page.locator(".cell:visible").count() == 0


def test_the_keys_walk_over_places_and_levels(placed: Placed, home: Home) -> None:
    page, _ = compared(placed(None), home)
    readout = page.locator(".readout")
    page.locator(".picker").nth(1).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert re.match(r"Row \d+, column 1 of the second picture speaks", readout.inner_text())
    first = readout.inner_text()
    page.keyboard.press("]")
    assert page.get_by_role("radio", name="2 (4×2)").is_checked()
    assert readout.inner_text() != first
    page.keyboard.press("Escape")
    assert readout.inner_text().startswith("Blue places")


def test_colours_follow_the_signs_and_the_theme(placed: Placed, home: Home) -> None:
    page, verdict = compared(placed(None), home)
    for side, name in enumerate("ab"):
        shares = np.array(verdict["levels"][0][f"shares_{name}"])
        assert shares.shape == (4, 2)
        for place in (shares.argmin(), shares.argmax()):
            row, column = divmod(int(place), 2)
            assert blue(page, side, row, column) == (shares[row, column] > 0)
    before = page.evaluate("document.querySelector('.picker canvas').toDataURL()")
    page.keyboard.press("t")  # light
    page.keyboard.press("t")  # dark
    page.wait_for_function(
        "(before) => document.querySelector('.picker canvas').toDataURL() !== before", arg=before
    )


def test_the_verdict_adds_up(placed: Placed, home: Home) -> None:
    page, verdict = compared(placed(None), home)
    table = page.get_by_role("table", name="How the verdict adds up")
    rows = [
        [cell.replace("−", "-") for cell in row.locator("th, td:not([aria-hidden])").all_inner_texts()]
        for row in table.locator("tbody tr").all()
    ]
    assert len(rows) == 2 + 2 * len(verdict["levels"])
    assert rows[0][0].startswith("vectors (cosine 0.")
    values = [sum(float(text) for text in row[1:] if text) for row in rows]
    assert values[-1] == pytest.approx(verdict["logit"], abs=0.01)
    assert sum(values[:-1]) == pytest.approx(verdict["logit"], abs=0.06)
    ends = table.locator("tbody tr:not(.logit)").evaluate_all(
        """(rows) => rows.map((row) =>
            [".gain", ".loss"].map((kind) => row.querySelector(kind).getBoundingClientRect().left))"""
    )
    for (_, end), (start, _) in pairwise(ends):
        assert start == pytest.approx(end, abs=0.5)
    total = table.locator(".all").bounding_box()
    assert total["x"] == pytest.approx(ends[0][0], abs=0.5)  # both begin at zero
    assert total["x"] + total["width"] == pytest.approx(ends[-1][1], abs=0.5)
    page.locator(".segmented label", has_text="Strongest").click()
    assert page.locator(".links .ring").count() == page.locator(".links text").count() > 0
    assert page.locator(".readout").inner_text().startswith("The places that say most")


def test_the_line_of_a_calibration(placed: Placed, home: Home) -> None:
    visit = placed(0.93)
    page = visit.search(home.queries[0])
    assert visit.sent()["matcher_weight"] == ["1"]
    line = page.locator("p.limit")
    assert "One false alarm in a thousand searches" in line.inner_text()
    above, below = (page.get_by_role("list", name=f"Hits {side} the line") for side in ("above", "below"))
    scores = [
        [float(drawn(score).split("%")[1]) for score in hits.locator(".score").all()]
        for hits in (above, below)
    ]
    assert len(scores[0]) + len(scores[1]) == len(home.pictures)
    assert min(scores[0]) >= 0.93 > max(scores[1])
    assert line.bounding_box()["y"] < below.bounding_box()["y"]
    label = below.locator(".shot").first.get_attribute("aria-label")
    assert label
    assert "below the line" in label
    page.locator(".segmented label", has_text="Camera").first.click()
    heads = page.locator(".hit-group h3").all_inner_texts()
    counted = [int(match[1]) for head in heads if (match := re.search(r"(\d+) above the line", head))]
    assert sum(counted) == len(scores[0])


def test_nobody_is_above_the_line(placed: Placed, home: Home) -> None:
    page = placed(0.9999).search(home.queries[0])
    said = page.locator("p.limit").inner_text()
    assert said.startswith("Nobody here at one false alarm in a thousand searches")
    assert page.locator(".hit").count() == len(home.pictures)
    first = page.evaluate("document.querySelector('.hit-groups').firstElementChild.className")
    assert first == "limit nobody"


def test_without_a_calibration_there_is_no_line(placed: Placed, home: Home) -> None:
    page = placed(None).search(home.queries[0])
    assert page.locator(".limit, .threshold").count() == 0
    label = page.locator(".hit[data-rank='1'] .shot").get_attribute("aria-label")
    assert label
    assert "places " in label
    assert "line" not in label
