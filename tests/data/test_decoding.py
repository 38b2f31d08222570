"""Pictures are decoded in worker processes, which die of hostile ones in place of this process."""

import io
import os
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

from kronreid.data import decoding
from kronreid.data.decoding import ENOUGH_PIXELS, decode
from kronreid.data.images import read_rgb
from kronreid.errors import InputError

from .odd import tiff


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Workers of each test's own, none of which survives it."""
    decoding.close()
    yield
    decoding.close()


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8), mode)


def many_scans(scans: int) -> bytes:
    """A progressive JPEG with scans that refine nothing, each of which goes over the whole picture."""
    content = encoded(Image.new("L", (1024, 1024)), "JPEG", progressive=True)
    end = content.rindex(b"\xff\xd9")
    first = content.index(b"\xff\xda")
    scan = content[first : content.index(b"\xff\xda", first + 2)]
    return content[:end] + scan * scans + content[end:]


def workers() -> list[int]:
    """The process ids of the workers that are idle."""
    return [worker._process.pid for worker in decoding._pool._idle]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_it_gives_what_this_process_would(mode: str) -> None:
    content = encoded(noise(50, 700, mode))
    whole = read_rgb(content, "a")
    found = decode(content, "a", [None, (-5, 10, 20, 600), (60, 0, 5, 5)])
    assert (found.kind, found.size) == ("PNG", (50, 700))
    np.testing.assert_array_equal(found.crops[0], whole)
    np.testing.assert_array_equal(found.crops[1], whole.crop((0, 10, 15, 610)))
    assert isinstance(found.crops[2], InputError)
    assert "outside the picture" in str(found.crops[2])
    assert decode(content, "a", []).size == (50, 700)


def test_large_pictures_shrink() -> None:
    (small,) = decode(encoded(Image.new("L", (3000, 4000))), "a").crops
    assert isinstance(small, Image.Image)
    assert small.size == (1500, 2000)
    assert small.width * small.height <= ENOUGH_PIXELS


def test_one_worker_decodes_many_and_its_errors_name_the_picture() -> None:
    decode(encoded(noise(9, 9)), "a")
    before = workers()
    for content in (b"", b"text", encoded(noise(9, 9))[:60]):
        with pytest.raises(InputError, match=r"^who\.jpg: "):
            decode(content, "who.jpg")
    assert decode(encoded(noise(9, 9)), "a").size == (9, 9)
    assert workers() == before


def test_threads_share_the_workers() -> None:
    contents = [encoded(noise(20 + number, 30)) for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        sizes = list(pool.map(lambda content: decode(content, "a").size, contents))
    assert sizes == [(20 + number, 30) for number in range(12)]
    assert len(workers()) <= decoding.WORKERS


def test_large_pictures_do_not_hold_up_others() -> None:
    """However many wait for the worker of large pictures, a small one is decoded at once."""
    large = encoded(Image.new("L", (2001, 2000)))
    decode(large, "a", [])
    with ThreadPoolExecutor(2 * decoding.WORKERS) as pool, ExitStack() as work:
        work.enter_context(decoding._large.worker())
        waiting = [pool.submit(decode, large, "a") for _ in range(2 * decoding.WORKERS)]
        assert decode(encoded(noise(9, 9)), "a").size == (9, 9)
        assert decode(encoded(Image.new("L", (2001, 2000)), "JPEG"), "a", []).size == (2001, 2000)
        assert not any(future.done() for future in waiting)
        work.close()
        assert {future.result().size for future in waiting} == {(2001, 2000)}


def test_large_tiles_and_many_scans_are_refused_before_decoding() -> None:
    tiles = [(322, 4, 1, struct.pack("<L", 32768)), (323, 4, 1, struct.pack("<L", 32768))]
    for read in (decode, read_rgb):
        with pytest.raises(InputError, match="tiles of 32768 × 32768 pixels"):
            read(tiff(tiles), "a.tif")
        with pytest.raises(InputError, match="scans, more than the 100 allowed"):
            read(many_scans(500), "a.jpg")
        read(many_scans(0), "a.jpg")


@pytest.mark.parametrize(
    ("limit", "value"),
    [("BASE_SECONDS", 0.01), ("BASE_BYTES", 1_000_000)],
    ids=["time", "memory"],
)
def test_what_exceeds_a_limit_is_refused_and_the_next_is_decoded(
    limit: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits are lowered in the worker's own code, and the picture is harmless."""
    content = encoded(noise(1900, 1900), "WEBP", lossless=True, method=0)
    other = {"BASE_SECONDS": "SECONDS_PER_MEGAPIXEL", "BASE_BYTES": "BYTES_PER_PIXEL"}[limit]
    start = f"from kronreid.data import decoding; decoding.{limit} = {value}; decoding.{other} = 0; "
    real = decoding.subprocess.Popen

    def lowered(command: list[str], **options: object) -> object:
        command = [*command[:-1], command[-1].replace("from kronreid.data import decoding; ", start)]
        return real(command, **options)  # type: ignore[call-overload]

    with monkeypatch.context() as patched:
        patched.setattr(decoding.subprocess, "Popen", lowered)
        with pytest.raises(InputError, match=r"^who\.webp: "):
            decode(content, "who.webp")
    decoding.close()
    assert decode(content, "who.webp").size == (1900, 1900)


def test_a_worker_that_does_not_answer_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(noise(9, 9))
    decode(content, "a")
    (pid,) = workers()
    os.kill(pid, 19)  # SIGSTOP: it gets no processor time at all
    monkeypatch.setattr(decoding, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(InputError, match="memory or time"):
        decode(content, "a")
    monkeypatch.undo()
    assert decode(content, "a").size == (9, 9)
    assert pid not in workers()


def test_no_worker_survives_its_owner() -> None:
    decode(encoded(noise(9, 9)), "a")
    (worker,) = decoding._pool._idle
    worker._to.close()
    until = time.monotonic() + 60
    while worker._process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
