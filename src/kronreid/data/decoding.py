"""Decoding pictures of strangers: worker processes with limits on pixels, memory and processor time.

A picture file can ask for far more work than its size tells. Threads cannot be stopped, and they share the
memory of everything else, so such files are decoded in processes of their own. One that exceeds a limit is
killed, and the picture is refused.

Large pictures are decoded by a process of their own, one at a time, so that the others are not held up.
Clients take turns (`kronreid.turns`).
"""

import atexit
import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any

from PIL import Image

from kronreid.data.images import FORMATS, MAX_PIXELS, crop, format_and_pixels, read_rgb, upright_size
from kronreid.data.records import Box
from kronreid.errors import InputError
from kronreid.turns import FairSemaphore

#: Larger crops are halved until they have at most this many pixels, so that a batch of photographs fits in
#: memory. That is still several times the input of any network here.
ENOUGH_PIXELS = 4_000_000
#: Pictures with more pixels are decoded one at a time, whoever asks for them.
LARGE = 4_000_000
#: The memory of one decoding: a base, and bytes for each pixel. Decoding needs up to 13 bytes for one.
BASE_BYTES, BYTES_PER_PIXEL = 192_000_000, 16
#: Processor time of one decoding: a base, and seconds for each million pixels. Decoders need 0.1 s at most.
BASE_SECONDS, SECONDS_PER_MEGAPIXEL = 1.5, 0.2
#: Seconds after which a decoding is given up, however little processor time it got.
PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 1.0
#: The most worker processes for pictures that are not large: one more than processors, so that a picture that
#: takes long delays others less.
WORKERS = max(3, min(8, (os.cpu_count() or 1) + 1))

#: Workers make way for the process that asks: its networks must not wait for a picture that takes long.
NICE = 10
_LENGTHS = struct.Struct("<QQ")
_TOO_MUCH = "takes more memory or time to decode than a picture of its size may; save it again"


@dataclass(frozen=True)
class Decoded:
    """What a picture file holds.

    Attributes:
        kind: Its format, by Pillow's name.
        size: Width and height of the upright picture.
        crops: The upright RGB picture of each box, with at most `ENOUGH_PIXELS`, or why there is none.
    """

    kind: str
    size: tuple[int, int]
    crops: list[Image.Image | InputError]


def decode(
    content: bytes,
    name: str | PathLike[str],
    boxes: Sequence[Box | None] = (None,),
    formats: Iterable[str] = FORMATS,
    most_pixels: int = MAX_PIXELS,
) -> Decoded:
    """Decode a picture file in a worker process.

    Args:
        content: The content of the file.
        name: Name of the picture in messages.
        boxes: The parts that are wanted; None for all of it. Without any, only the header is read.
        formats: The accepted formats from `FORMATS`.
        most_pixels: Pictures with more pixels, by their header, are refused before decoding.

    Raises:
        InputError: As in `kronreid.data.images.read_rgb`, or the file exceeds a limit.
    """
    job = {
        "name": os.fspath(name),
        "boxes": [list(box) if box else None for box in boxes],
        "formats": list(formats),
        "most_pixels": most_pixels,
    }
    told: dict[str, Any] = {}
    for pool, most in ((_pool, LARGE), (_large, most_pixels)):
        with pool.worker() as worker:
            told, data = worker.ask(json.dumps(job | {"here": most}).encode(), content, str(name))
        if "large" not in told:
            break
    if "bug" in told:
        raise RuntimeError(told["bug"])
    if "error" in told:
        raise InputError(*told["error"])
    crops: list[Image.Image | InputError] = []
    place = 0
    for part in told["crops"]:
        if "error" in part:
            crops.append(InputError(*part["error"]))
            continue
        width, height = part["size"]
        crops.append(Image.frombytes("RGB", (width, height), data[place : place + 3 * width * height]))
        place += 3 * width * height
    return Decoded(told["kind"], tuple(told["size"]), crops)


def reduced(image: Image.Image) -> Image.Image:
    """A picture halved until it has at most `ENOUGH_PIXELS`."""
    while image.width * image.height > ENOUGH_PIXELS:
        image = image.reduce(2)
    return image


def child(module: str) -> tuple[list[str], dict[str, Any]]:
    """The command of a process that runs ``work()`` of one of our modules on one processor, and the options
    that `subprocess` starts it with."""
    package, _, name = module.rpartition(".")
    code = f"import sys; sys.path[:] = {sys.path!r}; from {package} import {name}; {name}.work()"
    # Isolated, so that neither the working folder nor the environment adds modules.
    command = [sys.executable, "-I", "-c", code]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return command, {"env": environment, "start_new_session": True}  # Ctrl-C is for this process alone


# ── this process ────────────────────────────────────────────────────────────────────────────────────────


