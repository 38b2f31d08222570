"""Extracting the pictures of ``cuhk-03.mat``.

MATLAB wrote the file as HDF5 (version 7.3), which reverses the axes of every array: a cell array of 843 × 10
is a data set of 10 × 843 references, and a picture of H × W × 3 is a data set of 3 × W × H. ``labeled`` and
``detected`` refer to one cell array for each of five pairs of cameras. A row is a person; columns 1 to 5 are
from one camera, 6 to 10 from the other; a missing picture is an empty cell. ``testsets`` refers to 20 lists
of test people, as (pair, person) from 1.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from kronreid.data.files import writing, written_whole
from kronreid.errors import InputError, one_line
from kronreid.extras import explained

MAT = "cuhk-03.mat"
#: Holds the rest of the needed content. It is written last, so it shows that all pictures are there.
SPLITS = "cuhk03_splits.json"
KINDS = ("labeled", "detected")
CELLS = (*KINDS, "testsets")
VIEW = 5  # columns per camera


def picture_folder(root: Path, kind: str) -> Path:
    """The folder of the pictures of one kind."""
    return root / f"images_{kind}"


@dataclass(frozen=True)
class Splits:
    """CUHK03 without its pictures.

    Attributes:
        people: Number of people of each pair of cameras.
        pictures: Number of pictures of each kind.
        test: The test people of each split, as (pair, person) from 1.
    """

    people: list[int]
    pictures: dict[str, int]
    test: list[list[tuple[int, int]]]

    @classmethod
    def read(cls, path: Path) -> "Splits":
        """Read the file that `extract` wrote.

        Raises:
            InputError: The file is damaged.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            test = [[(int(pair), int(person)) for pair, person in one] for one in content["test"]]
            pictures = {kind: int(content["pictures"][kind]) for kind in KINDS}
            return cls([int(count) for count in content["people"]], pictures, test)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                path,
                f"is damaged ({type(error).__name__}: {error}); remove it and run kronreid data extract "
                f"{path.parent}",
            ) from None


@dataclass
class Extraction:
    """The result of an extraction.

    Attributes:
        written: Number of pictures written now.
        existing: Number of pictures that existed before.
    """

    written: int = 0
    existing: int = 0


def extract(mat: Path, out: Path, progress: bool = True) -> Extraction:
    """Write every picture of ``cuhk-03.mat`` to ``out/images_labeled`` and ``out/images_detected``.

    It can be interrupted and run again: files are written completely or not at all, and existing files are
    not written again. There are 28,193 pictures.

    Args:
        mat: The file.
        out: The output folder.
        progress: Show a progress bar on a terminal.

    Raises:
        InputError: It is another file, it is truncated or damaged, or the output cannot be written.
    """
    with explained(str(mat)):
        import h5py  # type: ignore[import-untyped]

    result = Extraction()
    counts = dict.fromkeys(KINDS, 0)
    for kind in KINDS:
        folder = picture_folder(out, kind)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    with _errors_of(mat), h5py.File(mat, "r") as file:
        tables = {kind: [file[pair] for pair in _references(file, mat, kind)] for kind in KINDS}
        people = [table.shape[1] for table in tables["labeled"]]
        if [table.shape[1] for table in tables["detected"]] != people:
            raise InputError(mat, "labeled and detected do not show the same people; is it another file?")
        test = [file[one][()].T.astype(int).tolist() for one in _references(file, mat, "testsets")]
        _check_test_people(mat, test, people)
        with tqdm(
            total=2 * sum(people), unit=" people", desc=mat.name, disable=None if progress else True
        ) as bar:
            for kind, pair, person, cells in _people(tables):
                for column, cell in enumerate(cells, start=1):
                    data = file[cell]
                    if data.ndim != 3:  # the cell is empty
                        continue
                    counts[kind] += 1
                    name = f"{pair}_{person:03d}_{1 if column <= VIEW else 2}_{column:02d}.png"
                    path = picture_folder(out, kind) / name
                    if path.is_file():
                        result.existing += 1
                    else:
                        _save(data[()].T, path)
                        result.written += 1
                bar.update()
    splits = json.dumps(asdict(Splits(people, counts, test)))
    with written_whole(out / SPLITS) as new:
        new.write_text(splits, encoding="utf-8")
    return result


def _references(file: Any, mat: Path, name: str) -> np.ndarray:
    """The references in a cell array of one row or one column."""
    import h5py

    if name not in file or h5py.check_ref_dtype(getattr(file[name], "dtype", None)) is None:
        found = ", ".join(key for key in file if not key.startswith("#")) or "nothing"
        raise InputError(mat, f"has no cell array {name}, found {found}; expected {', '.join(CELLS)}")
    return file[name][()].reshape(-1)


def _people(tables: dict[str, list[Any]]) -> Iterator[tuple[str, int, int, np.ndarray]]:
    """Yield (kind, pair, person, references to the pictures) of all people; pair and person from 1."""
    for kind, pairs in tables.items():
        for pair, table in enumerate(pairs, start=1):
            for person, cells in enumerate(table[()].T, start=1):
                yield kind, pair, person, cells


def _check_test_people(mat: Path, test: list[list[list[int]]], people: list[int]) -> None:
    for number, one in enumerate(test):
        for pair, person in one:
            if not (1 <= pair <= len(people) and 1 <= person <= people[pair - 1]):
                raise InputError(
                    mat,
                    f"test set {number} names person {person} of camera pair {pair}, but the pairs have "
                    f"{', '.join(map(str, people))} people",
                )


def _save(pixels: np.ndarray, path: Path) -> None:
    """Write (H, W, 3) uint8."""
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        raise InputError(path.name, f"is {pixels.dtype} {pixels.shape} in {MAT}, but must be uint8 (H, W, 3)")
    image = Image.fromarray(np.ascontiguousarray(pixels))
    with written_whole(path) as new:
        image.save(new, format="PNG")


@contextmanager
def _errors_of(mat: Path) -> Iterator[None]:
    """Turn the many errors of HDF5 into one line."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(mat, "no such file") from None
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        what = one_line(error)
        raise InputError(
            mat,
            f"cannot be read as MATLAB's HDF5 ({what}); is it truncated, or another file? Unpack "
            "cuhk03_release.zip again",
        ) from None
