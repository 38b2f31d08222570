"""The generator of pedestrians: deterministic, in Market-1501's layout, hard but not hopeless."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kronreid.data.generated import contact_sheet, draw, write_market1501
from kronreid.errors import InputError

SMALL: dict[str, int] = {
    "train_identities": 3,
    "test_identities": 2,
    "cameras": 3,
    "pictures_per_camera": 2,
    "distractors": 5,
    "junk": 4,
}
NAME = re.compile(r"(-1|\d{4})_c(\d)s(\d)_(\d{6})_(\d{2})\.jpg")


def digest(root: Path) -> str:
    """One hash over the names and bytes of all files."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.jpg")):
        total.update(path.relative_to(root).as_posix().encode())
        total.update(path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def small(make_pedestrians: Callable[..., Path]) -> Path:
    return make_pedestrians(**SMALL)


def labels(root: Path, folder: str) -> list[tuple[int, int]]:
    """(identity, camera) of every file of a folder, whose names must all parse."""
    matches = [NAME.fullmatch(path.name) for path in (root / folder).iterdir()]
    assert all(matches)
    return [(int(match[1]), int(match[2])) for match in matches if match]


def test_layout(small: Path) -> None:
    train, query, gallery = (labels(small, f) for f in ("bounding_box_train", "query", "bounding_box_test"))
    assert sorted(train) == sorted([(i, c) for i in (1, 2, 3) for c in (1, 2, 3)] * 2)
    assert sorted(query) == [(i, c) for i in (4, 5) for c in (1, 2, 3)]
    assert sorted(pair for pair in gallery if pair[0] > 0) == sorted(query)
    assert [identity for identity, _ in gallery].count(0) == SMALL["distractors"]
    assert [identity for identity, _ in gallery].count(-1) == SMALL["junk"]
    assert {path.name for path in small.iterdir()} == {"bounding_box_train", "query", "bounding_box_test"}


def test_pictures_are_rgb_jpeg_of_market_size(small: Path) -> None:
    pictures = sorted(small.rglob("*.jpg"))
    for path in pictures:
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 128))
    assert len({path.read_bytes() for path in pictures}) == len(pictures)


def test_same_bytes_on_every_run(small: Path, tmp_path: Path) -> None:
    """In this process, whose caches are warm, and in another one that writes other pictures first."""
    write_market1501(tmp_path / "again", **SMALL)
    script = (
        "import sys; from pathlib import Path; from kronreid.data.generated import draw, write_market1501;"
        f"draw(99, 3, 5, seed=4); write_market1501(Path(sys.argv[1]), **{SMALL})"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "elsewhere")], check=True)
    assert digest(tmp_path / "again") == digest(small)
    assert digest(tmp_path / "elsewhere") == digest(small)


def test_seed_changes_the_world(small: Path, tmp_path: Path) -> None:
    write_market1501(tmp_path / "other", **SMALL, seed=1)
    ours = {path.relative_to(small): path.read_bytes() for path in small.rglob("*.jpg")}
    for path, data in ours.items():
        assert (tmp_path / "other" / path).read_bytes() != data


def test_pictures_do_not_depend_on_the_size_of_the_set(small: Path, tmp_path: Path) -> None:
    write_market1501(tmp_path / "less", **{**SMALL, "distractors": 2, "junk": 1})
    for path in (tmp_path / "less").rglob("*.jpg"):
        assert path.read_bytes() == (small / path.relative_to(tmp_path / "less")).read_bytes()


def test_written_picture_is_the_drawn_one(small: Path) -> None:
    path = next((small / "query").glob("0004_c2*.jpg"))
    with Image.open(path) as image:
        written = np.asarray(image, dtype=np.float64)
    drawn = np.asarray(draw(4, 2, 0), dtype=np.float64)
    other = np.asarray(draw(4, 2, 1), dtype=np.float64)
    assert np.abs(written - drawn).mean() < 8 < np.abs(written - other).mean()


@settings(max_examples=40, deadline=None)
@given(
    identity=st.integers(-5, 10**7),
    camera=st.integers(0, 40),
    shot=st.integers(0, 10**5),
    seed=st.integers(0, 2**40),
    size=st.sampled_from([(128, 64), (160, 64), (96, 48), (257, 129)]),
)
def test_draw_is_a_function_of_its_numbers(
    identity: int, camera: int, shot: int, seed: int, size: tuple[int, int]
) -> None:
    height, width = size
    first = draw(identity, camera, shot, seed=seed, height=height, width=width)
    assert (first.mode, first.size) == ("RGB", (width, height))
    assert first.tobytes() == draw(identity, camera, shot, seed=seed, height=height, width=width).tobytes()
    assert (
        first.tobytes() != draw(identity, camera, shot + 1, seed=seed, height=height, width=width).tobytes()
    )
    pixels = np.asarray(first)
    assert pixels.std() > 3  # not washed out or black
    assert 8 < pixels.mean() < 247


def test_colour_of_the_whole_picture_does_not_give_the_identity_away() -> None:
    """Nearest neighbour by mean colour across cameras finds the identity hardly more often than chance."""
    identities, cameras = range(1, 31), (1, 2, 3, 4)
    pictures = [(i, c, s) for i in identities for c in cameras for s in range(2)]
    colours = np.array([np.asarray(draw(i, c, s), dtype=np.float64).mean((0, 1)) for i, c, s in pictures])
    who, camera = (np.array(column) for column in list(zip(*pictures))[:2])
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    # Chance would then be 1 in 30: only pictures by other cameras are candidates.
    distance[camera[:, None] == camera[None]] = np.inf
    assert (who[distance.argmin(1)] == who).mean() < 0.15


def test_contact_sheet_has_a_row_per_identity_and_a_column_per_shot() -> None:
    sheet = contact_sheet([3, 8], cameras=(1, 4), shots=2, height=64, width=32)
    assert sheet.size == (4 * 34, 2 * 66)
    cell = sheet.crop((3 * 34, 66, 3 * 34 + 32, 66 + 64))
    assert cell.tobytes() == draw(8, 4, 1, height=64, width=32).tobytes()


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        write_market1501(tmp_path, **SMALL)
    with pytest.raises(InputError, match="not an empty folder"):
        write_market1501(tmp_path / "note.txt", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    write_market1501(root, **{**SMALL, "distractors": 0, "junk": 0})
    assert len(list((root / "query").iterdir())) == 6


@pytest.mark.parametrize(
    ("option", "value"), [("cameras", 0), ("cameras", 10), ("pictures_per_camera", 0), ("test_identities", 0)]
)
def test_numbers_out_of_range(tmp_path: Path, option: str, value: int) -> None:
    with pytest.raises(InputError, match=option):
        write_market1501(tmp_path / "set", **{**SMALL, option: value})
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def save(self: Image.Image, path: Path, **options: int) -> None:
        nonlocal count
        count += 1
        Path(path).write_bytes(b"half")
        if count == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(KeyboardInterrupt):
        write_market1501(tmp_path / "set", **SMALL)
    assert count == 7
    assert not list(tmp_path.iterdir())
