"""The interfaces of other people's trackers: boxes of BGR frames in, an embedder's own vectors out."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.data.transforms import InputOptions
from kronreid.errors import InputError
from kronreid.models.inference import Embedder
from kronreid.models.loading import wrap
from kronreid.models.reid import ReID
from kronreid.models.storage import build

FRAME = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
BOXES = np.array([[10, 20, 42, 84], [100.4, 30.6, 130, 110], [0, 0, 160, 120]], np.float32)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    arguments = {"backbone": {"name": "test_resnet", "weights": "none"}, "channels": 8}
    embedder = wrap(build("pooled", arguments), InputOptions(64, 32))
    assert isinstance(embedder, Embedder)
    return embedder


@pytest.fixture(scope="module")
def reid(embedder: Embedder) -> ReID:
    return embedder.as_reid()


def expected(embedder: Embedder, frame: np.ndarray, boxes: Any) -> np.ndarray:
    """The vectors of boxes that lie in the frame, by the embedder's own interface."""
    corners = np.rint(np.asarray(boxes)).astype(int)
    crops: list[Any] = [frame[y:bottom, x:right, ::-1].copy() for x, y, right, bottom in corners]
    return embedder.embed(crops)


def as_left_top_width_height(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def crops_of(boxes: np.ndarray) -> list[np.ndarray]:
    return [FRAME[y:bottom, x:right] for x, y, right, bottom in np.rint(boxes).astype(int)]


#: How trackers ask, by their documentation.
ASKED: dict[str, Callable[[ReID], np.ndarray]] = {
    "boxmot's backends": lambda reid: reid.get_features(BOXES, FRAME),
    "boxmot, by name": lambda reid: reid.get_features(xyxys=BOXES, img=FRAME),
    "boxmot's ReIDModel": lambda reid: reid.embed(FRAME, boxes=BOXES),
    "detections of six columns": lambda reid: reid.get_features(np.hstack([BOXES, BOXES[:, :2]]), FRAME),
    "trackers' ReIDEncoder": lambda reid: reid.extract_features(SimpleNamespace(xyxy=BOXES), FRAME),
    "trackers, by name": lambda reid: reid.extract_features(
        detections=SimpleNamespace(xyxy=BOXES), frame=FRAME
    ),
    "trackers' first extractor": lambda reid: reid.extract_features(FRAME, SimpleNamespace(xyxy=BOXES)),
    "boxes behind the frame": lambda reid: reid.extract_features(FRAME, BOXES),
    "lists": lambda reid: reid.extract_features(BOXES.tolist(), FRAME),
    "DeepSORT's encoder": lambda reid: reid(FRAME, as_left_top_width_height(BOXES)),
    "DeepSORT's crops": lambda reid: reid(crops_of(BOXES)),
    "an embedder's predict": lambda reid: reid.predict(crops_of(BOXES)),
}


@pytest.mark.parametrize("way", ASKED)
def test_every_interface_gives_the_embedders_vectors(embedder: Embedder, reid: ReID, way: str) -> None:
    found = ASKED[way](reid)
    assert (found.shape, found.dtype) == ((3, 8), np.float32)
    np.testing.assert_allclose(found, expected(embedder, FRAME, BOXES), atol=1e-6)


@pytest.mark.parametrize("boxes", [[], np.empty((0, 4)), np.empty((0, 6)), np.empty(0)])
def test_no_boxes_give_no_rows(reid: ReID, boxes: Any) -> None:
    answers = (
        reid.get_features(boxes, FRAME),
        reid.extract_features(boxes, FRAME),
        reid(FRAME, boxes),
        reid([]),
    )
    for answer in answers:
        assert (answer.shape, answer.dtype) == ((0, 8), np.float32)


COORDINATE = st.floats(-500, 500) | st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e300])


@settings(max_examples=40)
@given(st.lists(st.tuples(*[COORDINATE] * 4), min_size=1, max_size=4))
def test_any_box_gives_a_unit_vector_or_zeros(reid: ReID, boxes: list[tuple[float, ...]]) -> None:
    found = reid.get_features(boxes, FRAME)
    assert found.shape == (len(boxes), 8)
    lengths = np.linalg.norm(found, axis=1)
    assert ((np.abs(lengths - 1) < 1e-4) | (lengths == 0)).all()


def test_boxes_are_clipped_and_those_outside_are_zeros(embedder: Embedder, reid: ReID) -> None:
    found = reid.get_features([[-50, -50, 40, 60], [200, 0, 240, 50], [30, 30, 30, 60]], FRAME)
    np.testing.assert_allclose(found[0], expected(embedder, FRAME, [[0, 0, 40, 60]])[0], atol=1e-6)
    assert not found[1:].any()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda reid: reid.get_features(BOXES, FRAME.astype(np.float32)), "frame: expected uint8"),
        (lambda reid: reid.get_features(BOXES, FRAME[:, :, 0]), "frame: expected uint8"),
        (lambda reid: reid.get_features(BOXES[:, :3], FRAME), "boxes: expected (N, 4), got (3, 3)"),
        (lambda reid: reid.get_features(BOXES[0], FRAME), "boxes: expected (N, 4), got (4,)"),
        (lambda reid: reid([FRAME[:, :, :2]]), "crop: expected uint8"),
    ],
)
def test_what_is_no_picture_or_no_box_is_refused(
    reid: ReID, ask: Callable[[ReID], object], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        ask(reid)
    assert words in str(caught.value)


def test_roboflows_trackers_and_their_detections(embedder: Embedder, reid: ReID) -> None:
    """Two people who walk on keep their numbers, and the features of the real detections are ours."""
    supervision = pytest.importorskip("supervision")
    trackers = pytest.importorskip("trackers")
    known = inspect.signature(trackers.BoTSORTTracker).parameters
    options = {"reid_model": reid} if "reid_model" in known else {}
    tracker = trackers.BoTSORTTracker(enable_cmc=False, **options)
    people = BOXES[:2]
    numbers = []
    for step in range(4):
        boxes = people + np.float32(step)
        confidence = np.array([0.9, 0.8], np.float32)
        detections = supervision.Detections(xyxy=boxes, confidence=confidence, class_id=np.zeros(2, int))
        tracked = tracker.update(detections, FRAME)
        features = reid.extract_features(tracked, FRAME)
        tracked.data["features"] = features
        np.testing.assert_allclose(features, expected(embedder, FRAME, tracked.xyxy), atol=1e-6)
        assert len(tracked[tracked.confidence > 0.85].data["features"]) == 1
        numbers.append(tuple(tracked.tracker_id))
    assert len(set(numbers[1:])) == 1
    assert len(set(numbers[-1])) == 2
