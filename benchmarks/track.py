"""Follow people through generated streets, and compare what the gallery then holds with the truth.

Each street is recorded, decoded, followed and grouped, as `kronreid track` and `kronreid gallery group` do.
Without ``--detector`` the true boxes are given, so the figures show what tracking and grouping lose. All
streets together give the figures; ``--seeds`` chooses them. ``cross_camera_f1`` is the B-cubed F1 of the
tracklets of all cameras.

    python benchmarks/track.py --model demo/runs/horeid --json track.json
    python benchmarks/track.py --model demo/runs/horeid --detector motion
    python benchmarks/track.py --detector motion              # MobileNetV2 without training: for the speed
    python benchmarks/track.py --detector motion --hour       # memory over an hour of one camera
    python benchmarks/track.py --model demo/runs/horeid --kill 30
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import add_embedder, make_embedder, make_parser, report, status_kb
from kronreid.cameras.detectors import Detector, named
from kronreid.cameras.frames import Frame, Source
from kronreid.cameras.pipeline import Options, Report, follow
from kronreid.cameras.sources import open_source
from kronreid.cameras.truth import Known, StreetSource, known_boxes, measure
from kronreid.data.generated.streets import START, Recording, Street, make
from kronreid.gallery import Gallery
from kronreid.gallery.people import group, people_of
from kronreid.gallery.tracklets import Tracklet, Tracklets
from kronreid.memory import return_memory
from kronreid.models.inference import Embedder
from kronreid.models.loading import load

#: What is measured over all streets is the mean of these, and the sum of the others.
MEANS = ("idf1", "idp", "idr", "mota", "cross_camera_f1", "cross_camera_precision", "cross_camera_recall",
         "cross_camera_idf1", "frames_per_second")  # fmt: skip
PARTS = ("decoding", "detection", "tracking", "embedding", "storing")
HOUR = 3600.0
#: A measurement of memory begins after this share of the frames, when everything is loaded.
SETTLED = 0.05
KNOWN = "known"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    add_embedder(parser, last_stride=2, images=0)
    parser.add_argument("--model", help="a run; without one, the embedder has random weights")
    parser.add_argument("--detector", default=KNOWN, help=f"a detector, or {KNOWN} for the true boxes")
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--duration", type=float, default=40.0, help="seconds of each street")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument(
        "--world", type=int, default=1, help="seed of the cameras' light and of the outfits (1: the demo's)"
    )
    parser.add_argument("--hour", action="store_true", help="follow one camera for an hour instead")
    parser.add_argument("--kill", type=int, metavar="N", help="kill the command at N moments instead")
    options = parser.parse_args(arguments)
    if options.detector == KNOWN and (options.hour or options.kill):  # these have no boxes that are known
        options.detector = "motion"
    figures: dict[str, float | str | None] = {
        "detector": options.detector,
        "model": options.model or options.backbone,
    }
    if options.kill:
        if not options.model:
            parser.error("--kill needs --model")
        figures |= killed(options)
    else:
        embedder = untrained(options) if options.model is None else load(options.model)
        assert isinstance(embedder, Embedder)
        figures |= an_hour(embedder, options) if options.hour else streets(embedder, options)
    report(figures, options.json)


def untrained(options: argparse.Namespace) -> Embedder:
    """An embedder with random weights. A gallery accepts only embedders with a fingerprint."""
    embedder, _ = make_embedder(options)
    embedder.fingerprint = "random weights"
    return embedder


def street(options: argparse.Namespace, seed: int) -> Street:
    return Street(options.cameras, options.people, options.duration, seed, options.world)


# ── streets ─────────────────────────────────────────────────────────────────────────────────────────


def streets(embedder: Embedder, options: argparse.Namespace) -> dict[str, float]:
    """The figures over all streets."""
    each = []
    resident = {"rss_start_mb": status_kb("VmRSS") / 1024}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            each.append(one_street(embedder, street(options, seed), options.detector, Path(folder)))
        told = {name: round(value, 3) for name, value in each[-1].items()}
        print(f"seed {seed}: {json.dumps(told)}", file=sys.stderr, flush=True)
    figures = {
        name: statistics.mean(values) if name in MEANS or name.endswith("_share") else sum(values)
        for name in each[0]
        if (values := [found[name] for found in each])
    }
    return figures | resident | {"rss_end_mb": status_kb("VmRSS") / 1024, "streets": len(each)}


def one_street(embedder: Embedder, street: Street, detector: str, folder: Path) -> dict[str, float]:
    """Record a street, follow its people and measure what was found."""
    recordings = make(folder / "street", street)
    with Gallery(folder / "people.gallery", embedder) as gallery:
        sources = [watched(recording, detector) for recording in recordings]
        followed = follow(gallery, sources, Options(folder / "crops", progress=False))
        group(gallery)
        truths = {recording.camera: recording.truth for recording in recordings}
        found = measure(tracklets_of(gallery), people_of(gallery), truths, START, street.rate)
    return found | spent(followed)


def watched(recording: Recording, detector: str) -> tuple[Source, Detector]:
    """A recording's source and its detector."""
    source = open_source(str(recording.video), recording.camera)
    if detector != KNOWN:
        return source, named(detector)
    known = Known(source, known_boxes(recording.truth))
    return known, known


