"""Searching in the browser: photos, box, conditions, hits, marks, trouble."""

import csv
import io
import re
from pathlib import Path
from typing import Any

from PIL import Image

from ..conftest import Home
from .conftest import Visit, Visits, drawn


def test_search_by_upload_ranks_the_gallery(visit: Visit, home: Home) -> None:
    page = visit.search(home.queries[0])

    hits = page.locator(".hit")
    assert page.locator(".results h2").inner_text() == f"{len(home.pictures)} hits"
    assert hits.count() == len(home.pictures)
    assert re.fullmatch(r"1\s+[<>]?[\d.]+ %\s*[−\d.]+", drawn(hits.first.locator(".scores")))
    assert {"embed", "search", "match"} <= set(re.findall("[a-z]+", page.locator(".stage-list").inner_text()))
    # The region that screen readers hear says what came of it.
    page.locator("#live", has_text="hits in").wait_for()
    # What the server ranked is what is shown.
    name = hits.first.locator(".shot").get_attribute("aria-label")
    assert name.startswith("Rank 1, matcher ")
    assert "camera" in name


def test_photos_come_by_paste_and_by_drop(visit: Visit, home: Home) -> None:
    page = visit.open()
    for kind in ("paste", "drop"):
        page.evaluate(
            """([kind, bytes]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], kind + ".jpg", { type: "image/jpeg" }));
                const event = kind === "paste"
                    ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
                    : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
                document.querySelector("#view-search .tray").dispatchEvent(event);
            }""",
            [kind, list(home.queries[0].read_bytes())],
        )
        page.get_by_role("button", name=f"Remove {kind}.jpg").wait_for()
    assert page.locator(".tile").count() == 2


def test_several_photos_make_one_search(visit: Visit, home: Home) -> None:
    page = visit.open()
    page.set_input_files("#view-search input[type=file]", home.queries[:2])
    with page.expect_response("**/api/search") as answer:
        page.locator("#view-search .primary").click()
    assert len(answer.value.json()["query"]) == 2


def test_a_full_frame_asks_for_a_box_and_the_mouse_draws_it(visit: Visit, frame: Path) -> None:
    page = visit.open()
    page.set_input_files("#view-search input[type=file]", frame)
    area = page.locator(".crop-stage img").bounding_box()
    scale = area["width"] / 640
    page.mouse.move(area["x"] + 400 * scale, area["y"] + 100 * scale)
    page.mouse.down()
    page.mouse.move(area["x"] + 430 * scale, area["y"] + 150 * scale)
    page.mouse.move(area["x"] + 464 * scale, area["y"] + 228 * scale)
    page.mouse.up()
    fields = [page.locator(f"dialog input[name={name}]") for name in ("x", "y", "width", "height")]
    drawn = [int(field.input_value()) for field in fields]
    assert all(abs(a - b) <= 2 for a, b in zip(drawn, (400, 100, 64, 128)))

    page.get_by_role("button", name="Use this box").click()
    with page.expect_response("**/api/search") as answer:
        page.locator("#view-search .primary").click()
    assert visit.sent()["box"] == [",".join(map(str, drawn))]
    query = answer.value.json()["query"][0]
    assert [query["width"], query["height"]] == drawn[2:]


def test_the_box_can_be_drawn_with_keys_and_numbers(visit: Visit, frame: Path) -> None:
    page = visit.open()
    page.set_input_files("#view-search input[type=file]", frame)
    box = page.locator(".crop-box")
    box.wait_for()
    page.fill("dialog input[name=x]", "300")
    page.fill("dialog input[name=width]", "50")
    box.focus()
    before = box.get_attribute("aria-label")
    page.keyboard.press("Alt+ArrowRight")
    page.keyboard.press("Alt+Shift+ArrowDown")
    assert box.get_attribute("aria-label") != before
    assert page.locator("dialog input[name=x]").input_value() == "301"
    page.keyboard.press("Enter")
    page.locator("dialog").wait_for(state="detached")
    page.get_by_role("button", name="Change the box").click()
    page.get_by_role("button", name="Whole picture").click()
    page.get_by_role("button", name="Draw a box").wait_for()


