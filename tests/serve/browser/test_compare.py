"""Comparing in the browser: the score, the maps of every layer, from hit to hit, photos of one's own."""

import re
from pathlib import Path
from typing import Any

from kronreid.serve.uploads import Recent

from ..conftest import Home
from .conftest import Visit, drawn


def painted(page: Any, side: int) -> int:
    """How many pixels of a picture's overlay are not clear."""
    return page.evaluate(
        """(side) => {
            const canvas = document.querySelectorAll(".picker canvas")[side];
            const copy = new OffscreenCanvas(canvas.width, canvas.height);
            const context = copy.getContext("2d", { willReadFrequently: true });
            context.drawImage(canvas, 0, 0);
            const data = context.getImageData(0, 0, copy.width, copy.height).data;
            let seen = 0;
            for (let i = 3; i < data.length; i += 4) seen += data[i] > 0;
            return seen;
        }""",
        side,
    )


def compared(visit: Visit, home: Home, rank: int = 1) -> Any:
    """The page with a hit of a search compared."""
    page = visit.search(home.queries[0])
    page.locator(f".hit[data-rank='{rank}'] .shot").click()
    page.wait_for_selector(".verdict-number")
    return page


def test_a_hit_is_compared_and_the_score_is_said_in_words(visit: Visit, home: Home) -> None:
    page = visit.search(home.queries[0])
    listed = drawn(page.locator(".hit[data-rank='1'] .score"))
    page.locator(".hit[data-rank='1'] .shot").click()
    page.wait_for_selector(".verdict-number")
    assert page.locator(".verdict-number b").inner_text() == listed.split("%")[0].strip() + " %"
    assert page.locator(".verdict h2").inner_text().startswith("The matcher ")
    assert "not a proof" in page.locator(".meaning").inner_text()
    assert "cosine" in page.locator(".meaning").inner_text()
    assert page.title() == "Compare · kronreid"
    # Places that match are joined before anything is pointed at.
    assert page.locator(".links circle").count() >= 4


def test_pointing_at_a_place_shows_where_the_matcher_looked(visit: Visit, home: Home) -> None:
    page = compared(visit, home)
    first, second = page.locator(".picker").nth(0), page.locator(".picker").nth(1)
    readout = page.locator(".readout")
    for side, other, words in ((0, 1, "of the first picture looks at"), (1, 0, "is looked at most by")):
        area = (first, second)[side].bounding_box()
        page.mouse.move(area["x"] + area["width"] * 0.6, area["y"] + area["height"] * 0.3)
        assert words in readout.inner_text()
        assert painted(page, other) > 0
        assert painted(page, side) == 0
        assert page.locator(".links circle").count() == 0
    page.mouse.move(5, 400)
    assert readout.inner_text().startswith("Point at a place")

    # A press keeps the place, a second lets it go.
    area = first.bounding_box()
    page.mouse.click(area["x"] + 10, area["y"] + 10)
    page.mouse.move(5, 400)
    assert readout.inner_text().startswith("Row 1, column 1")
    page.mouse.click(area["x"] + 10, area["y"] + 10)
    page.mouse.move(5, 400)
    assert readout.inner_text().startswith("Point at a place")


def test_arrow_keys_walk_over_the_places_and_brackets_change_the_scale(visit: Visit, home: Home) -> None:
    page = compared(visit, home)
    readout = page.locator(".readout")
    page.locator(".picker").nth(0).focus()
    page.keyboard.press("ArrowDown")
    start = re.match(r"Row (\d+), column (\d+)", readout.inner_text())
    assert start
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    row, column = int(start[1]) + 1, int(start[2]) + 1
    assert readout.inner_text().startswith(f"Row {row}, column {column} of the first")
    page.keyboard.press("[")
    assert readout.inner_text().startswith(f"Row {(row + 1) // 2}, column {(column + 1) // 2} of the first")
    page.keyboard.press("Escape")
    assert readout.inner_text().startswith("Point at a place")


