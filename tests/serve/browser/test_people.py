"""The people in the browser: look, merge and split by dragging and with the keyboard, name, undo."""

from collections.abc import Callable
from typing import Any

import pytest

from ..conftest import Home, add_tracklets
from .conftest import NAMELESS, Site, Visits, playwright, unreadable


@pytest.fixture
def crowd(site_of: Callable[..., Site]) -> Site:
    """A server whose gallery has two people."""
    site = site_of()
    add_tracklets(site.server)
    return site


def shows(page: Any, *people: str) -> None:
    """Waits until these are the people."""
    playwright.expect(page.locator(".person-words b")).to_have_text(list(people))


def tracks(page: Any, number: int) -> None:
    """Waits until the person has that many tracklets."""
    playwright.expect(page.locator(".track")).to_have_count(number)


def test_people_are_shown_on_every_screen(visits: Visits, crowd: Site, home: Home) -> None:
    for width, more in ((1280, {}), (360, {"has_touch": True, "is_mobile": True})):
        visit = visits(width, 800, at=crowd, **more)
        page = visit.open("people")
        page.wait_for_selector(".person")
        assert unreadable(page) == []
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert "gate: 1 time, 1 May 10:00" in page.locator(".timeline").last.get_attribute("aria-label")
        page.locator(".person-link").last.click()
        page.wait_for_selector(".track")
        assert page.locator(".person-pane h2").inner_text() == "Person 1"
        assert "the first of this person" in page.locator(".track").first.inner_text()
        assert "similarity 1.000 with gate at 10:00:00" in page.locator(".track").last.inner_text()
        assert page.locator(".lane rect").count() >= 2
        page.locator(".alike li").wait_for()
        page.mouse.move(0, 0)
        assert unreadable(page) == []
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("#view-people h1").count() == 1
        assert page.locator("img:not([alt])").count() == 0


def test_dragging_merges_and_splits_and_undo_takes_it_back(visits: Visits, crowd: Site) -> None:
    page = visits(1280, 1400, at=crowd).open("people")
    shows(page, "Person 2", "Person 1")
    page.locator(".person[data-number='2']").drag_to(page.locator(".person[data-number='1']"))
    page.locator(".toast", has_text="Person 2 is now person 1").wait_for()
    shows(page, "Person 1")
    page.locator(".person-link").click()
    tracks(page, 4)
    page.locator(".track").nth(1).drag_to(page.locator(".drop-zone"))
    page.locator(".toast", has_text="1 tracklet is now person 3").wait_for()
    tracks(page, 3)
    page.locator(".track").nth(2).drag_to(page.locator(".alike li"))
    tracks(page, 2)
    for words, left in (("moving 1 tracklet", 3), ("moving 1 tracklet", 4), ("merging person 2", 2)):
        page.get_by_role("button", name=f"Undo {words}").click()
        tracks(page, left)
    page.locator(".toast", has_text="Taken back: merging person 2 into person 1").wait_for()
    page.get_by_role("link", name="All people").click()
    shows(page, "Person 2", "Person 1")


def test_the_keyboard_merges_names_splits_and_undoes(visits: Visits, crowd: Site) -> None:
    page = visits(at=crowd).open("gallery")
    page.keyboard.press("5")
    shows(page, "Person 2", "Person 1")
    page.locator(".person-link").first.focus()
    page.keyboard.press("r")
    page.get_by_role("dialog").get_by_label("Name").fill("Ada <i>")
    page.keyboard.press("Enter")
    shows(page, "Ada <i> (2)", "Person 1")
    page.locator(".person-link").first.focus()
    page.keyboard.press("x")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    bar = page.get_by_role("region", name="Selected people")
    assert bar.get_by_role("button", name="Merge into Ada <i>").is_visible()
    page.keyboard.press("m")
    shows(page, "Ada <i> (2)")
    assert page.evaluate("document.activeElement.className") == "person-link"
    page.keyboard.press("Enter")
    tracks(page, 4)
    page.locator(".track input").first.press("Space")
    page.keyboard.press("m")
    page.locator(".toast", has_text="1 tracklet is now person 3").wait_for()
    tracks(page, 3)
    page.keyboard.press("z")
    tracks(page, 4)
    page.keyboard.press("z")
    tracks(page, 2)
    page.keyboard.press("z")
    page.locator(".person-pane h2", has_text="Person 2").wait_for()
    page.keyboard.press("z")
    page.get_by_role("dialog", name="Take back the grouping?").get_by_role("button", name="Keep").click()
    assert page.locator(".track").count() == 2


def test_filters_hits_and_galleries_without_people(
    visits: Visits, crowd: Site, home: Home, site: Site
) -> None:
    visit = visits(at=crowd)
    page = visit.search(home.queries[0])
    page.locator(".hit .where a").first.evaluate("(link) => link.click()")
    page.wait_for_selector(".track")
    page.get_by_role("link", name="All people").click()
    page.locator(".chip", has_text="yard").click()
    shows(page, "Person 2", "Person 1")
    page.locator("#view-people input[name=until]").fill("2024-05-01T09:00")
    page.get_by_text("Nobody meets these conditions").wait_for()
    visit.expected |= {404}
    page.evaluate("location.hash = '#/people?person=99'")
    page.get_by_text("There is no person 99 any more").wait_for()
    page = visits(at=site).open()
    assert page.locator("#link-people").is_hidden()
