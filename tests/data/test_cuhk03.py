"""CUHK03: extraction from the original file and both ways to divide it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from kronreid.data.extract import SPLITS, Splits, extract
from kronreid.data.readers import read
from kronreid.data.records import Picture, identities
from kronreid.errors import InputError

from .miniatures import CUHK03_PEOPLE, CUHK03_TEST, cuhk03, cuhk03_columns, cuhk03_mat, cuhk03_pixels

MAT = "cuhk03_release/cuhk-03.mat"


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything of a small CUHK03, extracted. Not to be changed."""
    root = cuhk03(tmp_path_factory.mktemp("data") / "cuhk03")
    extract(root / MAT, root, progress=False)
    return root


def expected(kind: str) -> dict[str, np.ndarray]:
    return {
        f"{pair}_{person:03d}_{1 if column < 6 else 2}_{column:02d}.png": cuhk03_pixels(
            kind, pair, person, column
        )
        for pair, count in enumerate(CUHK03_PEOPLE, start=1)
        for person in range(1, count + 1)
        for column in cuhk03_columns(kind, pair, person)
    }


@pytest.mark.parametrize("kind", ["labeled", "detected"])
def test_extraction_writes_every_picture_upright_under_the_new_protocols_name(
    extracted: Path, kind: str
) -> None:
    wanted = expected(kind)
    folder = extracted / f"images_{kind}"
    assert sorted(path.name for path in folder.iterdir()) == sorted(wanted)
    for name, pixels in wanted.items():
        with Image.open(folder / name) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)
    names = [
        str(row[0][0]) for row in loadmat(extracted / f"cuhk03_new_protocol_config_{kind}.mat")["filelist"]
    ]
    assert set(names) == set(wanted)
    splits = Splits.read(extracted / SPLITS)
    assert splits.test == CUHK03_TEST
    assert splits.people == list(CUHK03_PEOPLE)
    assert splits.pictures[kind] == len(wanted)


def test_extraction_goes_on_where_it_was_killed(
    tmp_path: Path, running: Callable[..., AbstractContextManager[subprocess.Popen]]
) -> None:
    mat = cuhk03_mat(tmp_path / "cuhk-03.mat", people=(40, 10, 1, 1, 1))
    code = "import sys; from pathlib import Path; from kronreid.data.extract import extract\n"
    code += "extract(Path(sys.argv[1]), Path(sys.argv[2]), progress=False)"
    out = tmp_path / "out"
    seen = 0
    for more in (1, 40, 90):
        with running([sys.executable, "-c", code, str(mat), str(out)]) as process:
            while process.poll() is None and len(list(out.glob("*/[1-9]*.png"))) < seen + more:
                time.sleep(0.002)
        assert not (out / SPLITS).exists(), "killed before the end"
        pictures = list(out.glob("*/[1-9]*.png"))
        for path in pictures:
            with Image.open(path) as image:
                image.load()  # whole
        assert len(pictures) >= seen + more, "goes on, does not start anew"
        seen = len(pictures)
    with pytest.raises(InputError, match="kronreid data extract"):
        read(out.parent, "cuhk03-labeled")
    done = extract(mat, out, progress=False)
    assert done.existing == seen
    whole = extract(mat, tmp_path / "whole", progress=False)
    assert done.written + done.existing == whole.written
    files = {
        path.relative_to(tmp_path / "whole"): path.read_bytes() for path in (tmp_path / "whole").rglob("*.*")
    }
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")} == files


def test_classic_splits(extracted: Path) -> None:
    data = read(extracted, "cuhk03-labeled", split=1)
    assert (data.name, data.protocol) == ("cuhk03-labeled", "cuhk03-classic")
    assert data.query == data.gallery
    # People are numbered through the pairs: (1, 2) is 2, (3, 1) comes after 5 + 3 people.
    assert identities(data.query) == [2, 9]
    assert sorted([*identities(data.train), 2, 9]) == list(range(1, sum(CUHK03_PEOPLE) + 1))
    folder = extracted / "images_labeled"
    assert [p for p in data.query if p.identity == 9] == [
        Picture(folder / "3_001_1_01.png", 9, 1),
        Picture(folder / "3_001_1_03.png", 9, 1),
        Picture(folder / "3_001_2_06.png", 9, 2),
        Picture(folder / "3_001_2_08.png", 9, 2),
    ]
    detected = read(extracted, "cuhk03-detected", split=1)
    assert {p.camera for p in detected.query if p.identity == 2} == {1}, "no picture from its other camera"
    assert 12 in identities(read(extracted, "cuhk03-detected").train)
    assert identities(read(extracted, "cuhk03-detected").query) == [1, 8]


