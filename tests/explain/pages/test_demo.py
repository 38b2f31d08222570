import dataclasses
import io
import re
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from kronreid.explain import (
    Chart,
    Command,
    DemoReport,
    Member,
    Plate,
    RankedPictures,
    StreetReport,
    write_demo_report,
)
from kronreid.explain.pages.demo import headline

Read = Callable[[str], Any]


def metrics(rank1: float) -> dict[str, object]:
    return {
        "protocol": "market1501",
        "queries": 120,
        "gallery": 480,
        "rank1": rank1,
        "rank5": rank1 + 0.01,
        "rank10": rank1 + 0.02,
        "mAP": rank1 - 0.1,
        "mAP_trapezoid": rank1 - 0.11,
        "mINP": rank1 - 0.2,
        "seconds": 2.5,
    }


def ranked(title: str) -> RankedPictures:
    people = [Image.new("RGB", (64, 128), (40 * number, 90, 160)) for number in range(5)]
    labels = ["0.93", "0.81", "0.72", "0.64"]
    return RankedPictures(people[4], people[:4], [True, False, None, False], labels, title)


def street(text: str) -> StreetReport:
    frame, person = Image.new("RGB", (640, 360)), Image.new("RGB", (40, 90))
    cameras = [("camera-1", [person, person]), (text, [person])]
    return StreetReport(text, [("camera-1", frame), (text, frame)], [Member(text, cameras)])


@pytest.fixture
def report() -> DemoReport:
    return DemoReport(
        metrics={
            "horeid": {"untrained": metrics(0.312), "trained": metrics(0.842)},
            "kpm": {"untrained": metrics(0.284), "trained": metrics(0.801)},
            "reranked": metrics(0.883),
        },
        data="2,400 pictures of 160 people.",
        charts=[Chart("mAP on unseen people", "pictures seen", "mAP, %", {"HOReID": ([0, 1], [10, 60])})],
        contact_sheet=Image.new("RGB", (2400, 300), (0, 90, 160)),
        ranked_lists=[ranked("HOReID alone"), ranked("Re-ranked by KPM")],
        gallery_search=ranked("A picture that is not in the gallery"),
        plates=[Plate(Figure(figsize=(1, 0.5)), "Attention", "Bright places weigh more.")],
        commands=[
            Command("Search with your own picture", "kronreid search who.jpg --gallery people.gallery")
        ],
        timings={"Training HOReID": 92.0, "Searching": 0.31},
        street=street("The second camera of five."),
    )


def test_the_page_is_whole(tmp_path: Path, report: DemoReport, read: Read) -> None:
    path = write_demo_report(tmp_path / "new" / "folder", report)
    assert path == tmp_path / "new" / "folder" / "index.html"
    page = path.read_text(encoding="utf-8")
    reader = read(page)
    words = reader.words()
    expected = (
        "rank-1", "rank-5", "rank-10", "mAP, trapezoid", "mINP", "120 queries", "480 gallery pictures",
        "protocol market1501", report.data, "mAP on unseen people", "HOReID alone", "Re-ranked by KPM",
        "A picture that is not in the gallery", "Bright places weigh more.", "kronreid search who.jpg",
        "1 min 32 s", "The generated people", "none of them exists", "never proof",
        "The second camera of five.",
    )  # fmt: skip
    for text in expected:
        assert text.lower() in words.lower(), text
    images = [attributes["src"] or "" for tag, attributes in reader.tags if tag == "img"]
    # three lists of a query and four hits, the sheet, the plate, two frames and three pictures of a person
    assert len(images) == 3 * 5 + 1 + 1 + 2 + 3
    sizes = [Image.open(io.BytesIO(b64decode(source.split(",")[1]))).size for source in images]
    assert (2000, 250) in sizes  # the sheet, made smaller
    assert (280, 140) in sizes  # an inch, sharp on fine screens


