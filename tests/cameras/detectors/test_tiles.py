"""Tiles: they cover the frame, and their detections are merged."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.cameras.detectors import named
from kronreid.cameras.detectors.boxes import area, best, overlaps
from kronreid.cameras.detectors.tiles import NetworkDetector, NetworkOptions, _sizes, _starts
from kronreid.errors import InputError


class Finder:
    """A network that finds bright rectangles of at least 10 pixels of its input, even parts of them."""

    def __init__(self, size: tuple[int, int] = (100, 100)) -> None:
        self.size, self.calls = size, 0

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        shrink = max(image.shape[0] / self.size[0], image.shape[1] / self.size[1])
        boxes = []
        for value in np.unique(image[:, :, 0])[1:]:
            y, x = np.nonzero(image[:, :, 0] == value)
            box = x.min(), y.min(), x.max() + 1, y.max() + 1
            if (box[3] - box[1]) / shrink >= 10:
                boxes.append(box)
        return np.array(boxes, float).reshape(-1, 4), np.linspace(0.9, 0.8, len(boxes))


def frame(height: int, width: int, people: list[tuple[int, int, int, int]]) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    for number, (left, top, across, down) in enumerate(people, start=1):
        image[top : top + down, left : left + across] = 10 * number
    return image


def test_small_people_of_a_large_frame_are_found_in_tiles_only() -> None:
    people = [(20, 30, 15, 40), (400, 200, 20, 50), (250, 20, 130, 250)]
    image = frame(400, 700, people)
    for tiles, expected in {"none": [people[2]], "auto": people, "2,4": people, "0,1.5": people}.items():
        found = NetworkDetector(Finder(), NetworkOptions(tiles=tiles))(image)
        assert sorted(map(tuple, found.boxes.tolist())) == sorted(expected), tiles


def test_frames_about_as_large_as_the_input_are_read_whole() -> None:
    network = Finder()
    NetworkDetector(network, NetworkOptions())(frame(120, 150, [(5, 5, 20, 50)]))
    assert network.calls == 1


@settings(max_examples=60)
@given(length=st.integers(1, 5000), tile=st.integers(1, 2000))
def test_tiles_cover_a_side_and_overlap(length: int, tile: int) -> None:
    starts = _starts(length, tile)
    ends = [start + min(tile, length) for start in starts]
    assert starts[0] == 0
    assert ends[-1] == length
    assert all(following <= end for end, following in zip(ends, starts[1:]))
    if tile >= 20:  # rounding to pixels takes some of the overlap of tiny tiles
        assert all(end - following >= 0.2 * tile for end, following in zip(ends, starts[1:]))


@settings(max_examples=40)
@given(
    height=st.integers(50, 3000),
    width=st.integers(50, 3000),
    network=st.tuples(st.integers(32, 1000), st.integers(32, 1000)),
)
def test_tiles_are_never_smaller_than_the_input_needs(
    height: int, width: int, network: tuple[int, int]
) -> None:
    for size in _sizes(height, width, network, "auto"):
        assert size[0] >= min(height, network[0]) - 1
        assert size[1] >= min(width, network[1]) - 1


@pytest.mark.parametrize("tiles", ["some", "", "1.5;3", "-1", "1,,2", "0.01", "1.2.3", "."])
def test_wrong_tiles(tiles: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"detector .*: tiles"):
        named(str(tmp_path / "a.onnx"), tiles=tiles)


def test_too_many_tiles() -> None:
    detector = NetworkDetector(Finder(), NetworkOptions(tiles="0.1"))
    with pytest.raises(InputError, match=r"tiles 0\.1: a frame of 1000 × 1000 pixels has [0-9,]+ tiles"):
        detector(frame(1000, 1000, []))


def test_no_person_and_no_tile_leave_empty_arrays() -> None:
    found = NetworkDetector(Finder(), NetworkOptions())(frame(400, 700, []))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


BOXES = st.lists(
    st.tuples(
        st.integers(0, 50), st.integers(0, 50), st.integers(1, 50), st.integers(1, 50), st.integers(1, 99)
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(BOXES)
def test_suppression_against_loops(rows: list[tuple[int, ...]]) -> None:
    values = np.array(rows, float).reshape(-1, 5)
    boxes = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:4]], axis=1)
    scores = values[:, 4] / 100
    kept: list[int] = []
    for number in sorted(range(len(boxes)), key=lambda one: (-scores[one], one)):
        common = [one_pair(boxes[number], boxes[other]) for other in kept]
        if all(union <= 0.45 and inside <= 0.8 for union, inside in common):
            kept.append(number)
    assert best(boxes, scores).tolist() == kept
    union, inside = overlaps(boxes, boxes)
    assert np.allclose(union.diagonal(), 1)
    assert np.allclose(inside.diagonal(), 1)
    assert np.allclose(area(boxes), values[:, 2] * values[:, 3])


def one_pair(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    across = max(min(one[2], other[2]) - max(one[0], other[0]), 0)
    down = max(min(one[3], other[3]) - max(one[1], other[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return across * down / (sum(areas) - across * down), across * down / min(areas)