class _Worker:
    """One worker process."""

    def __init__(self) -> None:
        command, options = child(__name__)
        self._process = subprocess.Popen(
            command, **options, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.until = time.monotonic() + PATIENCE_SECONDS
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        if self._from.read(1) != b"R":
            self.close()
            raise RuntimeError("the process that decodes pictures did not start")

    def ask(self, job: bytes, content: bytes, name: str) -> tuple[dict[str, Any], memoryview]:
        """What the worker says of a picture, and the pixels.

        Raises:
            InputError: The worker died of it.
        """
        try:
            self.until = time.monotonic() + PATIENCE_SECONDS
            self._to.write(_LENGTHS.pack(len(job), len(content)) + job)
            self._to.write(content)
            self._to.flush()
            told, data = _received(self._from)
        except (EOFError, OSError):
            self.close()
            raise InputError(name, _TOO_MUCH) from None
        return json.loads(told), memoryview(data)

    @property
    def alive(self) -> bool:
        """Whether it can be asked again."""
        return not self._to.closed and self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):  # what could not be sent
                pipe.close()
        self._process.wait()

    def kill(self) -> None:
        """End the process under whoever waits for it."""
        self._process.kill()


class _Pool:
    """Worker processes, started when they are needed.

    Args:
        workers: The most of them.
    """

    def __init__(self, workers: int) -> None:
        self._free = FairSemaphore(workers)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._watch: threading.Thread | None = None
        self._lock = threading.Lock()

    @contextmanager
    def worker(self) -> Iterator[_Worker]:
        """A worker for one picture."""
        with self._free:
            try:
                worker = self._idle.pop()
            except IndexError:
                worker = _Worker()
            if not worker.alive:
                worker.close()
                worker = _Worker()
            worker.until = time.monotonic() + PATIENCE_SECONDS
            self._busy.add(worker)
            try:
                self._start_watch()
                yield worker
            except BaseException:
                worker.close()  # its answer may still be on the way
                raise
            finally:
                self._busy.discard(worker)
            self._idle.append(worker)

    def close(self) -> None:
        """End all workers that are idle."""
        while self._idle:
            self._idle.pop().close()

    def _start_watch(self) -> None:
        with self._lock:
            if self._watch is None:
                self._watch = threading.Thread(target=self._kill_late, name="decoders", daemon=True)
                self._watch.start()

    def _kill_late(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            for worker in list(self._busy):
                if worker.until < time.monotonic():
                    worker.kill()


_pool, _large = _Pool(WORKERS), _Pool(1)


def warm() -> None:
    """Start a worker for small pictures and one for large ones, if there is none."""
    for pool in (_pool, _large):
        with pool.worker():
            pass


def close() -> None:
    """End all workers that are idle."""
    _pool.close()
    _large.close()


def _start_anew() -> None:
    """A forked process must not talk to its parent's workers."""
    global _pool, _large
    _pool, _large = _Pool(WORKERS), _Pool(1)


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


# ── the worker process ──────────────────────────────────────────────────────────────────────────────────


def work() -> None:
    """Answer jobs until the other process is gone."""
    if hasattr(os, "nice"):
        os.nice(NICE)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints can pass for an answer
    asked = os.fdopen(os.dup(0), "rb")
    Image.init()
    answers.write(b"R")
    answers.flush()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            job, content = _received(asked)
            told, data = _answer(json.loads(job), content)
            text = json.dumps(told).encode()
            answers.write(_LENGTHS.pack(len(text), sum(map(len, data))) + text)
            answers.writelines(data)
            answers.flush()
            del content, data


def _answer(job: dict[str, Any], content: bytes) -> tuple[dict[str, Any], list[bytes]]:
    name, limits = job["name"], (job["formats"], job["most_pixels"])
    try:
        _limit(LARGE, len(content))
        kind, pixels = format_and_pixels(content, name, *limits)
        decodes = bool(job["boxes"]) or kind == "PNG"  # whose metadata may follow the pixels
        if decodes and pixels > job["here"]:
            return {"large": pixels}, []
        _limit(pixels, len(content))
        if not job["boxes"]:
            return {"kind": kind, "size": upright_size(content, name, *limits), "crops": []}, []
        frame = read_rgb(content, name, *limits)
        told: dict[str, Any] = {"kind": kind, "size": frame.size, "crops": []}
        data = []
        for box in job["boxes"]:
            try:
                part = reduced(frame if box is None else crop(frame, tuple(box), name))
            except InputError as error:
                told["crops"].append({"error": [error.where, error.what]})
                continue
            told["crops"].append({"size": part.size})
            data.append(part.tobytes())
        return told, data
    except InputError as error:
        return {"error": [error.where, error.what]}, []
    except MemoryError:
        return {"error": [name, _TOO_MUCH]}, []
    except Exception:
        return {"bug": traceback.format_exc()}, []


def _limit(pixels: int, size: int) -> None:
    """Limit the memory, and the processor time from now on; the process dies when the time is up.

    Windows knows neither limit. There only `PATIENCE_SECONDS` and the number of pixels limit the work.
    """
    try:
        import resource
    except ImportError:
        return
    signal.setitimer(signal.ITIMER_PROF, BASE_SECONDS + SECONDS_PER_MEGAPIXEL * pixels / 1e6)
    with contextlib.suppress(OSError, ValueError):  # no such file on other systems
        now = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
        most = now + BASE_BYTES + BYTES_PER_PIXEL * pixels + 4 * size
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _received(pipe: IO[bytes]) -> tuple[bytes, bytes]:
    """A message's two parts.

    Raises:
        EOFError: The other side is gone.
    """
    first, second = _LENGTHS.unpack(_exactly(pipe, _LENGTHS.size))
    return _exactly(pipe, first), _exactly(pipe, second)


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
