"""The cameras in the browser, and the moment of a picture in its video."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kronreid.gallery.people import group
from kronreid.gallery.recordings import Recordings, RecordingState

from ..conftest import Home, add_recorded, add_tracklets, write_video
from .conftest import NAMELESS, POOR_CONTRAST, Site, Visits, playwright, unreadable


@pytest.fixture
def street(site_of: Callable[..., Site], tmp_path: Path) -> Site:
    """A server with two people, a third one whose video is at hand, and a camera that runs."""
    site = site_of()
    add_tracklets(site.server)
    add_recorded(site.server, write_video(tmp_path / "door.mp4"))
    gallery = site.server.service.gallery.current
    group(gallery, min_similarity=0.5)
    now = time.time()
    state = RecordingState("roof <b>", "rtsp://cam/live", True, now - 300, now, frames=7_500, dropped=12)
    Recordings(gallery).write("roof", state)
    return site


def test_cameras_are_shown_on_every_screen_and_stay_up_to_date(visits: Visits, street: Site) -> None:
    for width, more in ((1280, {}), (360, {"has_touch": True, "is_mobile": True})):
        page = visits(width, 800, at=street, **more).open("cameras")
        page.wait_for_selector(".camera")
        assert unreadable(page) == []
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator(".camera").first.bounding_box()["y"] < 300, (
            "beside or below the title, not a screen below"
        )
        assert page.locator("#view-cameras .total").inner_text() == "3 cameras, 1 running"
    roof = page.locator(".camera", has_text="roof <b>")
    assert "Running" in roof.inner_text()
    assert "live, running for 5 min" in roof.inner_text()
    assert "7,500 frames, 12 dropped" in roof.inner_text()
    gate = page.locator(".camera", has_text="gate")
    assert "door.mp4" in gate.inner_text()
    recordings = Recordings(street.server.service.gallery.current)
    state = recordings.one("roof")
    recordings.write("roof", RecordingState(**{**vars(state), "over": True}))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as if somebody came back
    playwright.expect(page.locator("#view-cameras .total")).to_have_text("3 cameras, none running")
    gate.get_by_role("link", name="people seen by gate").click()
    playwright.expect(page.locator(".person-words b")).to_have_text(["Person 3", "Person 2", "Person 1"])
    assert page.locator("#view-people input:checked").count() == 1


def test_a_moment_opens_from_a_hit_and_from_a_tracklet(visits: Visits, street: Site, home: Home) -> None:
    page = visits(at=street).open("search")
    page.keyboard.press("6")
    page.locator("#title-cameras").wait_for()
    page.evaluate("location.hash = '#/people?person=3'")
    page.get_by_role("button", name="See the moment of gate").click()
    moment = page.get_by_role("dialog", name="gate, 1 Mar 2026, 12:00")
    slider = moment.get_by_role("slider")
    playwright.expect(slider).to_be_focused()
    words = moment.locator("output")
    assert words.inner_text() == "12:00:02 UTC, the moment of the picture"
    assert slider.get_attribute("aria-valuetext") == words.inner_text()
    picture = moment.locator("img")
    assert picture.evaluate("async (img) => { await img.decode(); return img.naturalWidth }") == 64
    box, frame = moment.locator(".moment-box").bounding_box(), picture.bounding_box()
    assert (box["x"] - frame["x"]) / frame["width"] == pytest.approx(0.25, abs=0.05)
    assert box["height"] / frame["height"] == pytest.approx(0.5, abs=0.1)
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert words.inner_text().endswith("1.0 s before")
    assert moment.locator(".moment-box").is_hidden()
    moment.get_by_role("button", name="Back to the moment").click()
    moment.get_by_role("button", name="Play").click()
    playwright.expect(words).to_have_text("12:00:03 UTC, 1.2 s after")
    playwright.expect(moment.get_by_role("button", name="Play")).to_be_visible()
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(POOR_CONTRAST) == []
    page.keyboard.press("Escape")
    page = visits(at=street).search(home.queries[0])
    hit = page.locator(".hit", has_text="Person 1").first
    hit.locator(".shot").focus()
    page.keyboard.press("v")
    stored = page.get_by_role("dialog")
    stored.get_by_text("The video cannot be shown: it is not known where its video lies.").wait_for()
    assert stored.get_by_alt_text("The stored picture").count() == 1
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className").startswith("shot")