@pytest.mark.parametrize("kind", ["labeled", "detected"])
def test_new_protocol(extracted: Path, kind: str) -> None:
    data = read(extracted, f"cuhk03-np-{kind}")
    assert (data.name, data.protocol) == (f"cuhk03-np-{kind}", "cuhk03-np")
    assert identities(data.train) == [1, 2, 3, 4, 5]
    assert Picture(extracted / f"images_{kind}" / "2_001_1_01.png", 6, 1) in data.query
    assert {p.path.name[8:10] for p in data.query} == {"01", "06"}
    assert len({p.path for p in (*data.train, *data.query, *data.gallery)}) == len(expected(kind))
    classic = read(extracted, f"cuhk03-{kind}")
    number = {p.path: (p.identity, p.camera) for p in (*classic.train, *classic.query)}
    assert {p.path: (p.identity, p.camera) for p in (*data.train, *data.query, *data.gallery)} == number


def refusal(root: Path, layout: str, split: int = 0) -> str:
    with pytest.raises(InputError) as caught:
        read(root, layout, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reading_refuses_what_is_not_complete(extracted: Path, tmp_path: Path) -> None:
    root = cuhk03(tmp_path)
    for layout in ("cuhk03-labeled", "cuhk03-np-labeled"):
        assert f"kronreid data extract {root}" in refusal(root, layout)
    (tmp_path / "elsewhere" / "images_labeled").mkdir(parents=True)
    assert "neither cuhk-03.mat nor cuhk03_splits.json" in refusal(tmp_path / "elsewhere", "cuhk03-labeled")
    extract(root / MAT, root, progress=False)
    (root / "images_labeled" / "1_001_1_01.png").unlink()
    wanted = len(expected("labeled"))
    assert f"{wanted - 1} pictures found, {wanted} expected" in refusal(root, "cuhk03-labeled")
    assert "1 of the" in refusal(root, "cuhk03-np-labeled")
    assert "first 1_001_1_01.png" in refusal(root, "cuhk03-np-labeled")
    assert "--split 3" in refusal(root, "cuhk03-detected", 3)
    assert "--split -1" in refusal(root, "cuhk03-detected", -1)
    (root / SPLITS).write_text('{"people": [5]}')
    assert f"{root / SPLITS}: is damaged" in refusal(root, "cuhk03-detected")
    (root / "cuhk03_new_protocol_config_detected.mat").unlink()
    assert "no cuhk03_new_protocol_config_detected.mat" in refusal(root, "cuhk03-np-detected")


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("train_idx", None, "no train_idx in it, found "),
        ("labels", lambda rows: rows[:2], "2 labels"),
        ("query_idx", lambda rows: rows + 9000, "query_idx counts from 1"),
        ("query_idx", lambda rows: rows * 0, "query_idx counts from 1"),
        ("filelist", lambda rows: np.full_like(rows, "0005_c2_f0046985.jpg"), "a name like 1_001_1_01.png"),
        ("camId", lambda rows: 3 - rows, "file 1: label 1 and camera 2 contradict its name 1_001_1_01.png"),
        ("labels", lambda rows: np.roll(rows, 1), "contradict its name"),
    ],
)
def test_another_file_in_the_new_protocols_place(
    extracted: Path,
    tmp_path: Path,
    column: str,
    change: Callable[[np.ndarray], np.ndarray] | None,
    message: str,
) -> None:
    name = "cuhk03_new_protocol_config_labeled.mat"
    content = {key: value for key, value in loadmat(extracted / name).items() if not key.startswith("__")}
    if change is None:
        del content[column]
    else:
        content[column] = change(content[column].astype(object if column == "filelist" else int))
    savemat(tmp_path / name, content)
    (tmp_path / "images_labeled").symlink_to(extracted / "images_labeled")
    assert message in refusal(tmp_path, "cuhk03-np-labeled")


