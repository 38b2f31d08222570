"""What names of pictures say."""

from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.data.names import CAMERA, DIVISIONS, GRAMMAR, PERSON, Said, describe, label, parse, time_in

NUMBERS = st.integers(0, 10**18 - 1)
TEXT = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=12)


@pytest.mark.parametrize(
    ("name", "kind", "identity", "camera"),
    [
        ("0002_c1s1_000451_03.jpg", "market1501", "2", 1),
        ("0002_c1s1_000451_03.JPG", "market1501", "2", 1),
        ("0002_c1s1_000451_03.jpg.jpg", "market1501", "2", 1),
        ("0002_C1S1_000451_03.png", "market1501", "2", 1),
        ("0000_c4s1_000451_03.jpg", "market1501", "0", 4),
        ("-1_c3s2_000451_03.jpg", "market1501", "-1", 3),
        ("0005_c2_f0046985.jpg", "dukemtmc", "5", 2),
        ("0000_000_01_0303morning_0015_0.jpg", "msmt17", "0", 1),
        ("0002_029_15_0303afternoon_1005_0_ex.jpg", "msmt17", "2", 15),
        ("1_001_2_06.png", "cuhk03", "1_001", 2),
        ("0065_c10_f0123.jpg", "person", "65", 10),
        ("0065_c9_f0046985.jpg", "person", "65", 9),
        ("0002_c10s1_000451_03.jpg", "person", "2", 10),
        ("0002_c002_00030600_0.jpg", "person", "2", 2),
        ("0003_c1_21.png", "person", "3", 1),
        ("0002_c1s1_000451_03 (1).jpg", "person", "2", 1),
        ("123456_c2.jpg", "person", "123456", 2),
        ("12_c1s1_001051.jpg", "person", "12", 1),
        ("-1_c3.jpg", "person", "-1", 3),
        ("12_anything.jpg", "camera", None, 12),
        ("c2_anything.jpg", "camera", None, 2),
        ("cam07_x y.jpg", "camera", None, 7),
        ("12_cat.jpg", "camera", None, 12),
        ("12_new\nline.jpg", "camera", None, 12),
        ("photo.jpg", None, None, None),
        ("IMG-2031.jpg", None, None, None),
        ("3.jpg", None, None, None),
        ("-1_photo.jpg", None, None, None),
        (" 3_photo.jpg", None, None, None),
        ("٣_photo.jpg", None, None, None),
        ("٠٠٠٢_c1s1_000451_03.jpg", None, None, None),
        (f"{10**18}_photo.jpg", None, None, None),
        ("", None, None, None),
    ],
)
def test_a_name_alone(name: str, kind: str | None, identity: str | None, camera: int | None) -> None:
    said = parse(name)
    assert (said.kind and said.kind.name, said.identity, said.camera) == (kind, identity, camera)


@pytest.mark.parametrize(
    ("name", "person", "camera"),
    [
        ("0046_c1s1_000451_03.jpg", "0046", 1),
        ("0046_c1s1_000451_03.jpg", "46", 1),
        ("0046_c1s1_000451_03.jpg", "anna", 1),
        ("0046_c1s1_000451_03.jpg", "0047", 1),
        ("-1_c3s2_000451_03.jpg", "anna", 3),
        ("0005_c2_f0046985.jpg", "anna", 2),
        ("0065_c10_f0123.jpg", "anna", 10),
        ("0000_000_01_0303morning_0015_0.jpg", "anna", 1),
        ("12_c1s1_001051.jpg", "anna", 12),
        ("12_c1s1_001051.jpg", "13", 12),
        ("12_c1s1_001051.jpg", "12", 1),
        ("12_c1s1_001051.jpg", "0012", 1),
        ("12_0046_c1s1_000451_03.jpg", "0046", 12),
        ("1_001_2_06.png", "1_001", 2),
        ("1_001_2_06.png", "anna", 1),
        ("c12_c1s1_001051.jpg", "anna", 12),
        ("7_0001.jpg", "0", 7),
        ("photo.jpg", "anna", None),
    ],
)
def test_the_camera_in_a_persons_folder(name: str, person: str, camera: int | None) -> None:
    said = parse(name, person)
    assert (said.identity, said.camera) == (label(person), camera)


@given(person=NUMBERS, camera=NUMBERS, rest=TEXT, wide=st.integers(0, 6))
def test_any_person_and_camera_come_back(person: int, camera: int, rest: str, wide: int) -> None:
    for ending in ("", f"_{rest}", f"s1_{rest}", ".jpg", f" {rest}.jpg"):
        said = parse(f"{person:0{wide}d}_c{camera:0{wide}d}{ending}")
        assert (said.identity, said.camera) == (str(person), camera)


@given(camera=NUMBERS, letters=st.text("abcxyzABCXYZ", max_size=4), rest=TEXT, person=TEXT)
def test_any_camera_comes_back_from_a_persons_folder(
    camera: int, letters: str, rest: str, person: str
) -> None:
    """As long as the rest does not begin like another camera behind a person's number."""
    name = f"{letters}{camera}_{rest}"
    said = parse(name, person)
    if said.kind is CAMERA:
        assert said.camera == camera
    else:
        assert said.kind is not None
        assert not letters
        assert len(str(camera)) >= 4 or label(person) in (str(camera), said.identity)
    assert said.identity == label(person)


