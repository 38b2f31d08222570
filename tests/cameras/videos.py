"""Small videos whose frames tell their numbers by their brightness."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

#: Brightness of the first frame, and how much brighter each frame is than the one before.
DARKEST, STEP = 16, 6


def write_video(
    path: Any,
    frames: int = 12,
    rate: int = 10,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    times: Sequence[float] | None = None,
    created: str | None = None,
    gop: int = 4,
    format: str | None = None,
    first: int = 0,
) -> Any:
    """Write a video with PyAV.

    Args:
        path: The file, or a file object.
        frames: Number of frames.
        rate: Frames per second.
        size: Width and height.
        codec: FFmpeg's name of the encoder.
        times: The time of each frame in seconds; None spaces them evenly.
        created: The creation time that the container states.
        gop: Frames from one keyframe to the next.
        format: The container's format; None derives it from the name.
        first: The number that the first frame shows.
    """
    with av.open(path if hasattr(path, "write") else str(path), "w", format=format) as container:
        if created:
            container.metadata["creation_time"] = created
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = gop
        stream.bit_rate = 4_000_000
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            level = DARKEST + STEP * (first + number)
            frame = av.VideoFrame.from_ndarray(
                np.full((size[1], size[0], 3), level, np.uint8), format="rgb24"
            )
            frame.pts = round(1000 * (times[number] if times is not None else number / rate))
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def told(image: np.ndarray) -> int:
    """The number that a frame tells."""
    return round((float(image.mean()) - DARKEST) / STEP)


def write_frames(folder: Path, names: Sequence[str]) -> Path:
    """A folder of pictures that tell their places in `names`."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (64, 48), (DARKEST + STEP * number,) * 3).save(folder / name)
    return folder
