"""Lists with random defects: nothing but `InputError` is raised, each record is accounted for, and what is
sound is read with exactly its values."""

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from kronreid.data.crops import find_boxes
from kronreid.data.lists import read_rows
from kronreid.data.manifest import Manifest
from kronreid.data.readers import read
from kronreid.errors import InputError
from kronreid.gallery import read_list

from ..miniatures import tree
from . import test_coco, test_mot

FILES = 40
#: A record is a triple: what stands in the file, its kind, and what is read where it is sound.
SOUND, BAD, OTHER = "sound", "bad", "other"
TEXTS = [
    "anna",
    "7",
    "a b",
    "Ünal",
    "x" * 200,
    "a,b",
    'say "x"',
    "two\nlines",
    "0",
    "-5",
    "1e3",
    "nan!",
    "ł;|",
]


def mixed(
    chance: random.Random, kinds: dict[str, Callable[[], tuple[Any, Any]]]
) -> list[tuple[Any, str, Any]]:
    """Records of all kinds in random order, at least half of them sound unless there is none."""
    weights = {SOUND: chance.choice([0, 1, 5]), BAD: chance.randint(0, 2), OTHER: chance.randint(0, 2)}
    found = []
    for kind in kinds:
        for _ in range(weights[kind] * chance.randint(1, 4)):
            text, value = kinds[kind]()
            found.append((text, kind, value))
    chance.shuffle(found)
    return found


def check(path: Path, records: list[tuple[Any, str, Any]], value: Callable[[Any], Any]) -> None:
    """Compare what is read with what was written, by the number of the record."""
    counts = {kind: sum(one == kind for _, one, _ in records) for kind in (SOUND, BAD, OTHER)}
    if not counts[SOUND]:
        with pytest.raises(InputError, match=path.name) as error:
            read_rows(path)
        assert "\n" not in str(error.value)
        return
    content = read_rows(path)
    expected = {number: one for number, (_, kind, one) in enumerate(records, start=1) if kind == SOUND}
    assert {row.number: value(row) for row in content.rows} == expected
    assert sorted(int(one.where.split()[1]) for one in content.skipped) == [
        number for number, (_, kind, _) in enumerate(records, start=1) if kind == BAD
    ]
    assert sum(content.left_out.values()) == counts[OTHER]
    assert all("\n" not in str(one) for one in content.skipped)
    use(path)


def use(path: Path) -> None:
    """Whatever uses a list: nothing but `InputError`, and names that a file can have."""
    consumers = (
        read_rows,
        read_list,
        read,
        lambda one: names_of(find_boxes([one]).rows, path.parent / "out"),
    )
    assert all("\n" not in message_of(consumer, path) for consumer in consumers)


def message_of(consumer: Callable[[Path], Any], path: Path) -> str:
    try:
        consumer(path)
    except InputError as error:
        return str(error)
    return ""


def names_of(rows: list[Any], out: Path) -> None:
    for name in Manifest(out).name(rows):
        parts = name.encode().decode().split("/")
        assert len(parts) <= 2
        assert all(part.strip(".") and len(part.encode()) < 255 and part.isprintable() for part in parts)


