"""From sources to tracklets in a gallery: many sources are read at once, and one place embeds.

Each source has a thread that reads and detects (`kronreid.cameras.feeds`). This thread takes a chunk of
frames of every source that has one, follows the people, embeds the looks of all of them in one batch, and
stores the tracks that have ended.

A recording is followed in **sections**. A section ends when nobody has been there for a moment, and at the
latest after `SECTION_SECONDS`: then all its tracks end, and when they are stored, the progress is noted. What
a section finds does not depend on the sections before it, so a process that is killed loses nothing but the
section at hand, and the next one finds the same in it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kronreid.cameras.detectors import Detector
from kronreid.cameras.drawing import Blur, Film
from kronreid.cameras.feeds import Chunk, Feed
from kronreid.cameras.frames import Source
from kronreid.cameras.identity import recording_name
from kronreid.cameras.looks import Look
from kronreid.cameras.status import Status
from kronreid.cameras.tracking import Strand, Tracker
from kronreid.cameras.tracklets import Progress, Recording
from kronreid.cameras.tracks import Track
from kronreid.errors import InputError
from kronreid.gallery import Gallery
from kronreid.gallery.crops import PROGRESS
from kronreid.gallery.indexing import unit
from kronreid.gallery.recordings import EVERY_SECONDS
from kronreid.gallery.tracklets import Tracklets
from kronreid.locks import alone

#: A section lasts at most so many seconds, and at least so many even if nobody is there.
SECTION_SECONDS, LEAST_SECTION_SECONDS = 300.0, 10.0
#: A track that is still open is stored this often, in seconds of the source.
OPEN_SECONDS = 60.0
#: Ended tracks wait at most so long, in seconds, to be stored together.
STORE_SECONDS = 2.0
#: Where a recording is followed on, the detector is shown so many seconds before.
WARM_SECONDS = 20.0


@dataclass(frozen=True)
class Options:
    """How sources are followed.

    Attributes:
        crops: The folder of all crops.
        min_seconds: Shorter tracks make no tracklet.
        settings: What else the tracks depend on, such as the detector's name; see `Recording`.
        film: The folder for videos with boxes and identities; None for none. A recording is then followed
            from its beginning, whatever is stored of it.
        blur: Who is blurred in these videos.
        progress: Show a progress bar for each source on a terminal.
    """

    crops: Path
    min_seconds: float = 1.0
    settings: dict[str, Any] = field(default_factory=dict)
    film: Path | None = None
    blur: Blur = field(default_factory=Blur)
    progress: bool = True


@dataclass
class Summary:
    """What following one source did.

    Attributes:
        name: The source.
        camera: Its camera.
        frames: Number of frames that were read.
        dropped: Number of frames that a live source dropped.
        damaged: Number of frames that could not be decoded.
        reconnected: How often the connection of a stream was lost and came back.
        tracklets: Number of tracklets stored.
        short: Number of tracks that were too short for a tracklet, or of whom nothing could be seen.
        seconds: Seconds by what they were spent on: ``decoding``, ``detection``, ``tracking``, ``embedding``
            and ``storing``.
        error: Why it ended before the end of the source; None if it did not.
        already: The file that says that it had been followed to its end before, so that nothing was done;
            None if it had not been.
    """

    name: str
    camera: str
    frames: int = 0
    dropped: int = 0
    damaged: int = 0
    reconnected: int = 0
    tracklets: int = 0
    short: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    error: InputError | None = None
    already: Path | None = None


@dataclass
class Report:
    """What `follow` did.

    Attributes:
        sources: One summary for each source.
        seconds: How long it took.
        stopped: Whether Ctrl-C stopped it.
    """

    sources: list[Summary]
    seconds: float
    stopped: bool = False

    @property
    def shares(self) -> dict[str, float]:
        """The share of the computing time that each kind of work took, 0 to 1."""
        sums: dict[str, float] = {}
        for summary in self.sources:
            for name, seconds in summary.seconds.items():
                sums[name] = sums.get(name, 0.0) + seconds
        total = max(sum(sums.values()), 1e-9)
        return {name: seconds / total for name, seconds in sums.items()}

    @property
    def frames_per_second(self) -> float:
        """Frames of all sources together per second."""
        return sum(summary.frames for summary in self.sources) / max(self.seconds, 1e-9)


def follow(
    gallery: Gallery,
    sources: Sequence[tuple[Source, Detector]],
    options: Options,
    now_and_then: Callable[[], None] | None = None,
) -> Report:
    """Follow the people in front of cameras, and store what is seen of each as a tracklet.

    A recording that has been followed before goes on where everything is stored. It can be interrupted at any
    moment, also by a kill. After Ctrl-C, what live sources have shown is stored.

    Args:
        gallery: A gallery with its embedder.
        sources: The sources, each with a detector of its own.
        options: How.
        now_and_then: Called after tracklets have been stored.

    Returns:
        What was done. A source that fails is listed there and does not stop the others.

    Raises:
        InputError: A recording is being followed by another process, a source has no frames, or something
            cannot be written.
    """
    started = time.perf_counter()
    with ExitStack() as stack:
        tracklets = stack.enter_context(closing(Tracklets(**gallery.place)))
        arrived = threading.Semaphore(0)
        lanes = []
        for number, (source, detector) in enumerate(sources):
            lanes.append(Lane(gallery, tracklets, source, options, number))
            stack.enter_context(closing(lanes[-1]))
            lanes[-1].begin(detector, arrived, stack)
        stopped = False
        try:
            _run(gallery, lanes, arrived, now_and_then)
        except KeyboardInterrupt:  # how one stops following a live source
            stopped = True
            for lane in lanes:
                lane.close()
            _finish(gallery, [lane for lane in lanes if lane.source.live and not lane.ended])
        summaries = [lane.summary() for lane in lanes]
    return Report(summaries, time.perf_counter() - started, stopped)


def _run(
    gallery: Gallery,
    lanes: "list[Lane]",
    arrived: threading.Semaphore,
    now_and_then: Callable[[], None] | None,
) -> None:
    """Follow until all sources have ended."""
    while going := [lane for lane in lanes if not lane.ended]:
        waiting = not arrived.acquire(timeout=EVERY_SECONDS)
        for lane in going:
            lane.note()
        if waiting:
            continue
        taken = [(lane, chunk) for lane in going if (chunk := lane.take()) is not None]
        over = [lane for lane in going if lane.ended]
        for _ in range(len(taken) + len(over) - 1):  # each chunk and each end has released it once
            arrived.acquire(blocking=False)
        _embed(gallery, [(lane, lane.track(chunk)) for lane, chunk in taken])
        for lane, chunk in taken:
            lane.learn(chunk)
        stored = _finish(gallery, [*over, *(lane for lane, _ in taken if lane.section_is_over)])
        stored += [lane.store() for lane in going]
        if any(stored) and now_and_then is not None:
            now_and_then()


def _finish(gallery: Gallery, lanes: "list[Lane]") -> list[bool]:
    """End the sections of these lanes; returns whether tracks were stored, for each lane."""
    _embed(gallery, [(lane, lane.finish()) for lane in lanes])
    return [lane.end_section() for lane in lanes]


def _embed(gallery: Gallery, asked: "list[tuple[Lane, list[Look]]]") -> None:
    """Embed the looks of all lanes in one batch."""
    looks = [look for _, several in asked for look in several]
    if not looks:
        return
    assert gallery.embedder is not None
    before = time.perf_counter()
    vectors = unit(gallery.embedder.embed([look.image for look in looks]))
    spent = time.perf_counter() - before
    for look, vector in zip(looks, vectors):
        look.vector = np.array(vector)
    for lane, several in asked:
        lane.seconds["embedding"] += spent * len(several) / len(looks)


class Lane:
    """One source on its way to the gallery: its feed, its tracker, its recording and its film.

    Args:
        gallery: The gallery.
        tracklets: The gallery's tracklets.
        source: The source.
        options: How it is followed.
        number: The number of the source, which says where its progress bar is.

    Attributes:
        ended: Whether everything has been taken from the source.
        seconds: See `Summary`.
    """

    def __init__(
        self, gallery: Gallery, tracklets: Tracklets, source: Source, options: Options, number: int
    ) -> None:
        self.source = source
        self._gallery, self._tracklets, self._options = gallery, tracklets, options
        self.seconds = dict.fromkeys(("tracking", "embedding", "storing"), 0.0)
        self.ended = False
        self._feed: Feed | None = None
        self._film: Film | None = None
        self._bar = tqdm(
            total=source.length,
            unit=" frames",
            desc=source.camera,
            position=number,
            disable=None if options.progress else True,
        )
        self._tracker: Tracker | None = None
        self._section = self._time = -np.inf
        self._drawn: list[list[Strand | None]] = []
        self._waiting: list[Track] = []
        self._stored_at = 0.0
        self._stored_until: dict[str, float] = {}
        self._status: Status | None = None

    # ── beginning and ending ────────────────────────────────────────────────────────────────────────

    def begin(self, detector: Detector, arrived: threading.Semaphore, stack: ExitStack) -> None:
        """Find out where to go on, remove what a killed process has left, and begin to read.

        Args:
            detector: Finds people in the source's frames.
            arrived: See `Feed`.
            stack: Keeps the recording locked.

        Raises:
            InputError: Another process follows the same recording, or the source cannot be read.
        """
        source, options = self.source, self._options
        folder = options.crops / recording_name(source)
        stack.enter_context(
            alone(folder, f"{source.name} is being followed by another process, or given twice")
        )
        self._recording = Recording(
            self._gallery,
            self._tracklets,
            folder,
            source,
            options.settings | {"min_seconds": options.min_seconds},
            options.min_seconds,
        )
        anew = source.live or options.film is not None
        progress = Progress() if anew else self._recording.progress()
        self.ended = progress.done
        if progress.done:
            return
        self._recording.clean(np.inf if source.live else progress.until)
        self._status = Status(self._gallery, folder.name, source)
        if options.film is not None:
            self._film = Film(options.film / f"{folder.name}.mkv", options.blur)
        since = progress.until if np.isfinite(progress.until) else None
        self._feed = Feed(source, detector, since, WARM_SECONDS, arrived)
        self._feed.start()

    def close(self) -> None:
        """Stop reading. What has been followed can still be stored."""
        if self._feed is not None:
            self._feed.stop()
        self.note(over=True)
        if self._film is not None:
            self._film.close()
        self._bar.close()

    def summary(self) -> Summary:
        """What has been done."""
        feed = self._feed
        if feed is None:
            return Summary(self.source.name, self.source.camera, already=self._recording.folder / PROGRESS)
        assert feed.error is None or isinstance(feed.error, InputError)
        return Summary(
            self.source.name,
            self.source.camera,
            frames=feed.frames,
            dropped=self.source.dropped,
            damaged=self.source.damaged,
            reconnected=self.source.reconnected,
            tracklets=self._recording.stored,
            short=self._recording.short,
            seconds={"decoding": feed.decoding, "detection": feed.detecting, **self.seconds},
            error=feed.error,
        )

    def note(self, over: bool = False) -> None:
        """Write now and then how far this is, for whoever looks at the cameras.

        Args:
            over: Nothing follows; write in any case.
        """
        if self._status is not None and self._feed is not None:
            self._status.note(self._feed.frames, self._feed.error, over)

    # ── following ───────────────────────────────────────────────────────────────────────────────────

    def take(self) -> Chunk | None:
        """See `Feed.take`."""
        assert self._feed is not None
        chunk = self._feed.take()
        self.ended = self._feed.ended
        return chunk

    def track(self, chunk: Chunk) -> list[Look]:
        """Follow people through a chunk; returns the looks to embed."""
        before = time.perf_counter()
        if self._tracker is None:
            self._begin_section(chunk.frames[0].time)
        assert self._tracker is not None
        looks: list[Look] = []
        self._drawn = []
        for frame, detections in zip(chunk.frames, chunk.detections):
            asked, strands = self._tracker.update(frame, detections)
            looks += asked
            self._drawn.append(strands)
        self._time = max(self._time, chunk.frames[-1].time)
        self.seconds["tracking"] += time.perf_counter() - before
        return looks

    def learn(self, chunk: Chunk) -> None:
        """Decide whom the chunk shows, now that its looks have been embedded."""
        assert self._tracker is not None
        before = time.perf_counter()
        self._tracker.learn()
        self._waiting += self._tracker.ended()
        self.seconds["tracking"] += time.perf_counter() - before
        if self._film is not None:
            for frame, detections, strands in zip(chunk.frames, chunk.detections, self._drawn):
                self._film.add(frame, detections, [strand.name if strand else "" for strand in strands])
        self._bar.update(len(chunk))

    # ── sections ────────────────────────────────────────────────────────────────────────────────────

    def _begin_section(self, start: float) -> None:
        """Begin a section; all before it is stored."""
        if not self.source.live and start > self._time > -np.inf:  # equal times cannot be told apart later
            self._recording.advance(Progress(until=start))
        self._tracker = Tracker(self._recording.folder.name)
        self._section = start

    @property
    def section_is_over(self) -> bool:
        """Whether to end the section here."""
        assert self._tracker is not None
        seconds = self._time - self._section
        return seconds >= SECTION_SECONDS or (seconds >= LEAST_SECTION_SECONDS and self._tracker.quiet)

    def finish(self) -> list[Look]:
        """End all tracks; returns the looks to embed."""
        return self._tracker.finish() if self._tracker else []

    def end_section(self) -> bool:
        """Store what the section has found; if the source has ended, that is noted.

        Returns:
            Whether any tracks were stored.
        """
        if self._tracker is not None:
            self._tracker.learn()
            self._waiting += self._tracker.ended()
            self._tracker = None
        tracks, self._waiting = self._waiting, []
        self._store(tracks)
        if self.ended and self._feed and self._feed.error is None and not self.source.live:
            self._recording.advance(Progress(done=True))
        if self.ended:
            self.note(over=True)
        return bool(tracks)

    def store(self) -> bool:
        """Store the tracks that have ended, and open ones from time to time; returns whether any were."""
        due = time.perf_counter() - self._stored_at >= STORE_SECONDS
        ended = self._waiting if due else []
        tracks = self._tracker.open if self._tracker else []
        open = [
            track
            for track in tracks
            if track.end - self._stored_until.get(track.id, track.start) >= OPEN_SECONDS
        ]
        for track in open:
            self._stored_until[track.id] = track.end
        if ended:
            self._waiting = []
            self._store(ended)
        if open:
            self._store(open, whole=False)
        return bool(ended or open)

    def _store(self, tracks: Sequence[Track], whole: bool = True) -> None:
        before = time.perf_counter()
        self._recording.store(tracks, whole)
        self._stored_at = time.perf_counter()
        self.seconds["storing"] += self._stored_at - before
        if whole:
            for track in tracks:
                self._stored_until.pop(track.id, None)