def test_conditions_reach_the_server_and_hold(visit: Visit, home: Home) -> None:
    page = visit.open()
    page.set_input_files("#view-search input[type=file]", home.queries[0])
    page.locator(".chip", has_text="1").first.click()
    page.fill("input[name=since]", "2024-05-01T10:00")
    page.fill("input[name=until]", "2024-05-01T10:30")
    page.get_by_role("button", name="Add a condition").click()
    page.get_by_label("Name").fill("track")
    page.get_by_label("Value").fill("0")
    with page.expect_response("**/api/search") as answer:
        page.locator("#view-search .primary").click()
    form = visit.sent()
    assert form["camera"] == ["1"]
    assert form["since"] == ["2024-05-01T10:00"]
    assert form["until"] == ["2024-05-01T10:30:59.999"]
    assert form["where"] == ["track=0"]
    assert page.locator("#view-search .tally").inner_text() == "4"
    for hit in answer.value.json()["hits"]:
        assert hit["camera"] == "1"
        assert hit["time"].startswith("2024-05-01T10")

    # Nothing fits: said in words, with the way out.
    page.get_by_label("Value").fill("nowhere")
    page.get_by_role("button", name="Search again").click()
    page.get_by_role("heading", name="No picture meets these conditions").wait_for()
    page.get_by_role("button", name="Clear the filters and search").click()
    page.wait_for_selector(".hit[data-rank]")
    assert page.locator("#view-search .tally").inner_text() == ""


def test_hits_are_grouped_by_identity_and_by_camera(visit: Visit, home: Home) -> None:
    page = visit.search(home.queries[0])
    page.locator(".results label", has_text="Identity").click()
    titles = page.locator(".hit-group h3").all_inner_texts()
    identities = {path.name.split("_")[0] for path in home.pictures}
    assert {title.split()[1] for title in titles} == identities
    assert page.locator(".hit").count() == len(home.pictures)
    page.locator(".results label", has_text="Camera").click()
    assert {title.split()[1] for title in page.locator(".hit-group h3").all_inner_texts()} == {"1", "2"}