def tracklets_of(gallery: Gallery) -> list[Tracklet]:
    tracklets = Tracklets(**gallery.place)
    try:
        return sorted(tracklets.all(), key=lambda tracklet: tracklet.id)
    finally:
        tracklets.close()


def spent(followed: Report) -> dict[str, float]:
    """Frames per second, and the share of the computing time that each part took."""
    for summary in followed.sources:
        if summary.error is not None:
            raise summary.error
    shares = {f"{part}_share": followed.shares[part] for part in PARTS}
    return {"frames_per_second": followed.frames_per_second, **shares}


# ── an hour ─────────────────────────────────────────────────────────────────────────────────────────


class Metered(StreetSource):
    """A generated camera that notes the resident memory while its frames are taken."""

    def __init__(self, street: Street, number: int) -> None:
        super().__init__(street, number)
        self.resident: list[float] = []

    def frames(self, start: float | None = None) -> Iterator[Frame]:
        """See `Source`."""
        self.resident, every = [], max(1, self._street.length // 100)
        for frame in super().frames(start):
            if frame.number % every == 0:
                self.resident.append(status_kb("VmRSS") / 1024)
            yield frame


def an_hour(embedder: Embedder, options: argparse.Namespace) -> dict[str, float]:
    """The memory over an hour of one camera, which is drawn while it is followed."""
    return_memory()  # as `kronreid track` does
    source = Metered(Street(1, options.people, HOUR, options.seeds[0], options.world), 1)
    with tempfile.TemporaryDirectory() as folder, Gallery(Path(folder) / "people", embedder) as gallery:
        followed = follow(
            gallery, [(source, named(options.detector))], Options(Path(folder) / "crops", progress=True)
        )
        tracklets = len(tracklets_of(gallery))
    settled = source.resident[int(SETTLED * len(source.resident)) :]
    return {
        "rss_start_mb": settled[0],
        "rss_half_mb": settled[len(settled) // 2],
        "rss_end_mb": settled[-1],
        "rss_most_mb": max(settled),
        "frames": followed.sources[0].frames,
        "tracklets": tracklets,
        **spent(followed),
    }


# ── kills ───────────────────────────────────────────────────────────────────────────────────────────


def killed(options: argparse.Namespace) -> dict[str, float]:
    """Kill the command at many moments and let it go on, and compare with a run that nobody killed."""
    rng = random.Random(options.seeds[0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = [str(one.video) for one in make(folder / "street", street(options, options.seeds[0]))]

        def command(gallery: str) -> list[str]:
            return [
                sys.executable, "-m", "kronreid", "track", *videos, "--model", options.model,
                "--gallery", str(folder / gallery), "--detector", options.detector,
            ]  # fmt: skip

        started = time.perf_counter()
        subprocess.run(command("whole"), check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        half = finished = 0
        for number in range(options.kill):
            process = subprocess.Popen(
                command("killed"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                process.wait(seconds * (number + rng.random()) / options.kill)
                finished += 1
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            half += half_stored(folder / "killed")
        subprocess.run(command("killed"), check=True, stdout=subprocess.DEVNULL)
        whole, other = content(folder / "whole"), content(folder / "killed")
    return {
        "kills": options.kill - finished,
        "seconds": seconds,
        "tracklets": len(whole[0]),
        "half_tracklets": half,
        "tracklets_missing": len(whole[0].keys() - other[0].keys()),
        "tracklets_extra": len(other[0].keys() - whole[0].keys()),
        "tracklets_that_differ": sum(other[0].get(id, value) != value for id, value in whole[0].items()),
        "pictures_missing": len(whole[1] - other[1]),
        "pictures_extra": len(other[1] - whole[1]),
    }


def content(gallery: Path) -> tuple[dict[str, tuple], set[str]]:
    """What a gallery holds: its tracklets, and the identifiers of its pictures."""
    with Gallery(gallery) as opened:
        pictures = [entry.id for entry in opened.entries()]
        found = tracklets_of(opened)
    assert len(set(pictures)) == len(pictures)
    return {
        one.id: (one.camera, one.start, one.end, one.pictures, one.boxes.tobytes()) for one in found
    }, set(pictures)


def half_stored(gallery: Path) -> int:
    """The number of stored tracklets whose pictures are not all there."""
    if not gallery.exists():
        return 0
    with Gallery(gallery) as opened:
        files = {entry.id: entry.path for entry in opened.entries()}
        return sum(
            any(id not in files or not files[id].is_file() for id in one.pictures)
            for one in tracklets_of(opened)
        )


if __name__ == "__main__":
    main()