@pytest.mark.parametrize("seed", range(3))
def test_random_csv(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    header = ["path", "identity", "camera", "x", "y", "w", "h", "note"]

    def sound() -> tuple[list[str], Any]:
        box = [
            str(chance.randint(-9, 99)),
            str(chance.randint(-9, 99)),
            *map(str, chance.choices(range(1, 99), k=2)),
        ]
        box = chance.choice([box, [""] * 4])
        who, where, note = (chance.choice(["", *TEXTS]) for _ in range(3))
        name = f"{chance.choice(TEXTS)}.jpg"
        expected = (name, who or None, where or None, tuple(map(int, box)) if box[0] else None, note or None)
        return [name, who, where, *box, note], expected

    def bad() -> tuple[list[str], Any]:
        row, _ = sound()
        defects = [
            ["", *row[1:]],
            [*row, "more"],
            [*row[:3], "1", "2", "3", "", ""],
            [*row[:3], "1", "2", "0.2", "5", ""],
            [*row[:3], "1", "2", "nan", "5", ""],
            [*row[:3], "a", "b", "c", "d", ""],
            ["a\0.jpg", *row[1:]],
        ]
        return chance.choice(defects), None

    for number in range(FILES):
        records = mixed(chance, {SOUND: sound, BAD: bad})
        path = tmp_path / f"{seed}-{number}.csv"
        dialect = {"delimiter": chance.choice(",;\t|"), "lineterminator": chance.choice(["\n", "\r\n"])}
        text = io.StringIO(newline="")
        csv.writer(text, **dialect).writerows([header, *(row for row, *_ in records)])
        encoding = chance.choice(["utf-8", "utf-8-sig", "utf-16"])
        path.write_bytes(text.getvalue().encode(encoding))
        home = path.absolute().parent

        def value(row: Any, home: Path = home) -> Any:
            note = row.attributes.get("note")
            return str(row.path.relative_to(home)), row.identity, row.camera, row.box, note

        check(path, records, value)


@pytest.mark.parametrize("seed", range(3))
def test_random_csv_with_broken_lines(tmp_path: Path, seed: int) -> None:
    """Quotes that are not closed, and garbage: the other lines are read as they are."""
    chance = random.Random(seed)

    def sound() -> tuple[str, Any]:
        number = chance.randint(1, 999)
        return chance.choice([f'{number}.jpg,{number},"a ""b"""', f'"{number}.jpg","{number}",x']), str(
            number
        )

    def bad() -> tuple[str, Any]:
        return chance.choice(['"a.jpg,1,2', 'a.jpg,"1,2', 'a.jpg,1,"2', "a,b,c,d", ",,3", "\0,1,2"]), None

    for number in range(FILES):
        records = mixed(chance, {SOUND: sound, BAD: bad})
        path = tmp_path / f"{seed}-{number}.csv"
        path.write_text("\n".join(["path,identity,note", *(line for line, *_ in records)]))
        check(path, records, lambda row: row.identity)


@pytest.mark.parametrize("seed", range(3))
def test_random_coco(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    tree(tmp_path, "f.jpg", "g.jpg")
    images = [*test_coco.IMAGES, {"id": "six", "file_name": "g.jpg"}]
    categories = [*test_coco.CATEGORIES, {"id": 2, "name": "Pedestrian"}, {"id": 3, "name": "car"}]

    def sound() -> tuple[dict[str, Any], Any]:
        image, name = chance.choice([(1, "f.jpg"), ("1", "f.jpg"), ("six", "g.jpg"), (1.0, "f.jpg")])
        box = [chance.randint(-9, 99), chance.randint(-9, 99), chance.randint(1, 99), chance.randint(1, 99)]
        more = chance.choice(
            [{}, {"iscrowd": 0}, {"ignore": 0}, {"id": chance.randint(1, 9)}, {"score": None}]
        )
        track = chance.choice([{}, {"track_id": 4}, {"track_id": None}, {"instance_id": "x"}])
        who = next((f"/{one}" for one in track.values() if one is not None), None)
        record = {
            "image_id": image,
            "category_id": chance.choice([1, 2, "2", 1.0]),
            "bbox": box,
            **more,
            **track,
        }
        return record, (name, tuple(box), who)

    def other() -> tuple[dict[str, Any], Any]:
        record, _ = sound()
        return {
            **record,
            **chance.choice([{"category_id": 3, "bbox": None}, {"iscrowd": 1}, {"ignore": 1}]),
        }, None

    for number in range(FILES):
        records = mixed(
            chance, {SOUND: sound, BAD: lambda: (chance.choice(test_coco.BAD)[0], None), OTHER: other}
        )
        path = tmp_path / f"{seed}-{number}.json"
        content = {"images": images, "categories": categories, "annotations": [one for one, *_ in records]}
        path.write_text(json.dumps(content))
        stem = path.stem
        check(
            path,
            records,
            lambda row, stem=stem: (
                row.path.name,
                row.box,
                row.identity and row.identity.removeprefix(stem),
            ),
        )


@pytest.mark.parametrize("seed", range(3))
def test_random_mot(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    tree(tmp_path, *(f"S/img1/{frame:06d}.jpg" for frame in range(1, 6)), "S/gt/")

    def line(*values: Any) -> str:
        separator = chance.choice([",", ", ", " ", ";"])
        return separator.join(map(str, values)) + chance.choice(["", separator.rstrip()])

    def place() -> list[int]:
        return [chance.randint(1, 5), chance.randint(0, 9), *chance.choices(range(1, 99), k=4)]

    def sound() -> tuple[str, Any]:
        frame, track, x, y, w, h = place()
        seen = chance.choice([0, 0.25, 1])
        shown = [f"{frame}.0", track] if chance.random() < 0.2 else [frame, track]
        return line(*shown, x, y, w, h, 1, 1, seen), (frame, f"S/{track}", (x - 1, y - 1, w, h), seen)

    def other() -> tuple[str, Any]:
        return line(*place(), *chance.choice([(0, 1, 1), (1, 3, 1), (1, 13, 0.5), (0, 7, 1)])), None

    for number in range(FILES):
        records = mixed(
            chance, {SOUND: sound, BAD: lambda: (chance.choice(test_mot.BAD)[0], None), OTHER: other}
        )
        path = tmp_path / "S" / "gt" / f"gt{seed}-{number}.txt"
        path.write_text(
            chance.choice(["\n", "\r\n"]).join([text for text, *_ in records]) + chance.choice(["", "\n\n"])
        )
        check(path, records, lambda row: (row.attributes["frame"], row.identity, row.box, row.visibility))


def samples(root: Path) -> dict[str, bytes]:
    """A sound file of each kind."""
    tree(root, "f.jpg", "S/img1/000001.jpg", "S/gt/")
    table = {
        "path": ["f.jpg"] * 3,
        "identity": ["a", "b", None],
        "camera": [1.0, float("nan"), 2.0],
        "w": [1, 2, 3],
    }
    parquet.write_table(pyarrow.table(table), root / "x.parquet")
    content = test_coco.coco(root, [test_coco.box(n, track_id=n) for n in range(3)]).read_bytes()
    return {
        "x.parquet": (root / "x.parquet").read_bytes(),
        "x.json": content,
        "x.csv": b'path,identity,camera,box,split,attributes\nf.jpg,1,door,"1,2,3,4",train,"{""a"": 1}"\n'
        * 2,
        "S/gt/gt.txt": b"1,5,10,20,30,60,1,1,0.5\n" * 4,
        "S/seqinfo.ini": b"[Sequence]\nimDir=img1\nimExt=.jpg\n",
    }


@pytest.mark.parametrize("name", ["x.parquet", "x.json", "x.csv", "S/gt/gt.txt", "S/seqinfo.ini"])
def test_randomly_damaged_bytes(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    for file, content in samples(tmp_path).items():
        (tmp_path / file).write_bytes(content)
    whole = (tmp_path / name).read_bytes()
    path = tmp_path / name.replace("seqinfo.ini", "gt/gt.txt")
    for _ in range(FILES):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            start = chance.randrange(len(content) + 1)
            end = min(len(content), start + chance.choice([0, 0, 1, 1, 5, 100]))
            new = chance.choice(
                [
                    b"",
                    chance.randbytes(3),
                    b'"',
                    b"\0",
                    b",",
                    b"\n",
                    b"9" * 30,
                    "ł\ud800".encode("utf-8", "surrogatepass"),
                    content[:9],
                ]
            )
            content[start:end] = new
        (tmp_path / name).write_bytes(content)
        use(path)