def test_a_damaged_file_of_the_new_protocol(tmp_path: Path) -> None:
    (tmp_path / "cuhk03_new_protocol_config_labeled.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    assert "not a MATLAB file that can be read" in refusal(tmp_path, "cuhk03-np-labeled")


def test_extraction_refuses_what_is_not_the_file(tmp_path: Path) -> None:
    def refused(mat: Path) -> str:
        with pytest.raises(InputError) as caught:
            extract(mat, tmp_path / "out", progress=False)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    whole = cuhk03_mat(tmp_path / "cuhk-03.mat")
    content = whole.read_bytes()
    cut = tmp_path / "cut.mat"
    for length in (0, 100, 700, len(content) // 2, len(content) - 1):
        cut.write_bytes(content[:length])
        assert f"{cut}: cannot be read as MATLAB's HDF5" in refused(cut)
    savemat(cut, {"labels": np.zeros(3)})  # MATLAB's older format
    assert "truncated, or another file?" in refused(cut)
    with h5py.File(cut, "w") as file:
        file["testsets"] = np.zeros(3)
        file["frames"] = np.zeros(3)
    assert (
        "has no cell array labeled, found frames, testsets; expected labeled, detected, testsets"
        in refused(cut)
    )
    assert "no such file" in refused(tmp_path / "none.mat")
    with h5py.File(whole, "r+") as file:
        file[file["testsets"][0, 1]][0, 0] = 7
    assert "test set 1 names person 2 of camera pair 7, but the pairs have 5, 3, 2, 1, 1" in refused(whole)


def test_a_damaged_picture_names_the_file(tmp_path: Path) -> None:
    mat = cuhk03_mat(tmp_path / "cuhk-03.mat")
    content = bytearray(mat.read_bytes())
    with h5py.File(mat) as file:
        place = file[file[file["detected"][0, 0]][0, 0]].id.get_chunk_info(0).byte_offset
    start = place if content[place : place + 1] == b"x" else place + 512  # counted with or without the header
    content[start : start + 40] = bytes(40)
    mat.write_bytes(content)
    with pytest.raises(InputError, match=r"cuhk-03\.mat: cannot be read"):
        extract(mat, tmp_path, progress=False)
    assert not (tmp_path / SPLITS).exists()


def test_the_folder_cannot_be_written(tmp_path: Path) -> None:
    mat = cuhk03_mat(tmp_path / "cuhk-03.mat")
    (tmp_path / "images_labeled").touch()
    with pytest.raises(InputError, match=r"images_labeled: cannot be written"):
        extract(mat, tmp_path, progress=False)


@pytest.mark.parametrize(
    ("kind", "counts"), [("labeled", (7368, 1400, 5328)), ("detected", (7365, 1400, 5332))]
)
def test_official_lists(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, counts: tuple[int, int, int]
) -> None:
    """The owners' own file, without pictures; people are numbered as in the original division."""
    folder = shared / "data" / "cuhk03_np"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    name = f"cuhk03_new_protocol_config_{kind}.mat"
    (tmp_path / name).symlink_to(folder / name)
    names = [str(row[0][0]) for row in loadmat(folder / name)["filelist"]]
    monkeypatch.setattr("kronreid.data.readers.cuhk03._names", lambda folder: sorted(names))
    data = read(tmp_path)
    assert (len(data.train), len(data.query), len(data.gallery)) == counts
    assert (len(identities(data.train)), len(identities(data.query))) == (767, 700)
    people = [843, 440, 77, 58, 49]
    (tmp_path / SPLITS).write_text(
        json.dumps(
            {"people": people, "pictures": {"labeled": len(names), "detected": len(names)}, "test": [[]]}
        )
    )
    classic = read(tmp_path, f"cuhk03-{kind}")
    number = {p.path: (p.identity, p.camera) for p in classic.train}
    assert {p.path: (p.identity, p.camera) for p in (*data.train, *data.query, *data.gallery)} == number
