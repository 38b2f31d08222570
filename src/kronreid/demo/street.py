"""The demonstration's street: videos of several cameras become tracklets, and the tracklets people."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kronreid.cameras.detectors import named
from kronreid.cameras.pipeline import Options, follow
from kronreid.cameras.sources import open_source
from kronreid.cameras.truth import measure, tracks_of
from kronreid.data.generated.streets import START, Recording, Street, make
from kronreid.data.images import open_rgb
from kronreid.explain import Member, StreetReport
from kronreid.explain.style import PALETTE
from kronreid.gallery import Gallery, Selection
from kronreid.gallery.people import People, Person, group
from kronreid.gallery.tracklets import Tracklet, Tracklets
from kronreid.models.inference import Embedder

#: The seed of the demonstration's world, of which the street has the cameras.
SEED = 1
STREET = Street(cameras=3, people=10, seconds=40.0, seed=1, world=SEED)
#: People that the report shows, and pictures of each by each camera.
SHOWN, PICTURES = 6, 3
_COLOURS = ("accent", "wrong", "right", "plum", "violet", "brown")


def record(out: Path) -> list[Recording]:
    """Record the cameras."""
    return make(out / "street", STREET)


def follow_people(
    out: Path, recordings: Sequence[Recording], embedder: Embedder
) -> tuple[StreetReport, dict[str, float]]:
    """Follow the people in the videos, join them across cameras, and compare them with the truth.

    Args:
        out: Folder of the demonstration. The gallery is ``street.gallery``, the crops are in
            ``street.crops``.
        recordings: The videos.
        embedder: The model.

    Returns:
        The section of the report, and the metrics.
    """
    with Gallery(out / "street.gallery", embedder) as gallery:
        sources = [(open_source(str(one.video), one.camera), named("motion")) for one in recordings]
        followed = follow(gallery, sources, Options(out / "street.crops"))
        group(gallery)
        with closing(Tracklets(**gallery.place)) as stored:
            tracklets = list(stored.all())
        with People(gallery) as opened:
            people = opened.all()
        numbers = {one.id: person.number for person in people for one in person.tracklets}
        truths = {one.camera: one.truth for one in recordings}
        figures = measure(tracklets, numbers, truths, START, STREET.rate)
        figures["frames_per_second"] = followed.frames_per_second
        report = StreetReport(
            summary=summary(figures),
            frames=[(one.camera, moment(one, tracklets, numbers)) for one in recordings],
            people=[member(gallery, person) for person in most_seen(people)],
        )
    return report, figures


def summary(figures: dict[str, float]) -> str:
    """What was found and how well, in three sentences."""
    return (
        f"{figures['true_people']} people walk past {STREET.cameras} cameras for {STREET.seconds:.0f} s. "
        f"The motion detector, tracking and HOReID turned the videos into {figures['tracklets']} tracklets "
        f"and the tracklets into {figures['people']} people. Within a camera IDF1 is "
        f"{100 * figures['idf1']:.1f} %, and across cameras the B-cubed F1 is "
        f"{100 * figures['cross_camera_f1']:.1f} %."
    )


def most_seen(people: Sequence[Person]) -> list[Person]:
    """The people whom most cameras saw, in the order of their numbers."""
    chosen = sorted(people, key=lambda person: (-len(person.cameras), -len(person.tracklets)))[:SHOWN]
    return sorted(chosen, key=lambda person: person.number)


def member(gallery: Gallery, person: Person) -> Member:
    """A person's pictures by camera."""
    wanted: dict[str, list[str]] = {camera: [] for camera in person.cameras}
    for tracklet in person.tracklets:
        wanted[tracklet.camera] += tracklet.pictures
    pictures = {}
    for camera, ids in wanted.items():
        paths = {entry.id: entry.path for entry in gallery.entries(Selection(id=ids))}
        pictures[camera] = [open_rgb(paths[id]) for id in ids if id in paths][:PICTURES]
    return Member(f"Person {person.number}", list(pictures.items()))


def moment(recording: Recording, tracklets: Sequence[Tracklet], people: dict[str, int]) -> Image.Image:
    """The frame in which most people were found, with their boxes and numbers."""
    own = [one for one in tracklets if one.camera == recording.camera]
    tracks = tracks_of(own, START, STREET.rate)
    numbers, counts = np.unique(tracks.frames, return_counts=True)
    best = int(numbers[counts.argmax()]) if len(numbers) else 1
    with closing(open_source(str(recording.video), recording.camera)) as source:
        frame = next(one for one in source.frames() if one.number == best - 1)
    image = Image.fromarray(frame.image)
    for track, box in zip(tracks.tracks[tracks.frames == best], tracks.boxes[tracks.frames == best]):
        draw_box(image, box, people.get(own[track].id))
    return image


def draw_box(image: Image.Image, box: np.ndarray, person: int | None) -> None:
    """Draw a box with the number of its person."""
    pencil = ImageDraw.Draw(image)
    colour = PALETTE["ink" if person is None else _COLOURS[person % len(_COLOURS)]][0]
    left, top, width, height = box
    pencil.rectangle((left, top, left + width, top + height), outline=colour, width=3)
    label, font = "?" if person is None else str(person), ImageFont.load_default(16)
    place = pencil.textbbox((left + 4, max(top - 20, 0)), label, font=font)
    pencil.rectangle((place[0] - 4, place[1] - 3, place[2] + 4, place[3] + 3), fill=colour)
    pencil.text((left + 4, max(top - 20, 0)), label, fill="white", font=font)
