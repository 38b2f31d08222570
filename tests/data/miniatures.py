"""Miniature copies of the data sets as their owners distribute them, with small pictures."""

import colorsys
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"


def pixels(*numbers: int) -> np.ndarray:
    """(H, W, 3) uint8; colour and size are a function of the numbers."""
    random = np.random.default_rng([abs(number) + 1 for number in numbers])
    hue = (31 * numbers[0] % 97) / 97
    colour = np.array(colorsys.hsv_to_rgb(hue, 1.0, 0.8)) * 255
    noise = random.integers(-20, 21, (int(random.integers(30, 40)), int(random.integers(12, 20)), 3))
    return (colour + noise).clip(0, 255).astype(np.uint8)


def picture(path: Path, *numbers: int) -> Path:
    """Write one; JPEG or PNG by the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(*numbers)).save(path)
    return path


def tree(root: Path, *names: str) -> Path:
    """A folder with empty files of these names; a name that ends in a slash is an empty folder."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def market(root: Path) -> Path:
    """Market-1501 with gt_bbox and the folder that distractors_500k.zip unpacks to."""
    names = (
        f"{TRAIN}/0002_c1s1_000451_03.jpg",
        f"{TRAIN}/0002_c3s1_000451_01.jpg",
        f"{TRAIN}/0007_c6s2_000451_01.jpg",
        f"{TRAIN}/0007_c2s2_000451_01.jpg",
        f"{QUERY}/0001_c1s1_001051_00.jpg",
        f"{QUERY}/0003_c2s1_001051_00.jpg",
        f"{GALLERY}/0001_c2s1_001051_01.jpg",
        f"{GALLERY}/0001_c1s1_001051_02.jpg",
        f"{GALLERY}/0003_c1s1_001051_01.jpg",
        f"{GALLERY}/0000_c1s1_000151_01.jpg",
        f"{GALLERY}/-1_c5s1_000401_03.jpg",
        "gt_bbox/0001_c1s1_001051_00.jpg",
        "gt_bbox/0001_c1s1_001076_00.jpg",
        "gt_bbox/0001_c2s1_001051_00.jpg",
        "gt_bbox/0002_c1s1_000451_00.jpg",
        "images/0000_c3s1_000001_00.jpg",
        "images/0000_c4s1_000002_00.jpg",
    )
    for number, name in enumerate(names):
        picture(root / name, int(Path(name).name.split("_")[0]), number)
    return root


def duke(root: Path) -> Path:
    """DukeMTMC-reID."""
    names = (
        f"{TRAIN}/0001_c2_f0046182.jpg",
        f"{TRAIN}/0001_c5_f0046302.jpg",
        f"{TRAIN}/0004_c1_f0046182.jpg",
        f"{TRAIN}/0004_c8_f0046302.jpg",
        f"{QUERY}/0005_c2_f0046985.jpg",
        f"{GALLERY}/0005_c5_f0051341.jpg",
        f"{GALLERY}/0005_c2_f0047105.jpg",
        f"{GALLERY}/4700_c6_f0101010.jpg",
    )
    for number, name in enumerate(names):
        picture(root / name, int(Path(name).name[:4]), number)
    return root


MSMT17_LISTS = {
    "train": ["0000/0000_000_01_0303morning_0015_0.jpg 0", "0001/0001_000_05_0303noon_0030_1.jpg 1"],
    "val": ["0000/0000_001_14_0303noon_0020_2.jpg 0", "0001/0001_001_07_0303noon_0031_0_ex.jpg 1"],
    "query": ["0000/0000_000_02_0303morning_0100_0.jpg 0", "0001/0001_000_03_0303morning_0100_0.jpg 1"],
    "gallery": [
        "0000/0000_001_03_0303morning_0101_0.jpg 0",
        "0000/0000_002_02_0303morning_0102_0.jpg 0",
        "0001/0001_001_15_0303afternoon_0103_0.jpg 1",
        "0002/0002_001_15_0303afternoon_0103_0.jpg 2",
    ],
}


def msmt17(root: Path, version: int = 1) -> Path:
    """MSMT17, version 1 or 2."""
    folders = ("train", "test") if version == 1 else ("mask_train_v2", "mask_test_v2")
    root.mkdir(parents=True, exist_ok=True)
    for part, lines in MSMT17_LISTS.items():
        (root / f"list_{part}.txt").write_text("".join(f"{line}\n" for line in lines))
        folder = root / folders[part in ("query", "gallery")]
        for number, line in enumerate(lines):
            name = line.split()[0]
            picture(folder / name, int(name[:4]) + 100 * (part in ("query", "gallery")), number)
    return root


#: How many people each of CUHK03's five pairs of cameras has here.
CUHK03_PEOPLE = (5, 3, 2, 1, 1)
#: (kind, pair, person, camera) without any picture.
CUHK03_EMPTY = {("detected", 1, 2, 2), ("labeled", 5, 1, 1), ("detected", 5, 1, 1)}
CUHK03_TEST = [[(1, 1), (2, 3)], [(1, 2), (3, 1)], [(1, 4), (1, 5)]]