def test_marks_are_stored_shown_again_and_exported(visit: Visit, home: Home) -> None:
    page = visit.search(home.queries[1])
    first, second = page.locator(".hit").nth(0), page.locator(".hit").nth(1)
    first.get_by_role("button", name="Same person", exact=True).click()
    second.get_by_role("button", name="Not the same person").click()
    page.locator(".toast", has_text="Rank 2 marked: not the same").wait_for()
    wanted = [first.get_attribute("data-id"), second.get_attribute("data-id")]

    with page.expect_response("**/api/search"):
        page.locator("#view-search .primary").click()
    page.wait_for_selector("#view-search:not(.busy)")
    assert page.locator('.hit[data-mark="same"]').get_attribute("data-id") == wanted[0]
    assert page.locator('.hit[data-mark="not"]').get_attribute("data-id") == wanted[1]

    answer = page.request.get(f"{visit.site.address}api/feedback.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text())))
    assert [row["same"] for item in wanted for row in rows if row["item"] == item] == ["1", "0"]

    page.locator(".hit").nth(0).get_by_role("button", name="Same person", exact=True).click()
    page.locator(".toast", has_text="Mark of rank 1 taken back").wait_for()
    assert page.locator('.hit[data-mark="same"]').count() == 0


def test_search_with_this_one(visit: Visit, home: Home) -> None:
    page = visit.search(home.queries[0])
    card = page.locator(".hit").nth(2)
    chosen = card.get_attribute("data-id")
    with page.expect_response("**/api/search"):
        card.get_by_role("link", name="Search with this one").click()
    assert visit.sent()["item"] == [chosen]
    # It finds itself.
    page.locator(f".hit[data-rank='1'][data-id='{chosen}']").wait_for()


def test_a_picture_of_the_gallery_is_a_beginning(visit: Visit) -> None:
    page = visit.open()
    with page.expect_response("**/api/search"):
        page.locator(".shelf a").first.click()
    page.wait_for_selector(".hit[data-rank]")
    assert "item=" in page.url


def test_trouble_is_said_in_words_and_the_page_goes_on(visit: Visit, home: Home, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 this is no picture")
    visit.expected.add(422)
    page = visit.open()
    page.set_input_files("#view-search input[type=file]", broken)
    page.locator("#view-search .primary").click()
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert alert.inner_text().startswith("broken.jpg: ")

    page.get_by_role("button", name="Remove broken.jpg").click()
    page.set_input_files("#view-search input[type=file]", home.queries[0])
    page.locator("#view-search .primary").click()
    page.wait_for_selector(".hit[data-rank]")
    assert alert.count() == 0

    # Busy, and then again: what was found stays, and so do the photos.
    visit.expected.add(429)
    busy = {"message": "the server is busy; try again in 3 s"}
    page.route("**/api/search", lambda route: route.fulfill(status=429, json=busy))
    page.locator("#view-search .primary").click()
    alert.wait_for()
    assert alert.locator("p").inner_text() == "The server is busy; try again in 3 s."
    assert page.locator(".hit").count() == len(home.pictures)
    page.unroute("**/api/search")
    alert.get_by_role("button", name="Try again").click()
    alert.wait_for(state="detached")


def test_a_server_that_is_gone(visit: Visit, home: Home) -> None:
    page = visit.open()
    visit.expected.add(0)
    page.set_input_files("#view-search input[type=file]", home.queries[0])
    page.route("**/api/search", lambda route: route.abort("connectionrefused"))
    page.locator("#view-search .primary").click()
    assert "does not answer" in page.get_by_role("alert").inner_text()
    page.unroute("**/api/search")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(".hit[data-rank]")


def test_what_is_no_picture_is_refused_at_once(visit: Visit, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    page = visit.open()
    page.set_input_files("#view-search input[type=file]", text)
    page.locator(".toast", has_text="That is not a picture").wait_for()
    assert page.locator("#view-search .primary").is_disabled()


def test_a_thousand_hits_come_without_anything_moving(visits: Visits, home: Home) -> None:
    visit = visits()
    page = visit.open()
    thousand = many_hits(1000)
    page.route("**/api/search", lambda route: route.fulfill(json=thousand))
    pictures = {size: jpeg(size) for size in SIZES}
    asked: list[str] = []

    def picture(route: Any) -> None:
        asked.append(route.request.url)
        number = int(route.request.url.split("/")[-1][:64], 16)
        route.fulfill(body=pictures[SIZES[number % len(SIZES)]], content_type="image/jpeg")

    page.route("**/api/pictures/*", picture)
    page.evaluate(
        """() => {
            window.moved = 0;
            new PerformanceObserver((list) => {
                for (const entry of list.getEntries()) window.moved += entry.value;
            }).observe({ type: "layout-shift", buffered: false });
        }"""
    )
    page.set_input_files("#view-search input[type=file]", home.queries[0])
    page.locator("#view-search .primary").click()
    page.wait_for_selector(".hit[data-rank='1000']", state="attached")
    page.evaluate("window.moved = 0")  # the list itself may come
    page.mouse.move(800, 500)
    height = page.evaluate("document.documentElement.scrollHeight")
    page.wait_for_timeout(300)
    early = len(asked)
    assert 0 < early < 300, "pictures far below are loaded too early"
    for _ in range(12):
        page.mouse.wheel(0, 900)
        page.wait_for_timeout(60)
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight / 2)")
    page.wait_for_timeout(300)
    assert len(asked) > early
    assert page.evaluate("document.documentElement.scrollHeight") == height
    assert page.evaluate("window.moved") < 0.005
    # One stop of the Tab key, and arrow keys reach the end.
    assert page.locator(".hit [tabindex='0']").count() == 4
    page.locator(".hit .shot").first.focus()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.closest('.hit').dataset.rank") == "1000"


SIZES = [(64, 128), (128, 256), (90, 120), (50, 200)]


def jpeg(size: tuple[int, int]) -> bytes:
    """A plain picture."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 140, 120)).save(buffer, "JPEG")
    return buffer.getvalue()


def many_hits(number: int) -> dict[str, Any]:
    """An answer with that many hits, of which the matcher looked at the first hundred."""
    hits = []
    for place in range(number):
        id = f"{place:064x}"
        width, height = SIZES[place % len(SIZES)]
        hits.append(
            {
                "id": id,
                "picture": f"/api/pictures/{id}",
                "name": f"{place}.jpg",
                "camera": str(1 + place % 6),
                "time": "2024-05-01T10:00:00+00:00",
                "identity": None,
                "source": None,
                "attributes": {},
                "width": width,
                "height": height,
                "rank": place + 1,
                "similarity": 1 - place / number,
                "probability": 1 - place / 100 if place < 100 else None,
                "same": None,
            }
        )
    query = {"id": "f" * 64, "picture": "data:,", "width": 64, "height": 128}
    rest = {"groups": [], "total": number, "offset": 0, "seconds": {"total": 0.1}, "unreadable": []}
    return {"hits": hits, "query": [query], **rest}
