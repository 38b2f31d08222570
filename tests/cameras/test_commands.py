"""`kronreid track`, with an embedder that looks at colours and a detector that knows where people are."""

import time
from pathlib import Path

import pytest
from PIL import Image

from kronreid.cli import main
from kronreid.gallery import Gallery
from kronreid.gallery.tracklets import Tracklets

from .conftest import START, Colours, Known, Street, walk

STREET = Street([walk(0, 4, (0, 280)), walk(1, 5, (220, 80), 100, 60)], 6, rate=5)


def record(folder: Path) -> Path:
    """The frames of the street as pictures, whose names are their times."""
    folder.mkdir()
    for frame in STREET.frames():
        Image.fromarray(frame.image).save(folder / f"{round(frame.time * 1000)}.png")
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `kronreid track` on the sources; gives its exit status."""
    monkeypatch.setattr("kronreid.cameras.detectors.named", lambda text, **options: Known(STREET))
    for module in ("track", "people"):
        monkeypatch.setattr(f"kronreid.cli.{module}.load_model", lambda path, option: Colours())

    def run(*arguments):
        where = ["--gallery", tmp_path / "people.gallery", "--model", "colours"]
        return main([str(word) for word in ("track", *arguments, *where)])

    return run


def stored(tmp_path: Path) -> dict[str, list[float]]:
    """When the tracklets of each camera begin."""
    with Gallery(tmp_path / "people.gallery") as gallery:
        assert gallery.verify().intact
        tracklets = Tracklets(**gallery.place)
        found: dict[str, list[float]] = {}
        for one in sorted(tracklets.all(), key=lambda tracklet: tracklet.start):
            found.setdefault(one.camera, []).append(round(one.start - START))
        tracklets.close()
    return found


def test_sources_are_followed_into_a_gallery(run, tmp_path, capsys):
    gate, yard = record(tmp_path / "gate"), record(tmp_path / "yard")
    assert run(gate, yard, "--save-video", tmp_path / "films", "--blur", "all", "--group") == 0
    said = capsys.readouterr().out
    assert f"{gate} (gate): 30 frames, 2 tracklets\n" in said
    assert "4 tracklets of 60 frames in " in said
    assert "computing: decoding " in said
    assert "4 of 4 tracklets grouped; 2 people" in said
    assert stored(tmp_path) == {"gate": [0, 1], "yard": [0, 1]}
    assert len(list((tmp_path / "films").iterdir())) == 2
    assert len(list((tmp_path / "people.crops").iterdir())) == 2
    assert run(gate, yard) == 0
    assert capsys.readouterr().out.count("was followed to its end before; remove ") == 2
    assert stored(tmp_path) == {"gate": [0, 1], "yard": [0, 1]}


def test_cameras_times_and_crops_are_named(run, tmp_path, capsys):
    gate, yard = record(tmp_path / "gate"), record(tmp_path / "yard")
    options = ["--camera", "a", "b", "--start", START + 100, START + 200, "--crops", tmp_path / "here"]
    assert run(gate, yard, *options, "--rate", "2.5") == 0
    assert "(a): 15 frames" in capsys.readouterr().out
    assert stored(tmp_path) == {"a": [100, 102], "b": [200, 202]}
    assert len(list((tmp_path / "here").iterdir())) == 2


def test_deleting_and_expiring_leave_no_crop(run, tmp_path, capsys):
    assert run(record(tmp_path / "gate")) == 0
    assert run(record(tmp_path / "now"), "--start", time.time() - 60) == 0
    crops = tmp_path / "people.crops"
    where = ["--gallery", str(tmp_path / "people.gallery")]
    assert main(["gallery", "expire", "--keep", "1d", *where]) == 0
    assert "nothing of them is left in the gallery's files" in capsys.readouterr().out
    assert list(stored(tmp_path)) == ["now"]
    assert {path.parent.name[:3] for path in crops.rglob("*.jpg")} == {"now"}
    assert main(["gallery", "delete", "--camera", "now", *where]) == 0
    assert stored(tmp_path) == {}
    assert list(crops.rglob("*.jpg")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.mp4"], "missing.mp4: no such file or folder"),
        (["{gate}", "--camera", "a", "b"], "--camera: 2 values for 1 sources; give one, or one for each"),
        (["{gate}", "--start", "soon"], "time 'soon'"),
        (["{gate}", "--rate", "0"], "rate 0.0: must be a number above 0"),
        (["{gate}", "--min-seconds", "-1"], "--min-seconds -1.0: a number of 0 or more expected"),
        (["{gate}", "--blur", "all"], "--blur: is about the videos of --save-video"),
        (
            ["{gate}", "--save-video", "x", "--blur", "others"],
            "--show: names whom --blur others",
        ),
        (
            ["{gate}", "--save-video", "x", "--blur", "others", "--show", "xyz"],
            "--show xyz: the first digits",
        ),
        (["{gate}", "{gate}"], "is being followed by another process, or given twice"),
        (["{gate}", "--set", "threshold"], "--set 'threshold': must be key=value"),
        (["{gate}", "--crops", "{gate}/1700000000000.png"], "1700000000000.png/gate-"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(run, tmp_path, capsys, arguments, message):
    gate = record(tmp_path / "gate")
    assert run(*(word.format(gate=gate) for word in arguments)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("kronreid: error: ")
    assert said.count("\n") == 1


def test_a_gallery_of_another_model_is_refused(run, tmp_path, capsys):
    class Other(Colours):
        fingerprint = "beef"

    Gallery(tmp_path / "people.gallery", Other()).close()
    assert run(record(tmp_path / "gate")) == 2
    assert "its vectors were made by model beef" in capsys.readouterr().err
