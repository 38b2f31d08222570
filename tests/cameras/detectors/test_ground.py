"""How tall people are by where their feet are, learned from boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.cameras.detectors.ground import Ground

SLOPE, OFFSET = 0.7, -30.0


def person(foot: float, left: float = 300.0, height: float | None = None, wide: float = 0.4):
    """A box on the ground."""
    tall = SLOPE * foot + OFFSET if height is None else height
    return round(left), round(foot - tall), round(wide * tall), round(tall)


def learned(frames: int = 60, seed: int = 0, spoil: float = 0.0) -> Ground:
    """A ground after some frames with one person each, of whom a share is seen in part only."""
    random = np.random.default_rng(seed)
    ground = Ground(360, 640)
    for _ in range(frames):
        foot = random.uniform(150, 340)
        tall = (SLOPE * foot + OFFSET) * random.normal(1, 0.04)
        if random.random() < spoil:
            tall *= 0.6
        ground.learn([person(foot, random.uniform(100, 500), tall)])
    return ground


@pytest.mark.parametrize("spoil", [0.0, 0.25])
@pytest.mark.parametrize("seed", range(3))
def test_the_height_is_learned_even_if_some_are_seen_in_part(spoil: float, seed: int) -> None:
    ground = learned(120, seed, spoil)
    assert ground.known
    for foot in (170, 250, 330):
        assert ground.height(foot) == pytest.approx(SLOPE * foot + OFFSET, rel=0.1)


def test_nothing_is_known_of_few_people_or_of_those_who_are_not_alone_or_whole() -> None:
    assert not learned(10).known
    for people in (
        [person(250, 300), person(255, 340)],  # side by side
        [person(250, 0)],  # cut by the border
        [person(360, 300)],
        [person(250, 300, wide=0.9)],  # too wide for one
        [],
    ):
        ground = Ground(360, 640)
        for _ in range(50):
            ground.learn(people)
        assert not ground.known
        assert [ground.completed(one) for one in people] == people


def test_somebody_whose_feet_are_hidden_reaches_down_to_the_ground() -> None:
    ground = learned(200)
    left, top, width, height = person(280)
    for share in (0.46, 0.5, 0.54):
        found = ground.completed((left, top, width, round(share * height)))
        assert found[:3] == (left, top, width)
        assert top + found[3] == pytest.approx(280, abs=0.1 * height)
    whole = (left, top, width, height)
    assert ground.completed(whole) == whole
    assert ground.completed((left, top, width, round(0.9 * height))) == (
        left,
        top,
        width,
        round(0.9 * height),
    )


def test_somebody_of_whom_a_strip_is_seen_is_as_wide_as_people_are() -> None:
    _, top, _, tall = person(280)
    left, _, width, height = learned(200).completed((300, top, 10, tall))
    assert width == pytest.approx(0.3 * height, abs=1)
    assert left + width / 2 == pytest.approx(305, abs=1)


boxes = st.tuples(st.integers(0, 620), st.integers(0, 340), st.integers(1, 300), st.integers(1, 300))
GROUND = learned(200)


@settings(max_examples=200, deadline=None)
@given(boxes)
def test_a_completed_box_keeps_its_head_and_stays_in_the_frame_below(box) -> None:
    left, top, width, height = box
    box = (left, top, min(width, 640 - left), min(height, 360 - top))
    found = GROUND.completed(box)
    assert found[1] == box[1]
    assert box[3] <= found[3] <= max(2.2 * box[3], box[3])
    assert found[1] + found[3] <= 360
    assert found[2] >= box[2]
    assert found[0] <= box[0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(boxes, max_size=3), max_size=60))
def test_any_boxes_can_be_learned_from(frames) -> None:
    ground = Ground(360, 640)
    for people in frames:
        ground.learn(people)
    assert not ground.known or ground.height(200) >= 1
