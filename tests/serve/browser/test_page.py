"""The page as a whole: theme, keys, narrow screens, names for screen readers, the token."""

import re
from collections.abc import Callable
from itertools import product
from typing import Any

from ..conftest import TOKEN, Home
from .conftest import NAMELESS, Site, Visit, Visits, drawn, unreadable

VIEWS = ("search", "compare", "gallery", "evaluate")


def background(page: Any) -> float:
    """Brightness of the page's ground, 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(float, colour[4:-1].split(","))) / 3


def test_dark_by_the_system_or_by_choice_which_is_remembered(visits: Visits) -> None:
    assert background(visits(color_scheme="dark").open()) < 60
    page = visits(color_scheme="light").open()
    assert background(page) > 200
    page.keyboard.press("t")
    page.keyboard.press("t")
    assert page.get_by_role("button", name="Theme: dark").count() == 1
    assert background(page) < 60
    page.reload()
    assert background(page) < 60
    page.keyboard.press("t")
    assert background(page) > 200  # as the system has it, again
    page.emulate_media(color_scheme="dark")  # which may change meanwhile
    assert background(page) < 60


def test_text_is_readable(visit: Visit, home: Home) -> None:
    """Contrast of 4.5 to 1 at least, of every text on a plain ground."""
    page = visit.search(home.queries[0])
    page.mouse.move(0, 0)
    assert unreadable(page) == []


def test_everything_with_the_keyboard_alone(visit: Visit, home: Home) -> None:
    page = visit.open()
    # Listening from the start: `expect_file_chooser` begins to intercept only about when the key is pressed.
    page.on("filechooser", lambda chooser: chooser.set_files(home.queries[0]))

    def tab_to(text: str, most: int = 40) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            said = page.evaluate(
                "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText || ''"
            )
            if text in said:
                outline = page.evaluate(
                    "document.activeElement.matches(':focus-visible') && "
                    "getComputedStyle(document.activeElement).outlineStyle"
                )
                assert outline == "solid", f"the focus on {text!r} cannot be seen"
                return
        raise AssertionError(f"Tab does not reach {text!r}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the page"
    tab_to("Choose photos")
    page.keyboard.press("Enter")
    page.locator(".tile").wait_for()
    tab_to("Search")
    page.keyboard.press("Enter")
    page.wait_for_selector(".hit[data-rank]")
    tab_to("Rank 1, ")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("n")
    page.wait_for_selector(".hit[data-rank='2'][data-mark='not']")
    page.keyboard.press("n")
    page.wait_for_selector(".hit[data-rank='2'][data-mark='']")
    page.keyboard.press("Enter")
    page.wait_for_selector(".verdict-number")
    tab_to("The first picture")
    page.keyboard.press("ArrowDown")
    assert page.locator(".readout").inner_text().startswith("Row ")
    page.keyboard.press("1")
    page.wait_for_selector("#view-search")
    page.keyboard.press("3")
    page.wait_for_selector(".gallery-grid .hit")
    tab_to("identity")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    # Back where one was.
    assert "identity" in page.evaluate("document.activeElement.getAttribute('aria-label')")


def test_shortcuts_are_listed_and_can_be_switched_off(visit: Visit) -> None:
    page = visit.open()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard")
    assert "Same person" in dialog.inner_text()
    dialog.get_by_label("Single letters and digits are shortcuts").click()
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    assert page.locator("#view-gallery").is_hidden()
    page.keyboard.press("?")
    dialog.get_by_label("Single letters and digits are shortcuts").click()
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    page.locator("#view-gallery").wait_for()


def test_letters_in_a_field_are_letters(visit: Visit) -> None:
    page = visit.open()
    page.get_by_role("button", name="Add a condition").click()
    page.keyboard.type("t3?")
    assert page.get_by_label("Name").input_value() == "t3?"
    assert page.locator("#view-search").is_visible()


def test_a_phone_shows_every_view_without_scrolling_sideways(visits: Visits, home: Home) -> None:
    visit = visits(360, 740, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = visit.search(home.queries[0])
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) == 360
    assert page.evaluate("document.querySelector('.results h2').getBoundingClientRect().top") < 400
    page.locator(".hit .shot").first.tap()
    page.wait_for_selector(".verdict-number")
    page.locator(".picker").first.tap()
    assert page.locator(".readout").inner_text().startswith("Row ")
    assert page.evaluate(wide) == 360
    for view in VIEWS:
        page.locator(f".views a[href='#/{view}']").tap()
        page.locator(f"#view-{view}").wait_for()
        page.wait_for_timeout(150)
        assert page.evaluate(wide) == 360, view
    small = page.evaluate(
        """() => [...document.querySelectorAll(".bar button, .views a")]
            .map((e) => e.getBoundingClientRect())
            .filter((r) => r.width && (r.width < 24 || r.height < 24)).length"""
    )
    assert small == 0


def test_cards_have_room_for_their_words_at_every_size(visit: Visit, home: Home) -> None:
    page = visit.search(home.queries[0])
    for view, cards in (("search", ".hit-groups .hit"), ("gallery", ".gallery-grid .hit")):
        page.evaluate("(view) => (location.hash = `#/${view}`)", view)
        page.wait_for_selector(cards)
        for width, size in product((1280, 360), ("0", "1", "2")):
            page.set_viewport_size({"width": width, "height": 800})
            page.locator(f"#view-{view} .size input").fill(size)
            rest = page.locator(cards).first.evaluate(
                """(card) => {
                    const last = [...card.children].filter((e) => e.checkVisibility()).at(-1);
                    return card.getBoundingClientRect().bottom - last.getBoundingClientRect().bottom;
                }"""
            )
            assert 4 <= rest <= 40, (view, width, size)


def test_everything_has_a_name_for_screen_readers(visit: Visit, home: Home) -> None:
    page = visit.search(home.queries[0])
    for view in VIEWS:
        page.evaluate("(view) => (location.hash = `#/${view}`)", view)
        page.locator(f"#view-{view}").wait_for()
        page.wait_for_timeout(150)
        nameless = page.evaluate(NAMELESS)
        assert nameless == [], view
        assert page.locator(f"#view-{view} h1").count() == 1
        assert page.locator("img:not([alt])").count() == 0
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("banner").count() == 1
    assert "never proof of who somebody is" in page.get_by_role("contentinfo").inner_text()
    assert page.locator(".views [aria-current='page']").inner_text() == "Evaluate"


def test_marking_asks_for_the_token_and_goes_on(visits: Visits, home: Home) -> None:
    visit = visits(token=None)
    visit.expected |= {401}
    page = visit.search(home.queries[0])
    page.locator(".hit").nth(0).get_by_role("button", name="Same person", exact=True).click()
    dialog = page.get_by_role("dialog", name="Sign in")
    dialog.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    dialog.get_by_text("That is not the token").wait_for()
    dialog.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.locator(".toast", has_text="Rank 1 marked").wait_for()
    page.locator("#sign-in").wait_for(state="hidden")
    page.locator(".hit").nth(0).get_by_role("button", name="Same person", exact=True).click()
    page.wait_for_selector(".hit[data-rank='1'][data-mark='']")


def test_a_mark_without_the_token_is_taken_back(visits: Visits, home: Home) -> None:
    visit = visits(token=None)
    visit.expected |= {401}
    page = visit.search(home.queries[0])
    page.locator(".hit").nth(0).get_by_role("button", name="Not the same person").click()
    page.get_by_role("dialog", name="Sign in").wait_for()
    page.keyboard.press("Escape")
    page.locator(".toast.error", has_text="The mark was not stored").wait_for()
    assert page.locator(".hit").nth(0).get_attribute("data-mark") == ""


def test_a_guarded_server_asks_before_anything(visits: Visits, site_of: Callable[..., Site]) -> None:
    visit = visits(token=None, at=site_of(guarded=True))
    visit.expected |= {401}
    page = visit.page
    page.goto(visit.site.address)
    dialog = page.get_by_role("dialog", name="Sign in")
    dialog.get_by_label("Token").fill(TOKEN)
    dialog.get_by_role("button", name="Sign in").click()
    page.wait_for_selector(".shelf img")


def test_signing_out_ends_the_session(visits: Visits, site_of: Callable[..., Site]) -> None:
    visit = visits(at=site_of(guarded=True))
    visit.expected |= {401}
    page = visit.open()
    page.locator("#sign-in").wait_for(state="hidden")
    before = page.context.cookies()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("dialog", name="Sign in").wait_for()
    assert not [cookie for cookie in page.context.cookies() if cookie["name"].startswith("kronreid-")]
    page.context.add_cookies(before)  # whoever has copied the cookie
    page.reload()
    page.get_by_role("dialog", name="Sign in").wait_for()


def test_without_a_matcher_there_are_only_similarities(
    visits: Visits, site_of: Callable[..., Site], home: Home
) -> None:
    visit = visits(at=site_of(matcher=None))
    page = visit.search(home.queries[0])
    assert re.fullmatch(r"[−\d.]+", drawn(page.locator(".hit .score").first))  # a cosine, no per cent
    page.locator("summary", has_text="Order").click()
    assert page.get_by_text("Hits", exact=True).is_visible()
    assert page.get_by_text("Compared by the matcher").is_hidden()
    page.locator(".hit .shot").first.click()
    page.wait_for_selector(".verdict-number")
    assert page.locator(".verdict-number span").inner_text() == "similarity"
    assert page.locator(".part output").inner_text() == "all"  # the embedder's part maps are there


def test_an_empty_gallery(visits: Visits, site_of: Callable[..., Site], home: Home) -> None:
    page = visits(at=site_of(full=False)).open()
    page.get_by_text("The gallery is empty").first.wait_for()
    page.keyboard.press("3")
    page.get_by_role("heading", name="The gallery is empty").wait_for()
