"""Known boxes of generated streets, and the metrics of tracklets against them."""

from pathlib import Path

import numpy as np
import pytest

from kronreid.cameras.frames import Source
from kronreid.cameras.truth import Known, StreetSource, known_boxes, measure, tracks_of
from kronreid.data.generated.streets import START, Street
from kronreid.errors import InputError
from kronreid.gallery.tracklets import Tracklet

STREET = Street(cameras=1, people=3, seconds=3.0, rate=5, width=160, height=90)


def tracklet(name: str, camera: str, start: float, times: list[float], boxes: list[list[float]]) -> Tracklet:
    return Tracklet(
        id=name,
        camera=camera,
        source=camera,
        start=START + start,
        end=START + start + times[-1],
        vector=np.ones(2, np.float32),
        pictures=(),
        path=Path("best.jpg"),
        boxes=np.hstack([np.array(times)[:, None], np.array(boxes)]).astype(np.float32),
    )


def walk(camera: str, name: str, start: float, left: float) -> Tracklet:
    """Somebody who walks 10 pixels in a second for two seconds, of whom three boxes are stored."""
    boxes = [[left + 10 * time, 0, 20, 40] for time in (0, 1, 2)]
    return tracklet(name, camera, start, [0.0, 0.5, 2.0], [boxes[0], [left + 5, 0, 20, 40], boxes[2]])


def write_truth(file: Path, *people: tuple[int, float, float]) -> Path:
    """The truth of people who walk like `walk`, at 10 frames per second: identity, start and left."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{round(start * 10) + step + 1},{identity},{left + step + 1},1,20,40,1,1,1\n"
        for identity, start, left in people
        for step in range(21)
    ]
    file.write_text("".join(lines))
    return file


def test_boxes_between_those_that_are_stored() -> None:
    """Half a second is interpolated; a longer gap is not."""
    tracks = tracks_of([walk("a", "one", 1.0, 50)], START, 10)
    assert tracks.frames.tolist() == [11, 12, 13, 14, 15, 16, 31]
    assert tracks.boxes[:, 0] == pytest.approx([50, 51, 52, 53, 54, 55, 70], abs=1e-3)
    assert set(tracks.tracks.tolist()) == {0}
    off = tracks_of([tracklet("two", "a", 0.04, [0.0, 0.2], [[0, 0, 2, 2], [2, 0, 2, 2]])], START, 10)
    assert off.frames.tolist() == [2, 3], "frames between the boxes, not before them"
    assert len(tracks_of([], START, 10)) == 0


@pytest.fixture
def truths(tmp_path: Path) -> dict[str, Path]:
    """Two cameras: persons 1 and 2 in the first one, 1 in the second one."""
    return {
        "a": write_truth(tmp_path / "a" / "gt.txt", (1, 0.0, 0), (2, 0.0, 100)),
        "b": write_truth(tmp_path / "b" / "gt.txt", (1, 5.0, 50)),
    }


def whole(camera: str, name: str, start: float, left: float) -> Tracklet:
    times = [step / 5 for step in range(11)]
    return tracklet(name, camera, start, times, [[left + 10 * time, 0, 20, 40] for time in times])


def test_all_right(truths: dict[str, Path]) -> None:
    seen = [whole("a", "one", 0, 0), whole("a", "two", 0, 100), whole("b", "three", 5, 50)]
    figures = measure(seen, {"one": 7, "two": 8, "three": 7}, truths, START, 10)
    for name in ("idf1", "idp", "idr", "mota", "cross_camera_f1", "cross_camera_idf1"):
        assert figures[name] == 1, name
    assert (figures["id_switches"], figures["tracklets"]) == (0, 3)
    assert (figures["people"], figures["true_people"]) == (2, 2)


def test_wrong_people_count_only_across_cameras(truths: dict[str, Path]) -> None:
    """The second camera's tracklet is joined with the wrong one; then it has no person at all."""
    seen = [whole("a", "one", 0, 0), whole("a", "two", 0, 100), whole("b", "three", 5, 50)]
    figures = measure(seen, {"one": 7, "two": 8, "three": 8}, truths, START, 10)
    assert figures["idf1"] == 1
    assert figures["cross_camera_precision"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert figures["cross_camera_recall"] == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert figures["cross_camera_idf1"] == pytest.approx(2 / 3)
    alone = measure(seen, {"one": 7, "two": 8}, truths, START, 10)
    assert alone["cross_camera_precision"] == 1
    assert alone["cross_camera_idf1"] == pytest.approx(2 * 42 / (63 + 42))


def test_a_tracklet_that_is_missed_and_one_of_nobody(truths: dict[str, Path]) -> None:
    seen = [whole("a", "one", 0, 0), whole("a", "nobody", 0, 300)]
    figures = measure(seen, {"one": 1, "nobody": 1}, truths, START, 10)
    assert figures["idr"] == pytest.approx(21 / 63)
    assert figures["idp"] == pytest.approx(0.5)
    assert figures["mota"] == pytest.approx(1 - (42 + 21) / 63)
    assert figures["cross_camera_precision"] == 0.5


def test_nothing_to_measure(truths: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="at least one"):
        measure([], {}, truths, START, 10)


def test_a_street_is_a_source_whose_boxes_are_known(tmp_path: Path) -> None:
    source: Source = StreetSource(STREET, 1)
    every = list(source.frames())
    assert [frame.number for frame in every] == list(range(15)) == list(range(source.length or 0))
    assert [frame.time for frame in every] == pytest.approx([START + number / 5 for number in range(15)])
    truth = tmp_path / "gt.txt"
    truth.write_text("3,1,11,21,30,40,1,1,0.9\n3,2,1,1,9,9,1,1,0.1\n4,1,12,21,30,40,1,1,0.9\n")
    known = Known(source, known_boxes(truth))
    found = [known(frame.image).boxes.tolist() for frame in known.frames(START + 0.4)]
    assert found[:3] == [[[10, 20, 30, 40]], [[11, 20, 30, 40]], []]
    assert len(found) == 13
    known.close()
    assert not list(known.frames())
