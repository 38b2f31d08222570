"""The gallery and the reports in the browser: browse, filter, add, delete, open."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..conftest import Home
from .conftest import Site, Visit, Visits


def shows(page: Any, number: int, where: str = "#view-gallery .total") -> None:
    """Waits until that many pictures are said to be there."""
    page.locator(where, has_text=re.compile(f"(^| ){number} pictures$")).wait_for()


def test_browse_by_camera_and_by_hour(visit: Visit, home: Home) -> None:
    page = visit.open("gallery")
    total = page.locator("#view-gallery .total")
    page.wait_for_selector(".gallery-grid .hit")
    everything = len(home.pictures)
    assert total.inner_text() == f"{everything} pictures"
    numbers = [int(text) for text in page.locator(".bar-count").all_inner_texts()]
    assert sum(numbers) == everything

    page.get_by_role("button", name=re.compile("Camera 1, ")).click()
    shows(page, numbers[0])
    assert page.get_by_role("button", name=re.compile("Camera 1, ")).get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name=re.compile("Camera 1, ")).click()
    shows(page, everything)

    chart = page.get_by_role("img", name=re.compile("^Pictures per hour"))
    assert "from 1 May 2024, 10:00 to 1 May 2024, 11:00" in chart.get_attribute("aria-label")
    page.locator(".column").nth(1).click()
    hours = [path for number, path in enumerate(home.pictures) if number % 2]
    shows(page, len(hours))
    assert page.locator("#view-gallery input[name=since]").input_value() == "2024-05-01T11:00"


def test_a_picture_is_opened_and_searched_with(visit: Visit, home: Home) -> None:
    page = visit.open("gallery")
    page.locator(".gallery-grid .shot").nth(3).click()
    dialog = page.get_by_role("dialog")
    assert "Camera" in dialog.locator(".facts").inner_text()
    with page.expect_response("**/api/search"):
        dialog.get_by_role("link", name="Search with this one").click()
    page.wait_for_selector(".hit[data-rank]")
    assert dialog.count() == 0


def test_two_selected_pictures_are_compared(visit: Visit) -> None:
    page = visit.open("gallery")
    page.locator(".pick").nth(0).click()
    page.locator(".pick").nth(2).click()
    bar = page.get_by_role("region", name="Selected pictures")
    assert "2 selected" in bar.inner_text()
    with page.expect_response("**/api/explain"):
        bar.get_by_role("link", name="Compare").click()
    page.wait_for_selector(".verdict-number")


def test_deleting_asks_first(visits: Visits, site_of: Callable[..., Site], home: Home) -> None:
    visit = visits(at=site_of())
    page = visit.open("gallery")
    before = len(home.pictures)
    page.locator(".pick").nth(0).click()
    gone = page.locator(".gallery-grid .hit").nth(0).get_attribute("data-id")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep").click()
    assert len(visit.site.server.ids()) == before
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    shows(page, before - 1)
    assert gone not in visit.site.server.ids()
    shows(page, before - 1, "#whereabouts")


def test_pictures_are_added_with_what_is_known(
    visits: Visits, site_of: Callable[..., Site], home: Home, tmp_path: Path
) -> None:
    visit = visits(at=site_of(allow_add=True))
    page = visit.open("gallery")
    page.get_by_role("button", name="Add pictures").click()
    dialog = page.get_by_role("dialog")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    dialog.locator("input[type=file]").set_input_files([home.queries[0], broken])
    dialog.get_by_label("Camera").fill("9")
    dialog.get_by_label("Time").fill("2024-05-02T08:30")
    dialog.get_by_role("button", name="Add", exact=True).click()
    dialog.get_by_role("alert").wait_for()
    assert "1 picture added" in dialog.get_by_role("alert").inner_text()
    assert "broken.jpg" in dialog.get_by_role("alert").inner_text()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Camera 9, 1 picture").wait_for()


def test_adding_is_not_offered_where_it_is_not_allowed(visit: Visit) -> None:
    page = visit.open("gallery")
    page.wait_for_selector(".gallery-grid .hit")
    assert page.get_by_role("button", name="Add pictures").count() == 0


def test_a_report_opens_in_the_page_without_its_scripts(visit: Visit) -> None:
    page = visit.open("evaluate")
    visit.complaints.add("Blocked script execution")
    page.get_by_role("link", name=re.compile("A small report")).click()
    report = page.frame_locator(".report iframe")
    report.get_by_role("heading", name="Rank-1 12.3 %").wait_for()


def test_no_reports(visits: Visits, site_of: Callable[..., Site]) -> None:
    page = visits(at=site_of()).open("evaluate")
    page.get_by_role("heading", name="There are no reports").wait_for()
