"""The people of a gallery: grouped from tracklets, corrected by hand, and forgotten."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from kronreid.cli import main
from kronreid.errors import InputError
from kronreid.gallery import Entry, Gallery, Selection
from kronreid.gallery.people import NoSuch, Overtaken, People, group, journal_file, people_of
from kronreid.gallery.tracklets import Tracklet, Tracklets

from .conftest import ColourEmbedder, Place, paint


def unit(*numbers: float) -> np.ndarray:
    vector = np.zeros(64, np.float32)
    vector[: len(numbers)] = numbers
    return vector / np.linalg.norm(vector)


def tracklet(
    number: int, vector: np.ndarray, camera: str, start: float, pictures: tuple[str, ...] = ()
) -> Tracklet:
    return Tracklet(
        f"{number:064x}",
        camera,
        "street",
        start,
        start + 10,
        vector,
        pictures,
        Path("/x.jpg"),
        np.zeros((0, 5)),
    )


ADA, EVE, NEAR_ADA = unit(1, 0.1), unit(0, 1), unit(1, 0.3)
#: By person: Ada in two cameras, Eve in two, and somebody like Ada who is there at the same time.
STREET = [
    tracklet(1, ADA, "gate", 0),
    tracklet(2, EVE, "gate", 5),
    tracklet(3, NEAR_ADA, "yard", 30),
    tracklet(4, EVE, "yard", 40),
    tracklet(5, ADA, "yard", 35),
]


@dataclass
class Street:
    """A gallery of two cameras."""

    gallery: Gallery
    tracklets: Tracklets

    def ids(self, *numbers: int) -> set[str]:
        return {f"{number:064x}" for number in numbers}

    def people(self) -> set[frozenset[int]]:
        """Which tracklets are one person, by their numbers."""
        found: dict[int, set[int]] = {}
        for id, person in people_of(self.gallery).items():
            found.setdefault(person, set()).add(int(id, 16))
        return {frozenset(members) for members in found.values()}


def open_street(place: Place, folder: Path) -> Street:
    picture = paint(folder / "crops" / "1.png", 1)
    state = folder / "state" if "://" in place.uri else None
    gallery = place.open(ColourEmbedder(), state=state)
    gallery.add([picture], progress=False)
    tracklets = Tracklets(**gallery.place)
    tracklets.upsert(STREET)
    return Street(gallery, tracklets)


@pytest.fixture
def street(tmp_path):
    street = open_street(Place(str(tmp_path / "people.gallery")), tmp_path)
    yield street
    street.tracklets.close()
    street.gallery.close()


def test_tracklets_are_joined_across_cameras_and_stay(place, tmp_path) -> None:
    street = open_street(place, tmp_path)
    report = group(street.gallery, min_similarity=0.9)
    assert street.people() == {frozenset({1, 5}), frozenset({2, 4}), frozenset({3})}
    assert (report.tracklets, report.grouped, report.new_people, report.people) == (5, 5, 3, 3)
    assert report.refused >= 1
    assert report.limit.similarity == 0.9
    numbers = people_of(street.gallery)
    street.tracklets.upsert([tracklet(6, EVE, "gate", 100), tracklet(7, unit(0, 0, 1), "gate", 200)])
    report = group(street.gallery, min_similarity=0.9)
    assert (report.tracklets, report.grouped, report.new_people, report.people) == (7, 2, 1, 4)
    assert numbers.items() < people_of(street.gallery).items()
    assert frozenset({2, 4, 6}) in street.people()
    assert group(street.gallery, min_similarity=-1).grouped == 0
    street.tracklets.close()
    street.gallery.close()


def test_every_join_has_a_reason(street) -> None:
    group(street.gallery, min_similarity=0.9)
    street.tracklets.upsert([tracklet(6, NEAR_ADA, "gate", 100)])
    with People(street.gallery) as people:
        people.group(0.9)
        found = {int(id, 16): join for person in people.all() for id, join in person.joins.items()}
    assert found[1].similarity is found[2].near is None
    assert int(found[5].near, 16) == 1
    assert found[5].similarity == found[5].average == pytest.approx(1, abs=1e-3)  # cameras are centred
    cosine = float(NEAR_ADA @ ADA)
    assert found[6].near in street.ids(3)
    assert (found[6].similarity, found[6].average) == (1, 1)
    with People(street.gallery) as people:
        people.merge(1, [3])
        joins = people.one(1).joins
    assert street.ids(1, 5) == set(joins), "what was put there by hand has no join"
    assert cosine > 0.9


def test_an_address_is_enough(street) -> None:
    group(street.gallery.uri)
    assert len(street.people()) == 3


def test_a_gallery_without_tracklets_has_nobody(tmp_path) -> None:
    gallery = Place(str(tmp_path / "people.gallery")).open(ColourEmbedder())
    report = group(gallery)
    assert (report.tracklets, report.people) == (0, 0)
    with People(gallery) as people:
        assert people.all() == []
        with pytest.raises(InputError, match="nothing to take back"):
            people.undo()
    gallery.close()


@pytest.mark.parametrize(("seconds", "people"), [(26, 5), (25, 3)])
def test_people_who_need_time_between_cameras(street, tmp_path, seconds, people) -> None:
    travel = tmp_path / "travel.csv"
    travel.write_text(f"from,to,seconds\ngate,yard,{seconds}\ndoor,yard,5\n")
    report = group(street.gallery, min_similarity=0.9, travel=travel)
    assert report.people == people
    assert report.strangers == ("door",)


# ── by hand ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_decided_by_hand_stays(street) -> None:
    group(street.gallery, min_similarity=0.9)
    numbers = people_of(street.gallery)
    one, two = numbers[f"{1:064x}"], numbers[f"{2:064x}"]
    with People(street.gallery) as people:
        people.merge(one, [two])
        people.split([f"{5:064x}"])
        people.name(one, "  the  couple ")
    for number in range(10, 20):
        street.tracklets.upsert([tracklet(number, ADA, "gate", 100.0 * number)])
        group(street.gallery, min_similarity=0.5, automatic=True)
    found = people_of(street.gallery)
    assert {found[id] for id in street.ids(1, 2, 4)} == {one}
    assert found[f"{5:064x}"] not in (one, two)
    with People(street.gallery) as people:
        assert people.one(one).name == "the couple"
        for _ in range(3):
            people.undo()
        assert {id: people.now().person_of[id] for id in numbers} == numbers


def test_names_go_with_the_person_who_stays(street) -> None:
    group(street.gallery, min_similarity=0.9)
    with People(street.gallery) as people:
        people.name(2, "Eve")
        people.merge(1, [2])
        assert people.one(1).name == "Eve"
        people.undo()
        assert (people.one(1).name, people.one(2).name) == (None, "Eve")
        people.name(1, "Ada")
        people.merge(1, [2])
        assert people.one(1).name == "Ada"
        with pytest.raises(NoSuch, match="person 2: there is no such person"):
            people.one(2)
        people.undo()
        people.split(sorted(street.ids(2, 4)), to=3)
        assert people.one(3).name == "Eve"
        people.name(3, "")
        assert people.one(3).name is None


def test_only_the_change_that_is_meant_is_taken_back(street) -> None:
    group(street.gallery, min_similarity=0.9)
    with People(street.gallery) as people:
        change = people.merge(1, [2])
        later = people.name(1, "Ada")
        with pytest.raises(Overtaken, match="something else has been done since"):
            people.undo(change.number)
        assert people.undo(later.number).words == "naming person 1"
        street.tracklets.upsert([tracklet(9, EVE, "door", 900)])
        people.group(0.9, automatic=True)
        assert people.undo().words == "merging person 2 into person 1"
        assert people.now().person_of[f"{9:064x}"] == 2
        assert people.undo().words == "grouping 5 tracklets"
        assert set(people.now().person_of) == street.ids(9)
        people.group(0.9)
        assert people.now().next_person > 4, "numbers are not used again"


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda people: people.merge(1, []), "merge: at least two different people"),
        (lambda people: people.merge(1, [1]), "merge: at least two different people"),
        (lambda people: people.merge(1, [99]), "person 99: there is no such person"),
        (lambda people: people.merge(99, [1]), "person 99: there is no such person"),
        (lambda people: people.split([]), "split: at least one tracklet"),
        (lambda people: people.split(["f" * 64]), "tracklet ffffffffffff: belongs to nobody"),
        (lambda people: people.split([f"{1:064x}", f"{2:064x}"]), "split: the tracklets belong to several"),
        (lambda people: people.split([f"{1:064x}", f"{5:064x}"]), "split: person 1 would stay as it is"),
        (lambda people: people.split([f"{1:064x}"], to=1), "split: person 1 would stay as it is"),
        (lambda people: people.split([f"{1:064x}"], to=99), "person 99: there is no such person"),
        (lambda people: people.name(99, "x"), "person 99: there is no such person"),
        (lambda people: people.name(1, "x" * 201), "name: 201 characters are more than the 200 allowed"),
        (lambda people: people.name(1, "\udc80"), "is not valid Unicode"),
        (lambda people: people.group(2.0), "--min-similarity 2.0: a number from -1 to 1"),
    ],
)
def test_what_makes_no_sense_changes_nothing(street, act, message) -> None:
    group(street.gallery, min_similarity=0.9)
    with People(street.gallery) as people:
        before = people.journal.read()
        with pytest.raises(InputError, match=message):
            act(people)
        assert people.journal.read() == before


def test_a_gallery_elsewhere_needs_a_folder_for_its_people(street) -> None:
    street.gallery.uri = "s3://bucket/people"
    with pytest.raises(InputError, match=r"s3://bucket/people: is no folder; name a folder .* with --state"):
        People(street.gallery)


# ── forgetting ──────────────────────────────────────────────────────────────────────────────────────────


def with_pictures(folder: Path) -> tuple[Gallery, list[str]]:
    """A gallery of two tracklets with two pictures each; their identifiers."""
    gallery = Place(str(folder / "people.gallery")).open(ColourEmbedder())
    for number in range(4):
        paint(folder / "crops" / f"{number}.png", number)
        entry = Entry(
            folder / "crops" / f"{number}.png", time=number, attributes={"track": f"{number // 2:064x}"}
        )
        gallery.add([entry], progress=False)
    ids = {entry.path.name: entry.id for entry in gallery.entries()}
    pictures = [ids[f"{number}.png"] for number in range(4)]
    tracklets = Tracklets(**gallery.place)
    tracklets.upsert(
        [tracklet(n, (ADA, EVE)[n], "gate", n, tuple(pictures[2 * n : 2 * n + 2])) for n in (0, 1)]
    )
    tracklets.close()
    group(gallery)
    return gallery, pictures


def test_deleting_the_last_picture_of_a_tracklet_forgets_it(tmp_path) -> None:
    gallery, pictures = with_pictures(tmp_path)
    with People(gallery) as people:
        people.name(2, "Eve")
        people.merge(1, [2])
        people.undo()
        gallery.delete(Selection(id=pictures[2]))
        left = people.one(2).tracklets[0]
        assert (left.pictures, left.path.name) == ((pictures[3],), "3.png")
        gallery.expire(0.0, Selection(id=pictures[3]))
        assert [person.number for person in people.all()] == [1]
    text = journal_file(gallery).read_text()
    assert "Eve" not in text
    assert f"{1:064x}" not in text
    whole = b"".join(
        file.read_bytes() for file in (tmp_path / "people.gallery").rglob("*.lance") if file.is_file()
    )
    assert pictures[3].encode() not in whole
    gallery.close()


def test_what_was_deleted_elsewhere_is_forgotten_by_the_next_grouping(tmp_path) -> None:
    gallery, _ = with_pictures(tmp_path)
    with People(gallery) as people:
        people.name(2, "Eve")
        people.tracklets.delete([f"{1:064x}"])
        assert [person.number for person in people.all()] == [1]
        assert people_of(gallery) == {f"{0:064x}": 1}
        people.group()
    assert "Eve" not in journal_file(gallery).read_text()
    gallery.close()


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────


def test_people_are_grouped_and_corrected_on_the_command_line(street, tmp_path, capsys) -> None:
    def run(*words: object) -> str:
        status = main(["gallery", *map(str, words), "--gallery", street.gallery.uri])
        said = capsys.readouterr()
        assert status == 0, said.err
        return said.out

    said = run("group", "--min-similarity", "0.9")
    assert "5 of 5 tracklets grouped; 3 people" in said
    assert "mean similarity of at least 0.9" in said
    assert "joins refused" in said
    assert "person 1 is named the courier" in run("name", 1, "the courier")
    assert "person 1 now has the tracklets of person 2" in run("merge", 1, 2)
    assert "taken back: merging person 2 into person 1" in run("undo")
    lines = run("people").splitlines()
    assert len(lines) == 3
    assert "the courier" in lines[0]
    assert "gate, yard" in lines[0]
    with People(street.gallery) as people:
        id = people.one(1).tracklets[1].id
    assert "1 tracklets of person 1 now belong to person 4" in run("split", id)
    assert "put here by hand" in run("people", 4)
    assert "4 people in" in run("people", "--json", tmp_path / "people.json")
    written = json.loads((tmp_path / "people.json").read_text())
    assert [(one["number"], one["name"], len(one["tracklets"])) for one in written] == [
        (1, "the courier", 1),
        (2, None, 2),
        (3, None, 1),
        (4, None, 1),
    ]
    assert written[0]["first"] == "1970-01-01T00:00:00+00:00"
    assert "person 1 has no name" in run("name", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["merge", "1"], "merge: needs PERSON PERSON..."),
        (["merge", "1", "two"], "two: is no number of a person"),
        (["merge", "1", "0"], "0: is no number of a person"),
        (["split"], "split: needs TRACKLET..."),
        (["split", "abc"], "abc: begins no tracklet of a person"),
        (["split", "0"], "0: begins 5 tracklets; write more of it"),
        (["name"], "name: needs PERSON [NAME]"),
        (["people", "99"], "person 99: there is no such person"),
        (["group", "x"], "x: group takes no files"),
        (["people", "--travel", "x.csv"], "--travel: belongs to group, not to people"),
        (["list", "--json", "x.json"], "--json: belongs to people, not to list"),
        (["group", "--to", "3"], "--to: belongs to split, not to group"),
        (["group", "--travel", "none.csv"], "--travel none.csv: cannot be read"),
        (["people", "--json", "none/x.json"], "--json none/x.json: there is no folder none"),
    ],
)
def test_a_command_that_makes_no_sense_is_one_line(street, capsys, words, message) -> None:
    group(street.gallery, min_similarity=0.9)
    assert main(["gallery", *words, "--gallery", street.gallery.uri]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1


def test_a_gallery_without_tracklets_cannot_be_grouped(tmp_path, capsys) -> None:
    uri = str(tmp_path / "people.gallery")
    Place(uri).open(ColourEmbedder()).close()
    assert main(["gallery", "group", "--gallery", uri]) == 2
    assert "has no tracklets to group" in capsys.readouterr().err
    assert main(["gallery", "people", "--gallery", uri]) == 0