def test_what_is_shown_is_what_the_server_explained(visit: Visit, home: Home) -> None:
    with visit.page.expect_response("**/api/explain") as answer:
        page = compared(visit, home)
    scale = answer.value.json()["scales"][-1]
    page.locator(".picker").nth(0).focus()
    page.keyboard.press("ArrowDown")
    told = re.match(
        r"Row (\d+), column (\d+) of the first picture looks at row (\d+), column (\d+) .* with <?([\d.]+) %",
        page.locator(".readout").inner_text(),
    )
    assert told
    place = (int(told[1]) - 1) * scale["width"] + int(told[2]) - 1
    assert abs(float(told[5]) - 100 * scale["row_maximum"][place]) <= 0.5
    row = page.evaluate("(text) => Array.from(atob(text), (c) => c.charCodeAt(0))", scale["correspondence"])
    places = scale["height"] * scale["width"]
    best = (int(told[3]) - 1) * scale["width"] + int(told[4]) - 1
    assert row[place * places + best] == 255


def test_attention_rearranged_and_parts(visit: Visit, home: Home) -> None:
    page = compared(visit, home)
    layers = page.locator(".stage-tools .segmented").first
    layers.locator("label", has_text="Attention").click()
    assert painted(page, 0) > 0
    assert painted(page, 1) > 0
    layers.locator("label", has_text="Rearranged").click()
    assert painted(page, 0) == 0
    assert painted(page, 1) > 0
    layers.locator("label", has_text="Parts").click()
    assert "4 parts" in page.locator(".readout").inner_text()
    assert painted(page, 0) > 0
    page.locator(".part input").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".part output").inner_text() == "1 of 4"
    assert page.locator(".readout").inner_text().startswith("Part 1")


def test_from_hit_to_hit_with_marks(visit: Visit, home: Home) -> None:
    page = compared(visit, home)
    total = len(home.pictures)
    assert page.locator(".pager > span").inner_text() == f"Hit 1 of {total}"
    assert page.get_by_role("button", name="Previous hit").is_disabled()
    with page.expect_response("**/api/explain"):
        page.keyboard.press("j")
    page.locator(".pager > span", has_text="Hit 2").wait_for()
    with page.expect_response("**/api/feedback"):
        page.keyboard.press("s")
    assert page.locator(".pager .mark.same").get_attribute("aria-pressed") == "true"
    page.get_by_role("link", name="All hits").click()
    assert page.locator(".hit[data-rank='2']").get_attribute("data-mark") == "same"
    page.locator(".hit[data-rank='2']").get_by_role("button", name="Same person", exact=True).click()
    page.wait_for_selector(".hit[data-rank='2'][data-mark='']")


def test_two_photos_of_ones_own_and_swapped(visit: Visit, home: Home, frame: Path) -> None:
    page = visit.open("compare")
    first, second = page.locator(".chooser .tray").nth(0), page.locator(".chooser .tray").nth(1)
    first.locator("input").set_input_files(home.queries[0])
    assert page.locator(".chooser .primary").is_disabled()
    second.locator("input").set_input_files(frame)
    page.get_by_role("button", name="Use this box").click()
    with page.expect_response("**/api/explain"):
        page.locator(".chooser .primary").click()
    assert list(visit.sent()) == ["b_box"]
    page.wait_for_selector(".verdict-number")
    assert "full frame.png" in page.locator(".plate figcaption").nth(1).inner_text()
    with page.expect_response("**/api/explain"):
        page.get_by_role("button", name="Swap the pictures").click()
    assert list(visit.sent()) == ["a_box"]
    page.locator(".plate", has_text="First").locator("figcaption", has_text="full frame.png").wait_for()


def test_an_upload_that_the_server_forgot_is_sent_again(visit: Visit, home: Home) -> None:
    page = visit.search(home.queries[0])
    visit.expected.add(404)
    visit.site.server.service.queries.recent = Recent()
    page.locator(".hit[data-rank='1'] .shot").click()
    page.wait_for_selector(".verdict-number")
    assert list(visit.sent()) == ["b_item"]


def test_a_pair_that_is_not_there(visit: Visit) -> None:
    visit.expected.add(404)
    page = visit.open(f"compare?a={'0' * 64}&b={'1' * 64}")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "not in the gallery" in alert.inner_text()
    page.get_by_role("button", name="Other pictures").click()
    page.locator(".chooser").wait_for()