def test_untrained_and_trained_stand_side_by_side(tmp_path: Path, report: DemoReport) -> None:
    page = write_demo_report(tmp_path, report).read_text(encoding="utf-8")
    rows = [re.sub(r"\s+", " ", row) for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)]
    cells = {}
    for row in rows:
        name = re.search(r'<th scope="row">(.*?)(<small>|</th>)', row)
        if name:
            cells[name.group(1)] = re.findall(r"<td[^>]*>(.*?)</td>", row)
    assert cells["rank-1"] == ["31.2", "84.2", "28.4", "80.1", "88.3"]
    assert cells["rank-5"] == ["32.2", "85.2", "29.4", "81.1", "89.3"]
    assert cells["rank-10"] == ["33.2", "86.2", "30.4", "82.1", "90.3"]
    assert cells["mAP"] == ["21.2", "74.2", "18.4", "70.1", "78.3"]
    assert cells["mAP, trapezoid"] == ["20.2", "73.2", "17.4", "69.1", "77.3"]
    assert cells["mINP"] == ["11.2", "64.2", "8.4", "60.1", "68.3"]
    assert cells["time"] == ["2.5 s"] * 5
    assert re.findall(r'<td class="[^"]*\bbest">(.*?)</td>', page)[0] == "88.3"


def test_nothing_lies_beside_it_or_is_loaded(tmp_path: Path, report: DemoReport, read: Read) -> None:
    page = write_demo_report(tmp_path, report).read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    read(page)


def test_every_text_is_escaped(tmp_path: Path, report: DemoReport, read: Read) -> None:
    bad = "<script>alert('x')</script>"
    worst = dataclasses.replace(ranked(bad), labels=[bad] * 4, caption=bad)
    report = DemoReport(
        metrics={bad: {"untrained": {**metrics(0.1), "protocol": bad}, "trained": metrics(0.9)}},
        data=bad,
        charts=[Chart(bad, bad, bad, {bad: ([0], [1])}, bad)],
        contact_sheet=report.contact_sheet,
        ranked_lists=[worst],
        gallery_search=worst,
        plates=[Plate(Figure((1, 1)), bad, bad)],
        commands=[Command(bad, bad)],
        timings={bad: 1.0},
        street=street(bad),
    )
    page = write_demo_report(tmp_path, report).read_text(encoding="utf-8")
    assert "<script" not in page
    assert read(page).words().count(bad) >= 20


def test_right_and_wrong_hits_are_marked(tmp_path: Path, report: DemoReport) -> None:
    page = write_demo_report(tmp_path, report).read_text(encoding="utf-8")
    hits = re.findall(r'<li class="(right|wrong|unknown)">(.*?)</li>', page, re.DOTALL)
    assert [state for state, _ in hits] == ["right", "wrong", "unknown", "wrong"] * 3
    for state, item in hits:
        assert ('aria-label="right"' in item) == (state == "right")
        assert ('aria-label="wrong"' in item) == (state == "wrong")


def test_results_of_different_protocols_say_so(tmp_path: Path, report: DemoReport, read: Read) -> None:
    other = {**metrics(0.9), "protocol": "openreid"}
    report = dataclasses.replace(report, metrics={**report.metrics, "reranked": other})
    words = read(write_demo_report(tmp_path, report).read_text(encoding="utf-8")).words()
    assert re.search(r"protocol( market1501){4} openreid", words)
    assert "120 queries" in words.lower()


def test_missing_values_are_dashes(tmp_path: Path, report: DemoReport) -> None:
    report = dataclasses.replace(
        report, metrics={"horeid": {"untrained": {}, "trained": {"mAP": float("nan")}}}
    )
    page = write_demo_report(tmp_path, report).read_text(encoding="utf-8")
    assert page.count(">–</td>") == 2 * 6 + 3 * 2 + 2
    assert "nan" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page).lower()


def test_the_headline_says_what_training_changed(report: DemoReport) -> None:
    sentence = headline(report.metrics).replace("\u00a0", " ")
    assert "from 31.2 to 84.2 % with HOReID and from 28.4 to 80.1 % with KPM" in sentence
    assert "%" not in headline({})