def cuhk03_columns(kind: str, pair: int, person: int) -> list[int]:
    """The columns, from 1, of a person's pictures: one to five in each camera, with a gap now and then."""
    columns = []
    for camera in (1, 2):
        if (kind, pair, person, camera) not in CUHK03_EMPTY:
            first = 5 * (camera - 1) + 1
            columns += [first, first + 2] if person % 2 else [first, first + 1, first + 4]
    return columns


def cuhk03_pixels(kind: str, pair: int, person: int, column: int) -> np.ndarray:
    """(H, W, 3) of one picture."""
    return pixels(10 * pair + person, pair, column, kind == "labeled")


def cuhk03_mat(path: Path, people: Iterable[int] = CUHK03_PEOPLE) -> Path:
    """``cuhk-03.mat`` as MATLAB 7.3 writes it: a header of 512 bytes, cells as references into ``#refs#``,
    all arrays turned around, empty cells as their size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        heap = file.create_group("#refs#")

        def cell(rows: list[list[h5py.Reference]], place: h5py.Group, name: str) -> h5py.Reference:
            values = np.array(rows, dtype=h5py.ref_dtype).reshape(len(rows), -1).T
            made = place.create_dataset(name, data=values, dtype=h5py.ref_dtype)
            made.attrs["MATLAB_class"] = np.bytes_("cell")
            return made.ref

        def array(values: np.ndarray, matlab_class: str) -> h5py.Reference:
            chunks = {"chunks": values.T.shape, "compression": "gzip"} if values.ndim == 3 else {}
            made = heap.create_dataset(f"a{len(heap)}", data=values.T, **chunks)
            made.attrs["MATLAB_class"] = np.bytes_(matlab_class)
            return made.ref

        nothing = heap.create_dataset("empty", data=np.zeros(2, np.uint64))
        nothing.attrs["MATLAB_class"] = np.bytes_("double")
        nothing.attrs["MATLAB_empty"] = np.uint8(1)
        for kind in ("detected", "labeled"):
            pairs = []
            for pair, count in enumerate(people, start=1):
                rows = []
                for person in range(1, count + 1):
                    there = cuhk03_columns(kind, pair, person)
                    rows.append(
                        [
                            array(cuhk03_pixels(kind, pair, person, column), "uint8")
                            if column in there
                            else nothing.ref
                            for column in range(1, 11)
                        ]
                    )
                pairs.append([cell(rows, heap, f"c{kind}{pair}")])
            cell(pairs, file, kind)
        tests = [[array(np.array(one, np.float64), "double")] for one in CUHK03_TEST]
        cell(tests, file, "testsets")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return path


def cuhk03_protocol(path: Path, kind: str) -> Path:
    """The new protocol's file: pair 1 trains, of the others the first picture of each camera asks."""
    rows = [
        (
            f"{pair}_{person:03d}_{1 if column < 6 else 2}_{column:02d}.png",
            sum(CUHK03_PEOPLE[: pair - 1]) + person,
        )
        for pair, count in enumerate(CUHK03_PEOPLE, start=1)
        for person in range(1, count + 1)
        for column in cuhk03_columns(kind, pair, person)
    ]
    cameras = [int(name[6]) for name, _ in rows]
    train = [row for row, (name, _) in enumerate(rows, start=1) if name[0] == "1"]
    query = [
        row for row, (name, _) in enumerate(rows, start=1) if name[0] != "1" and name[8:10] in ("01", "06")
    ]
    gallery = sorted(set(range(1, len(rows) + 1)) - set(train) - set(query))
    files = np.empty((len(rows), 1), object)
    files[:, 0] = [name for name, _ in rows]
    content = {
        "filelist": files,
        "labels": np.array([[label] for _, label in rows], np.uint16),
        "camId": np.array([[camera] for camera in cameras], np.uint8),
        **{
            f"{name}_idx": np.array([[row] for row in part], np.uint16)
            for name, part in (("train", train), ("query", query), ("gallery", gallery))
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, content)
    return path


def cuhk03(root: Path) -> Path:
    """Everything of CUHK03, unpacked as the archives are; its pictures not extracted."""
    cuhk03_mat(root / "cuhk03_release" / "cuhk-03.mat")
    for kind in ("labeled", "detected"):
        cuhk03_protocol(root / f"cuhk03_new_protocol_config_{kind}.mat", kind)
    return root


def people_list(path: Path) -> Path:
    """A CSV list with boxes in two frames: ann, bob and cleo in two cameras, zoe and yan to train on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["path,identity,camera,split,x,y,w,h"]
    for camera, name in enumerate(("north", "south")):
        frame = np.zeros((60, 140, 3), np.uint8)
        for place, (who, split) in enumerate(
            (("zoe", "train"), ("yan", "train"), ("ann", "test"), ("bob", "test"), ("cleo", "test"))
        ):
            frame[5:45, 25 * place : 25 * place + 20] = 40 * place + 60
            part = split if split == "train" else ("query", "gallery")[camera]
            lines.append(f"frames/{name}.png,{who},{name},{part},{25 * place},5,20,40")
        file = path.parent / "frames" / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(frame).save(file)
    path.write_text("\n".join(lines) + "\n")
    return path