@given(
    person=TEXT.filter(lambda text: text.lower() not in DIVISIONS and text not in ("", ".", "..")), name=TEXT
)
def test_the_folders_person_always_wins(person: str, name: str) -> None:
    names = [kind.example for kind in GRAMMAR] + [f"{name}.jpg", f"0007_c3_{name}.jpg", f"12_c1{name}.jpg"]
    for folder in ("", "train", "query", "gallery"):
        for each in names:
            said = describe(Path("/root", folder, person, each.replace("/", "_")), Path("/root"))
            assert said.identity == label(person) or said == Said()
            if parse(each, person).camera is not None:
                assert said.identity == label(person)


@given(name=TEXT, person=st.none() | TEXT)
def test_every_name_says_something_sound(name: str, person: str | None) -> None:
    said = parse(name, person)
    assert (said.camera is None) == (said.kind is None)
    assert said.camera is None or 0 <= said.camera < 2**63
    if person is not None:
        assert said.identity == label(person)
    elif said.identity is not None and said.kind is not None and said.kind.name != "cuhk03":
        assert -1 <= int(said.identity) < 2**63


@pytest.mark.parametrize(
    ("path", "identity", "camera"),
    [
        ("anna/12_c1s1_001051.jpg", "anna", 12),
        ("anna/0046_c1s1_000451_03.jpg", "anna", 1),
        ("train/anna/7_x.jpg", "anna", 7),
        ("Query/0046/0046_c1s1_000001_00.jpg", "46", 1),
        ("bounding_box_test/0046_c1s1_000001_00.jpg", "46", 1),
        ("bounding_box_test/anna/0046_c1s1_000001_00.jpg", "anna", 1),
        ("query/3_x.jpg", None, 3),
        ("0/3_x.jpg", "0", 3),
        ("-1/3_x.jpg", "-1", 3),
        ("anna/photo.jpg", None, None),
        ("0012/photo.jpg", "12", None),
        # Deeper down a folder whose name is a number is somebody's, unless names say otherwise.
        ("day/0012/3_x.jpg", "12", 3),
        ("day/13/12_c1s1_001051.jpg", "13", 12),
        ("day/2024/0046_c1s1_000451_03.jpg", "46", 1),
        ("day/anna/3_x.jpg", None, 3),
        ("images_labeled/1_001_2_06.png", "1_001", 2),
    ],
)
def test_folders_say_who(path: str, identity: str | None, camera: int | None) -> None:
    said = describe(Path("/root", path), Path("/root"))
    assert (said.identity, said.camera) == (identity, camera)


def test_a_picture_named_by_itself() -> None:
    assert describe(Path("/x/anna/12_c1s1_001051.jpg")).identity == "12"
    assert describe(Path("/x/0042/5_a.jpg")) == Said(CAMERA, "42", 5)
    assert describe(Path("/x/anna/0042_c5_a.jpg")) == Said(PERSON, "42", 5)


def test_the_documented_table_is_the_grammar() -> None:
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    table = text.partition("## Names")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| `")]
    assert [row[1].strip(" `") for row in rows] == [kind.example for kind in GRAMMAR]
    for row, kind in zip(rows, GRAMMAR):
        assert parse(kind.example).kind is kind
        said = parse(kind.example)
        who = "" if said.identity is None else f"person {said.identity}, "
        assert row[2].strip() == f"{who}camera {said.camera}"


NOON = datetime(2026, 3, 1, 12, 30, 15, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("name", "seconds", "rest"),
    [
        ("door_2026-03-01_12-30-15", 0, "door_"),
        ("door 2026-03-01 12.30.15 2", 0, "door  2"),
        ("2026-03-01T12:30:15Z", 0, ""),
        ("2026-03-01T14-30-15+0200_x", 0, "_x"),
        ("2026-03-01T07:30:15-05:00", 0, ""),
        ("20260301_123015", 0, ""),
        ("20260301123015", 0, ""),
        ("20260301123015250", 0.25, ""),
        ("PXL_20260301_123015250", 0.25, "PXL_"),
        ("2026-03-01_12-30-15.250_7", 0.25, "_7"),
        ("202603011230", -15, ""),
        ("ch1_1772368215", 0, "ch1_"),
        ("1772368215250", 0.25, ""),
    ],
)
def test_times_in_names(name: str, seconds: float, rest: str) -> None:
    found = time_in(name)
    assert found is not None
    assert found[0] == pytest.approx(NOON.timestamp() + seconds, abs=1e-3)
    assert found[1] == rest


@pytest.mark.parametrize(
    "name",
    [
        "",
        "door",
        "f_000123",
        "2026-03-01",
        "20260301",
        "2026-13-01_12-00-00",
        "2026-03-01_25-00-00",
        "0002_c1s1_000451_03",
    ],
)
def test_names_without_times(name: str) -> None:
    assert time_in(name) is None


@settings(max_examples=40)
@given(
    moment=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),
    before=st.sampled_from(["", "cam1_", "a b "]),
)
def test_any_time_in_usual_forms_is_read(moment: datetime, before: str) -> None:
    expected = moment.replace(microsecond=0, tzinfo=timezone.utc).timestamp()
    for form in (
        "%Y-%m-%d_%H-%M-%S",
        "%Y%m%dT%H%M%S",
        "%Y%m%d%H%M%S",
        "%Y.%m.%d-%H.%M.%S",
        "%Y-%m-%dT%H:%M:%SZ",
    ):
        found = time_in(f"{before}{moment:{form}}")
        assert found is not None
        assert found == (expected, before)
