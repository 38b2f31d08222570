"""Which detector a name stands for."""

from pathlib import Path

import numpy as np
import pytest

from kronreid.cameras.detectors import Detections, named
from kronreid.cameras.detectors.motion import Motion
from kronreid.errors import InputError

MODULE = """
import numpy as np
from kronreid.cameras.detectors import Detections

def whole(score: float = 0.5):
    def find(image):
        box = [[0, 0, image.shape[1], image.shape[0]]]
        return Detections(np.array(box, np.float32), np.array([score], np.float32))
    return find

def nothing():
    return None

constant = 3
"""


def test_motion_has_a_state_of_its_own() -> None:
    assert isinstance(named("motion"), Motion)
    assert named("motion") is not named("motion")


@pytest.mark.usefixtures("own_entries")
def test_a_function_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_detector.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    for text in ("own_detector:whole", f"{tmp_path}/own_detector.py:whole"):
        found = named(text, score="0.25")(np.zeros((20, 30, 3), np.uint8))
        assert isinstance(found, Detections)
        assert (found.boxes.tolist(), found.scores.tolist()) == ([[0, 0, 30, 20]], [0.25])
    for text, line in {
        "own_detector:other": "own_detector has no function other",
        "own_detector:constant": "own_detector has no function constant",
        "own_detector:nothing": "must return a detector, not NoneType",
        "no_such_module:whole": "no such module is installed",
        f"{tmp_path}/gone.py:whole": "no such file",
    }.items():
        with pytest.raises(InputError, match=line) as error:
            named(text)
        assert str(error.value).startswith(f"detector {text}")
    with pytest.raises(
        InputError, match=r"detector own_detector:whole: scores is unknown; did you mean score\?"
    ):
        named("own_detector:whole", scores=1)


@pytest.mark.parametrize(
    ("text", "options", "line"),
    [
        ("yolo", {}, "detector yolo: is unknown; use motion, an .onnx file"),
        ("", {}, "is unknown"),
        ("motion", {"min_hight": 0.1}, "detector motion: min_hight is unknown; did you mean min_height?"),
        ("motion", {"min_height": 2}, "detector motion: min_height 2: at most 1 expected"),
        ("a.onnx", {"threshold": "high"}, "detector a.onnx: threshold 'high'"),
        ("a.onnx", {"treshold": 0.5}, "did you mean threshold?"),
    ],
)
def test_what_is_wrong(text: str, options: dict[str, object], line: str) -> None:
    with pytest.raises(InputError) as error:
        named(text, **options)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
